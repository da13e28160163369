"""Setting single values, and the seed, from the command line."""

from __future__ import annotations

import pytest
from graph_toys import REGISTRY, api, full_api
from videoldm.core.graph import WorkflowError, apply_overrides, apply_seed, graph_from_api, validate


def graph(**titles: str):
    prompt = {**full_api(), **api(n6=("SaveVideo", {"images": ["4", 0], "codec": "gif",
                                                    "codec.colors": 64, "fps": 8.0}))}  # fmt: skip
    for node_id, title in titles.items():
        prompt[node_id.removeprefix("n")]["_meta"] = {"title": title}
    return graph_from_api(prompt)


def after(setting: str, node_id: str, **titles: str) -> dict:
    changed = apply_overrides(graph(**titles), [setting], REGISTRY)
    assert validate(changed, REGISTRY) == []
    return dict(changed.nodes[node_id].inputs)


@pytest.mark.parametrize(("setting", "node_id", "name", "value"), [
    ("3.steps=7", "3", "steps", 7),
    ("Sampler.cfg=2", "3", "cfg", 2.0),
    ("My v1.5 node.cfg=2", "3", "cfg", 2.0),
    ("3.tiled=off", "3", "tiled", False),
    ("3.sampler=ddim", "3", "sampler", "ddim"),
    ("5.prefix=a=b.c", "5", "prefix", "a=b.c"),
    ("5.prefix=", "5", "prefix", ""),
    ("6.codec.colors=3", "6", "codec.colors", 3),
])  # fmt: skip
def test_values_are_read_by_the_type_of_the_input(setting, node_id, name, value) -> None:
    got = after(setting, node_id, n3="My v1.5 node")[name]
    assert got == value and type(got) is type(value)


def test_the_graph_given_is_not_changed() -> None:
    before = graph()
    apply_overrides(before, ["3.steps=7"], REGISTRY)
    assert before.nodes["3"].inputs["steps"] == 4


def test_a_value_replaces_a_wire_and_json_fills_inputs_of_other_types() -> None:
    prompt = api(n1=("Int", {"value": 3}), n2=("Points", {"points": ["1", 0]}))
    got = apply_overrides(graph_from_api(prompt), ["2.points=[[1, 2]]"], REGISTRY)
    assert got.nodes["2"].inputs["points"] == [[1, 2]]


def test_another_option_of_a_dynamic_combo_brings_its_inputs() -> None:
    got = after("6.codec=h264", "6")
    assert {k: v for k, v in got.items() if k.startswith("codec")} == {
        "codec": "h264", "codec.crf": 20, "codec.encoding": "fast",
    }  # fmt: skip


def test_an_id_goes_before_a_title_and_a_title_before_a_class() -> None:
    assert after("3.steps=9", "3", n5="3")["steps"] == 9
    assert after("Sampler.prefix=z", "5", n5="Sampler")["prefix"] == "z"


@pytest.mark.parametrize(("setting", "message"), [
    ("steps=3", '"steps=3" is not a setting, expected NODE.INPUT=VALUE'),
    ("3.steps", '"3.steps" is not a setting, expected NODE.INPUT=VALUE'),
    ("Smapler.steps=3", '"Smapler.steps=3": there is no node "Smapler" among the 6 nodes '
                        '(did you mean "Sampler"?)'),
    ("3.stepz=3", '"3.stepz=3": node 3 (Sampler) has no input "stepz", expected one of seed, '
                  'steps, cfg, sampler, tiled (did you mean "steps"?)'),
    ("3.model=x", '"3.model=x": input "model" of node 3 (Sampler) takes a wire of type MODEL, '
                  "not a value"),
    ("3.steps=x", '"3.steps=x": input "steps" of node 3 (Sampler) expected a whole number, '
                  'given "x"'),
    ("3.steps=1000", '"3.steps=1000": input "steps" of node 3 (Sampler) expected 1 to 100, '
                     "given 1000"),
    ("3.sampler=hun", '"3.sampler=hun": input "sampler" of node 3 (Sampler) expected one of '
                      'euler, heun, ddim, given "hun" (did you mean "heun"?)'),
    ("out.prefix=x", '"out.prefix=x": "out" means 2 nodes, expected one of the ids 5, 6'),
])  # fmt: skip
def test_each_sentence_contains_the_setting_and_what_was_expected(setting, message) -> None:
    with pytest.raises(WorkflowError) as caught:
        apply_overrides(graph(n5="out", n6="out"), [setting], REGISTRY)
    assert str(caught.value) == message


@pytest.mark.parametrize("registry", [None, REGISTRY])
def test_the_seed_reaches_every_seed(registry) -> None:
    got = apply_seed(graph(), 99, registry)
    assert got.nodes["3"].inputs["seed"] == 99
    assert {k: v for k, v in got.nodes.items() if k != "3"} == {
        k: v for k, v in graph().nodes.items() if k != "3"
    }


def test_a_seed_that_nothing_takes_or_that_is_out_of_range_is_refused() -> None:
    with pytest.raises(WorkflowError, match="seed 5 cannot be set because none of the 1 nodes"):
        apply_seed(graph_from_api(api(n1=("Int", {"value": 1}))), 5, REGISTRY)
    with pytest.raises(WorkflowError, match='"seed" expected 0 to 4294967295, given -1'):
        apply_seed(graph(), -1, REGISTRY)
