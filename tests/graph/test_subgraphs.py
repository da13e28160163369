"""What subgraph instances save in frontends of several years: values, wires, left-overs."""

from __future__ import annotations

import time

import pytest
from graph_toys import REGISTRY, node, ui
from videoldm.core.graph import WorkflowError, ui_to_api

INNER, OUTER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"

DECLARED = (
    ("clip", "CLIP", 101), ("text", "STRING", 102), ("width", "INT", 105),
    ("model", "MODEL", 108), ("seed", "INT", 109), ("steps", "INT", 110),
)  # fmt: skip
VALUES = ["a blue square", 64, 42, 3]
WIRES = [("clip", "CLIP", 2), ("model", "MODEL", 1)]
ALL = [
    ("clip", "CLIP", 2), ("text", "STRING", None, True), ("width", "INT", None, True),
    ("model", "MODEL", 1), ("seed", "INT", None, True), ("steps", "INT", None, True),
]  # fmt: skip
PAIRS = [["2", "text"], ["4", "width"], ["5", "seed"], ["5", "steps"]]


def link(number: int, origin: int, slot: int, target: int, at: int, kind: str = "*") -> dict:
    return {"id": number, "origin_id": origin, "origin_slot": slot, "target_id": target,
            "target_slot": at, "type": kind}  # fmt: skip


def definition(**more) -> dict:
    """A subgraph of Text, Empty and Sampler, whose inputs mix wires and widgets."""
    return {
        "id": INNER, "name": "Sample", "inputNode": {"id": -10}, "outputNode": {"id": -20},
        "inputs": [{"name": name, "type": kind, "linkIds": [number]}
                   for name, kind, number in DECLARED],
        "outputs": [{"name": "latent", "type": "LATENT", "linkIds": [111]}],
        "nodes": [
            node(2, "Text", values=["inner"],
                 inputs=[("clip", "CLIP", 101), ("text", "STRING", 102, True)]),
            node(4, "Empty", values=[32], inputs=[("width", "INT", 105, True)]),
            node(5, "Sampler", values=[1, "fixed", 9, 7.5, "euler", False],
                 inputs=[("model", "MODEL", 108), ("latent", "LATENT", 107),
                         ("seed", "INT", 109, True), ("steps", "INT", 110, True)]),
        ],
        "links": [link(101, -10, 0, 2, 0), link(102, -10, 1, 2, 1), link(105, -10, 2, 4, 0),
                  link(107, 4, 0, 5, 1), link(108, -10, 3, 5, 0), link(109, -10, 4, 5, 2),
                  link(110, -10, 5, 5, 3), link(111, 5, 0, -20, 0)],
        **more,
    }  # fmt: skip


def workflow(inner: dict | None = None, kind: str = INNER, outer: dict | None = None, **instance):
    instance.setdefault("inputs", WIRES)
    outputs = [{"name": "latent", "type": "LATENT", "links": [7]}]
    return ui(
        [node(1, "Loader", values=["a.safetensors"]), node(9, kind, outputs=outputs, **instance),
         node(6, "Decode", inputs=[("latent", "LATENT", 7)])],
        [[1, 1, 0, 9, 0, "MODEL"], [2, 1, 1, 9, 1, "CLIP"], [7, 9, 0, 6, 0, "LATENT"]],
        definitions={"subgraphs": [inner or definition(), *([outer] if outer else [])]},
    )  # fmt: skip


def reaching(data: dict, path: str = "9") -> list:
    """Return the values that reach text, width, seed and steps, after checking every wire."""
    api = ui_to_api(data, REGISTRY)
    text, empty, sampler = (api[f"{path}:{n}"]["inputs"] for n in (2, 4, 5))
    assert text["clip"] == ["1", 1] and sampler["model"] == ["1", 0]
    assert sampler["latent"] == [f"{path}:4", 0] and api["6"]["inputs"]["latent"] == [
        f"{path}:5",
        0,
    ]
    return [text["text"], empty["width"], sampler["seed"], sampler["steps"]]


@pytest.mark.parametrize("inputs", [
    ALL, WIRES, [*reversed(WIRES)], [*WIRES, ("steps", "INT", None, True)],
    [("seed", "INT", None, True), *WIRES],
])  # fmt: skip
@pytest.mark.parametrize("properties", [
    {}, {"previewExposures": []}, {"proxyWidgets": []}, {"proxyWidgets": PAIRS},
])  # fmt: skip
def test_values_follow_the_definition_and_wires_their_names(inputs, properties) -> None:
    saved = workflow(inputs=inputs, values=VALUES, properties=properties)
    assert reaching(saved) == VALUES


@pytest.mark.parametrize("values", [[], None, {}])
@pytest.mark.parametrize("properties", [{}, {"proxyWidgets": PAIRS}, {"proxyWidgets": "broken"}])
def test_an_instance_that_saves_nothing_leaves_the_inner_values(values, properties) -> None:
    saved = workflow(values=values, properties=properties)
    assert reaching(saved) == ["inner", 32, 1, 9]


@pytest.mark.parametrize(("pairs", "values"), [
    ([PAIRS[3], PAIRS[0], PAIRS[1], PAIRS[2]], [3, "a blue square", 64, 42]),
    ([PAIRS[0], ["-1", "width"], PAIRS[2], ["-1", "steps"]], VALUES),
    ([["-1", "width"], PAIRS[0], PAIRS[2], ["-1", "steps"]], [64, "a blue square", 42, 3]),
    ([PAIRS[0], PAIRS[1], PAIRS[2], PAIRS[3], ["5", "cfg"]], VALUES),  # The last ones saved none.
    ([PAIRS[0], PAIRS[1], PAIRS[2], PAIRS[3], ["5", "cfg"]], [*VALUES, None]),
])  # fmt: skip
def test_values_in_the_order_of_the_proxies(pairs, values) -> None:
    saved = workflow(inputs=ALL, values=values, properties={"proxyWidgets": pairs})
    assert reaching(saved) == VALUES


@pytest.mark.parametrize("names", [
    {"text": "a blue square", "width": 64, "seed": 42, "steps": 3},
    {"steps": 3, "seed": 42, "width": 64, "text": "a blue square", "gone": 1},
])  # fmt: skip
@pytest.mark.parametrize("properties", [{}, {"proxyWidgets": PAIRS}])
def test_values_by_name_win(names, properties) -> None:
    for values in ([], ["x", 8, 1, 1]):
        saved = workflow(values=values, widgets_values_named=names, properties=properties)
        assert reaching(saved) == VALUES


def test_promoted_widgets_of_inner_nodes_by_name_and_place() -> None:
    pairs = {"proxyWidgets": [["5", "cfg"], ["4", "width"]]}
    for more in ({"values": [2.5, 64]}, {"widgets_values_named": {"cfg": 2.5, "width": 64}}):
        api = ui_to_api(workflow(properties=pairs, **more), REGISTRY)
        assert (api["9:5"]["inputs"]["cfg"], api["9:4"]["inputs"]["width"]) == (2.5, 64)


def test_a_promoted_choice_opens_the_inputs_behind_it() -> None:
    inner = {"id": INNER, "nodes": [node(3, "SaveVideo", values=["h264", 9, "fast", 12.0])],
             "inputs": [], "outputs": [], "links": []}  # fmt: skip
    data = ui([node(9, INNER, values=["gif", 32],
                    properties={"proxyWidgets": [["3", "codec"], ["3", "codec.colors"]]})],
              [], definitions={"subgraphs": [inner]})  # fmt: skip
    inputs = ui_to_api(data, REGISTRY)["9:3"]["inputs"]
    assert inputs == {"codec": "gif", "codec.colors": 32, "fps": 12.0}


def test_a_wire_into_a_widget_of_a_shortened_instance() -> None:
    data = workflow(inputs=[*WIRES, ("steps", "INT", 3, True)], values=VALUES)
    data["nodes"].append(node(8, "Int", values=[5]))
    data["links"].append([3, 8, 0, 9, 2, "INT"])
    assert reaching(data) == [*VALUES[:3], ["8", 0]]


def test_the_link_lists_of_the_definition_win_over_saved_places() -> None:
    inner = definition()
    for one in inner["links"]:
        if one["origin_id"] == -10:
            one["origin_slot"] = 0
    assert reaching(workflow(inner, values=VALUES)) == VALUES


def test_outputs_of_a_shortened_instance_are_matched_by_name() -> None:
    inner = definition()
    inner["outputs"].insert(0, {"name": "empty", "type": "LATENT", "linkIds": [112]})
    inner["links"] = [*inner["links"], link(112, 4, 0, -20, 0)]
    inner["links"][-2]["target_slot"] = 1
    assert reaching(workflow(inner, values=VALUES)) == VALUES


@pytest.mark.parametrize("listed", [True, False, None])
def test_left_over_links_into_an_output_lose_against_the_real_one(listed) -> None:
    """linkIds names the real one; without it, the node at the link's origin does."""
    inner = definition()
    inner["links"] = [link(90, 77, 0, -20, 0), link(91, 4, 0, -20, 0), *inner["links"]]
    if not listed:
        inner["links"].append(link(120, 4, 0, -20, 0))
        inner["nodes"][2]["outputs"][0]["links"] = [111]
        inner["outputs"][0]["linkIds"] = []
    if listed is None:
        del inner["outputs"][0]["linkIds"]
    assert reaching(workflow(inner, values=VALUES)) == VALUES


def around(inputs: list, **instance) -> dict:
    """A subgraph with an instance (node 3) of the inner one; the same inputs lead inside."""
    return {
        "id": OUTER, "name": "Outer",
        "inputs": [{"name": n, "type": kind, "linkIds": [number]} for n, kind, number in DECLARED],
        "outputs": [{"name": "latent", "type": "LATENT", "linkIds": [200]}],
        "nodes": [node(3, INNER, inputs=inputs,
                       outputs=[{"name": "latent", "type": "LATENT", "links": [200]}], **instance)],
        "links": [*(link(number, -10, i, 3, i) for i, (_, _, number) in enumerate(DECLARED)),
                  link(200, 3, 0, -20, 0)],
    }  # fmt: skip


def test_nested_instances_that_are_shortened_inside_and_outside() -> None:
    whole = [(name, kind, number, *([True] if kind in ("INT", "STRING") else []))
             for name, kind, number in DECLARED]  # fmt: skip
    data = workflow(kind=OUTER, outer=around(whole), values=VALUES)
    assert reaching(data, "9:3") == VALUES
    # Only the wires lead inside; the values stand on the inner instance.
    few = around([whole[3], whole[0]], values=VALUES)
    assert reaching(workflow(kind=OUTER, outer=few), "9:3") == VALUES


@pytest.mark.parametrize("entry", [["3", "cfg"], ["3", "cfg", "5"], ["3", "5: cfg"]])
def test_a_widget_two_levels_down_is_promoted(entry) -> None:
    inside = around([DECLARED[0], DECLARED[3]], properties={"proxyWidgets": [["5", "cfg"]]})
    data = workflow(kind=OUTER, outer=inside, values=[1.5], properties={"proxyWidgets": [entry]})
    assert ui_to_api(data, REGISTRY)["9:3:5"]["inputs"]["cfg"] == 1.5


def twice() -> dict:
    """A subgraph with two texts, whose inputs are therefore called text and text_1."""
    return {
        "id": INNER,
        "inputs": [{"name": "text", "type": "STRING", "linkIds": [1]},
                   {"name": "text_1", "type": "STRING", "linkIds": [2]}],
        "nodes": [node(n, "Text", values=[f"inner {n}"], inputs=[("text", "STRING", n, True)])
                  for n in (1, 2)],
        "outputs": [], "links": [link(1, -10, 0, 1, 0), link(2, -10, 1, 2, 0)],
    }  # fmt: skip


@pytest.mark.parametrize(("pairs", "texts"), [
    ([["3", "text"], ["3", "text_1"]], ["a", "b"]),
    ([["3", "text_1"], ["3", "text"]], ["b", "a"]),
    ([["3", "text", "1"], ["3", "text", "2"]], ["a", "b"]),
    ([["3", "text", "2"], ["3", "text", "1"]], ["b", "a"]),
    ([["3", "1: text"], ["3", "2: text"]], ["a", "b"]),
    ([["3", "text", "2"]], ["own 1", "a"]),
])  # fmt: skip
def test_widgets_of_one_name_inside_a_nested_instance(pairs, texts) -> None:
    """Values of the outer instance win over those that the nested instance saves itself."""
    outer = {"id": OUTER, "inputs": [], "outputs": [], "links": [],
             "nodes": [node(3, INNER, values=["own 1", "own 2"])]}  # fmt: skip
    data = ui([node(9, OUTER, values=["a", "b"], properties={"proxyWidgets": pairs})], [],
              definitions={"subgraphs": [outer, twice()]})  # fmt: skip
    api = ui_to_api(data, REGISTRY)
    assert [api[f"9:3:{n}"]["inputs"]["text"] for n in (1, 2)] == texts


def chain(count: int, width: int) -> dict:
    """Definitions s0, s1, ... that each hold `width` instances of the next."""
    held = [
        {"id": f"s{i}", "name": f"s{i}", "links": [], "inputs": [], "outputs": [],
         "nodes": [{"id": k, "type": f"s{i + 1}"} for k in range(width)]}
        for i in range(count)
    ]  # fmt: skip
    return ui([{"id": 1, "type": "s0"}], [], definitions={"subgraphs": held})


@pytest.mark.parametrize(("count", "width", "message"), [
    (20, 2, "more than 10,000 nodes"), (3, 400, "more than 10,000 nodes"),
    (3000, 1, "nested more than 50 levels deep"),
])  # fmt: skip
def test_subgraphs_that_multiply_are_refused_at_once(count, width, message) -> None:
    begun = time.process_time()
    with pytest.raises(WorkflowError, match=message):
        ui_to_api(chain(count, width), REGISTRY)
    assert time.process_time() - begun < 2


def test_a_long_chain_of_wired_widgets_is_refused_and_no_recursion_error() -> None:
    held = [
        {"id": f"s{i}", "links": [link(1, -10, 0, 1, 0)], "outputs": [],
         "inputs": [{"name": "steps", "type": "INT", "linkIds": [1]}],
         "nodes": [{"id": 1, "type": f"s{i + 1}", "inputs": [{"name": "steps", "link": 1}]}]}
        for i in range(3000)
    ]  # fmt: skip
    data = ui([{"id": 1, "type": "s0"}], [], definitions={"subgraphs": held})
    with pytest.raises(WorkflowError, match="nested more than 50 levels deep"):
        ui_to_api(data, REGISTRY)


def many(count: int, *, slots: int, pairs: int = 0) -> dict:
    """Instances of a subgraph whose node has many inputs, promoting as many of its widgets."""
    inputs = [{"name": f"i{k}", "type": "INT"} for k in range(slots)]
    inner = {"id": INNER, "nodes": [{"id": 1, "type": "Empty", "inputs": inputs}], "links": []}
    promoted = {"proxyWidgets": [["1", f"i{k}"] for k in range(pairs)]}
    nodes = [{"id": k, "type": INNER, "properties": promoted, "widgets_values": [1] * pairs}
             for k in range(count)]  # fmt: skip
    return ui(nodes, [], definitions={"subgraphs": [inner]})


@pytest.mark.parametrize(("workflow", "message"), [
    (many(1, slots=1001), r"node 1 \(Empty\) has 1,001 inputs, at most 1,000"),
    (many(1, slots=1, pairs=1001), "has 1,001 promoted widgets, at most 1,000"),
    (many(400, slots=1000), "more than 300,000 inputs and values"),
])  # fmt: skip
def test_subgraphs_of_very_many_inputs_are_refused_at_once(workflow, message) -> None:
    begun = time.process_time()
    with pytest.raises(WorkflowError, match=message):
        ui_to_api(workflow, REGISTRY)
    assert time.process_time() - begun < 2
