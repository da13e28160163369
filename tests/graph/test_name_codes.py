"""%Node.widget% in prefixes, as ComfyUI's frontend fills it in."""

from __future__ import annotations

import pytest
from videoldm.core.graph import InputSpec, NodeSpec, graph_from_api
from videoldm.core.graph.name_codes import fill_in_prefixes

REGISTRY = {
    "KSampler": NodeSpec(id="KSampler", display_name="KSampler (fast)"),
    "Empty": NodeSpec(id="Empty", display_name="Empty Latent Image"),
    "Save": NodeSpec(id="Save", inputs=(InputSpec(name="filename_prefix", type="STRING"),)),
}


def node(class_type, title="", **inputs):
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


API = {
    "1": node("Empty", width=64, height=48.0, latent=["2", 0]),
    "2": node("KSampler", "Second pass", seed=7, cfg=7.5, add=True, name='a/b:c*"d"\n', none=None),
    "3": node("KSampler", seed=8),
    "5:3": node("KSampler", "inner", seed=9),
}


def filled(prefix, workflow=None):
    api = {**API, "9": node("Save", filename_prefix=prefix)}
    graph = graph_from_api(api, workflow=workflow)
    return fill_in_prefixes(graph, REGISTRY).nodes["9"].inputs["filename_prefix"]


@pytest.mark.parametrize("prefix, text", [
    ("a_%KSampler.seed%", "a_7"),  # the first of several nodes
    ("%Second pass.cfg%", "7.5"),
    ("%Second pass.add%_%Second pass.none%_", "true__"),
    ("%Empty Latent Image.width%x%Empty.height%", "64x48"),
    ("%KSampler (fast).seed%", "8"),  # a custom title hides the default one
    ("%KSampler.name%", "a_b_c__d__"),
    ("%inner.seed%", "9"),
])  # fmt: skip
def test_values_of_widgets(prefix, text):
    assert filled(prefix) == text


@pytest.mark.parametrize("prefix", [
    "%No.seed%", "%KSampler.sed%", "%Empty.latent%", "%width%x%height%", "100%", "%.%", "%a.b.c%",
    "%date:yyyy.MM%", "%date:yyyy-MM-dd%", "plain",
])  # fmt: skip
def test_codes_that_mean_nothing_here_stay(prefix):
    assert filled(prefix) == prefix


def test_a_search_name_comes_before_a_title():
    def drawn(id, type, name, **more):
        return {"id": id, "type": type, "properties": {"Node name for S&R": name}, **more}

    workflow = {
        "nodes": [
            drawn(1, "Empty", "Second pass"), drawn(2, "KSampler", "mine"), drawn(3, "KSampler", 3),
            drawn(5, "uuid", ""), {"id": 6, "type": "PrimitiveNode", "title": "steps",
                                   "widgets_values": [30, "fixed"]}, "broken",
        ],
        "definitions": {"subgraphs": [{"id": "uuid", "nodes": [drawn(3, "KSampler", "deep")]}, 7]},
    }  # fmt: skip
    codes = "%Second pass.width% %mine.seed% %deep.seed% %steps.value% %KSampler.seed%"
    assert filled(codes, workflow) == "64 7 9 30 %KSampler.seed%"


@pytest.mark.parametrize("workflow", [{}, {"nodes": 3}, {"nodes": [], "definitions": []},
                                      {"nodes": [{"id": 2, "properties": []}]}])  # fmt: skip
def test_odd_workflows_name_nothing(workflow):
    assert filled("%KSampler.seed% %Second pass.seed%", workflow) == "%KSampler.seed% 7"


def test_other_texts_are_left_alone():
    graph = graph_from_api({**API, "9": node("Save", text="%KSampler.seed%")})
    assert fill_in_prefixes(graph, REGISTRY) is graph
