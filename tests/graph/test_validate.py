"""Each sentence that says what is wrong with a workflow before it runs."""

from __future__ import annotations

import pytest
from graph_toys import REGISTRY, api, full_api, node, socket, ui, widget
from hypothesis import given
from hypothesis import strategies as st
from videoldm.core.graph import (
    InputSpec,
    NodeSpec,
    graph_from_api,
    parse_workflow,
    ui_to_api,
    validate,
)
from videoldm.core.graph.messages import shown
from videoldm.core.graph.schema import did_you_mean, types_match
from videoldm.core.graph.values import check, parse


def problems(prompt: dict, **more) -> list:
    return validate(graph_from_api(prompt, **more), REGISTRY)


def only(prompt: dict, *specs: NodeSpec) -> tuple[str, str]:
    """Return code and message of the one problem a prompt has."""
    found = validate(graph_from_api(prompt), {**REGISTRY, **{s.id: s for s in specs}})
    assert len(found) == 1, found
    assert "\n" not in found[0].message and not found[0].message.endswith(".")
    return found[0].code, found[0].message


def broken(node_id: str, **changes) -> dict:
    """Return the full prompt with inputs of one node changed (None removes one)."""
    prompt = full_api()
    inputs = {**prompt[node_id]["inputs"], **changes}
    prompt[node_id]["inputs"] = {k: v for k, v in inputs.items() if v is not None}
    return prompt


def test_a_good_workflow_has_no_problem() -> None:
    assert problems(full_api()) == []


def test_an_edit_of_a_video_is_a_value_or_comes_by_a_wire() -> None:
    cut = NodeSpec(id="Cut", inputs=(socket("edit", "VIDEO_EDIT"),), is_output_node=True)
    edits = [{"trim": {"start_time": 0, "duration": 2}}, "2 s"]
    registry = {**REGISTRY, "Cut": cut}
    found = [validate(graph_from_api(api(n1=("Cut", {"edit": one}))), registry) for one in edits]
    assert found[0] == [] and "expected a wire of type VIDEO_EDIT" in found[1][0].message


def test_unknown_types_are_named_wherever_they_are() -> None:
    prompt = {**full_api(), "9": {"class_type": "Samplr", "inputs": {},
                                  "_meta": {"title": "My Sampler"}}}  # fmt: skip
    assert only(prompt) == (
        "unknown_node",
        'node 9 "My Sampler" (Samplr) is of an unknown type (did you mean "Sampler"?)',
    )


def test_legacy_group_nodes_are_explained() -> None:
    prompt = {**full_api(), **api(n9=("workflow>Group", {}))}
    assert "legacy group node" in only(prompt)[1]


@pytest.mark.parametrize(("prompt", "expected"), [
    (broken("3", seed=None),
     ("missing_input", 'node 3 (Sampler): input "seed" is missing, expected a value of type INT')),
    (broken("3", model=None),
     ("missing_input",
      'node 3 (Sampler): input "model" is missing, expected a wire of type MODEL')),
    (broken("3", stepz=3),
     ("unknown_input", 'node 3 (Sampler): input "stepz" does not exist, expected one of model, '
                       'seed, steps, cfg, sampler, latent, mask, tiled (did you mean "steps"?)')),
    (broken("3", model=["1", 1]),
     ("wrong_type", 'node 3 (Sampler): input "model" expected MODEL, given CLIP by output "CLIP" '
                    "of node 1 (Loader)")),
    (broken("3", model=["77", 0]),
     ("missing_node",
      'node 3 (Sampler): input "model" is wired to node 77, which does not exist')),
    (broken("3", model=["1", 2]),
     ("missing_output", 'node 3 (Sampler): input "model" is wired to output 2 of node 1 (Loader), '
                        "which has 2 outputs (counted from 0)")),
    (broken("3", model="a"),
     ("bad_value",
      'node 3 (Sampler): input "model" expected a wire of type MODEL, given the value "a"')),
    (broken("3", steps=0), ("bad_value", 'node 3 (Sampler): input "steps" expected 1 to 100, '
                                         "given 0")),
    (broken("3", steps="many"), ("bad_value", 'node 3 (Sampler): input "steps" expected a whole '
                                              'number, given "many"')),
    (broken("3", steps=2.5), ("bad_value", 'node 3 (Sampler): input "steps" expected a whole '
                                           "number, given 2.5")),
    (broken("3", steps=True), ("bad_value", 'node 3 (Sampler): input "steps" expected a whole '
                                            "number, given true")),
    (broken("3", cfg=float("nan")), ("bad_value", 'node 3 (Sampler): input "cfg" expected a '
                                                  "finite number, given NaN")),
    (broken("3", cfg=30.5), ("bad_value", 'node 3 (Sampler): input "cfg" expected 0 to 30, '
                                          "given 30.5")),
    (broken("3", tiled="maybe"), ("bad_value", 'node 3 (Sampler): input "tiled" expected true or '
                                               'false, given "maybe"')),
    (broken("5", prefix=[1, 2, 3]), ("bad_value", 'node 5 (Save): input "prefix" expected a text, '
                                                  "given [1, 2, 3]")),
    (broken("3", sampler="eular"),
     ("bad_value", 'node 3 (Sampler): input "sampler" expected one of euler, heun, ddim, given '
                   '"eular" (did you mean "euler"?)')),
])  # fmt: skip
def test_each_sentence_names_the_node_the_input_and_what_was_expected(prompt, expected) -> None:
    assert only(prompt) == expected


def test_every_node_on_a_cycle_is_named_in_the_direction_of_the_data() -> None:
    prompt = api(n1=("Number", {"value": ["2", 0]}), n2=("Number", {"value": ["3", 0]}),
                 n3=("Number", {"value": ["1", 0]}), n4=("Any", {"value": ["1", 0]}))  # fmt: skip
    code, message = only(prompt)
    assert code == "cycle"
    assert message == ("the wires form a cycle: node 3 (Number) -> node 2 (Number) -> "
                       "node 1 (Number) -> node 3 (Number)")  # fmt: skip
    assert only(api(n1=("Number", {"value": ["1", 0]}), n2=("Any", {"value": ["1", 0]})))[1] == (
        "the wires form a cycle: node 1 (Number) -> node 1 (Number)"
    )


def test_a_diamond_is_no_cycle() -> None:
    prompt = api(n1=("LoadImage", {"image": "a.png", "scale": 1}),
                 n2=("Blend", {"first": ["1", 0], "second": ["1", 0]}),
                 n3=("Blend", {"first": ["2", 0], "second": ["1", 0]}),
                 n4=("Save", {"images": ["3", 0], "prefix": ""}))  # fmt: skip
    assert problems(prompt) == []


def test_a_workflow_without_output_node_says_which_there_are() -> None:
    assert only(api(n1=("Int", {"value": 1}))) == (
        "no_output",
        "none of the workflow's 1 nodes is an output node, expected one that saves or shows "
        "something, such as Save, SaveVideo, Any, Points",
    )


def test_nodes_left_out_as_frontend_only_are_mentioned_when_no_output_is_left() -> None:
    workflow = ui([node(1, "Int", values=[3]), node(2, "Svae")], [])
    found = validate(parse_workflow(workflow, REGISTRY), REGISTRY)
    assert found[0].message.endswith("(left out as frontend-only: node 2 (Svae))")


def test_nodes_that_no_output_needs_may_be_incomplete() -> None:
    assert problems({**full_api(), **api(n9=("Sampler", {}))}) == []


def test_leftovers_of_old_frontends_are_accepted() -> None:
    assert problems(broken("5", upload="image")) == []


def test_a_missing_file_list_says_that_it_is_empty() -> None:
    empty = NodeSpec(id="Pick", is_output_node=True,
                     inputs=(widget("file", "COMBO", options=lambda: []),))  # fmt: skip
    assert only(api(n1=("Pick", {"file": "a.mp4"})), empty)[1] == (
        'node 1 (Pick): input "file" expected nothing (the list is empty), given "a.mp4"'
    )


def test_long_lists_are_cut() -> None:
    long = NodeSpec(id="Pick", is_output_node=True,
                    inputs=(widget("n", "COMBO", options=tuple(range(100))),))  # fmt: skip
    assert "10, 11 and 88 more, given 200" in only(api(n1=("Pick", {"n": 200})), long)[1]


def test_an_unknown_option_of_a_dynamic_combo_is_a_problem() -> None:
    prompt = {**full_api(), **api(n6=("SaveVideo", {"images": ["4", 0], "codec": "h266",
                                                    "fps": 8}))}  # fmt: skip
    assert only(prompt)[1] == ('node 6 (SaveVideo): input "codec" expected one of h264, gif, '
                               'given "h266" (did you mean "h264"?)')  # fmt: skip


def test_inputs_of_the_chosen_option_are_required_and_checked() -> None:
    video = {"images": ["4", 0], "codec": "h264", "codec.crf": 99, "fps": 8}
    found = problems({**full_api(), **api(n6=("SaveVideo", video))})
    assert [p.message.partition(": ")[2] for p in found] == [
        'input "codec.encoding" is missing, expected a value of type COMFY_DYNAMICCOMBO_V3',
        'input "codec.crf" expected 0 to 51, given 99',
    ]


def test_autogrow_inputs_require_their_minimum() -> None:
    image = {"4": full_api()["4"]}
    found = problems({**full_api(), **image, **api(n6=("Many", {"images.image0": ["4", 0]}))})
    assert [p.input for p in found] == ["images.image1"]


def test_a_node_s_own_check_speaks_and_replaces_the_range_of_what_it_checks() -> None:
    def own(steps, model=None):
        return True if steps < 1000 else f"steps {steps} would take all day, expected under 1000"

    spec = NodeSpec(**{**REGISTRY["Sampler"].__dict__, "validate_inputs": own})
    assert validate(graph_from_api(broken("3", steps=500)), {**REGISTRY, "Sampler": spec}) == []
    assert only(broken("3", steps=5000), spec) == (
        "rejected", "node 3 (Sampler): steps 5000 would take all day, expected under 1000",
    )  # fmt: skip

    def fails(**inputs):
        raise FileNotFoundError("clip.mp4 is in none of 2 folders")

    spec = NodeSpec(**{**REGISTRY["Sampler"].__dict__, "validate_inputs": fails})
    assert only(full_api(), spec)[1] == "node 3 (Sampler): clip.mp4 is in none of 2 folders"
    assert only(broken("3", steps=0), spec)[0] == "bad_value"


def test_a_node_that_asks_for_the_wire_types_checks_them_itself() -> None:
    seen = {}

    def own(input_types):
        seen.update(input_types)
        return True

    spec = NodeSpec(**{**REGISTRY["Sampler"].__dict__, "validate_inputs": own})
    prompt = broken("3", model=["1", 1])
    assert validate(graph_from_api(prompt), {**REGISTRY, "Sampler": spec}) == []
    assert seen == {"model": "CLIP", "latent": "LATENT"}


@pytest.mark.parametrize(("given_type", "accepted", "match"), [
    ("IMAGE", "IMAGE", True), ("IMAGE", "MASK", False), ("IMAGE", "*", True),
    ("*", "IMAGE", True), ("INT", "INT,FLOAT", True), ("INT,STRING", "FLOAT, INT", True),
    ("STRING", "INT,FLOAT", False), ("COMBO", "COMBO", True), ("COMBO", "STRING", False),
    ("COMFY_MATCHTYPE_V3", "IMAGE", True), ("A,*", "B", True),
])  # fmt: skip
def test_which_types_go_together(given_type, accepted, match) -> None:
    assert types_match(given_type, accepted) is match


def test_a_combo_output_may_go_into_a_combo() -> None:
    spec = InputSpec(name="x", type="COMBO", kind="widget", options=("a",))
    assert types_match("COMBO", spec.type)


@given(st.integers(-(2**70), 2**70), st.integers(-1000, 1000), st.integers(0, 1000))
def test_a_number_passes_exactly_when_it_is_in_range(value, low, width) -> None:
    spec = InputSpec(name="n", type="INT", kind="widget", minimum=low, maximum=low + width)
    if low <= value <= low + width:
        assert check(value, spec) == check(str(value), spec) == parse(str(value), spec) == value
    else:
        with pytest.raises(ValueError, match=f"expected {low} to {low + width}, given {value}"):
            check(value, spec)


@given(st.text(), st.lists(st.text(), max_size=5))
def test_did_you_mean_names_a_known_name_or_nothing(name, known) -> None:
    hint = did_you_mean(name, known)
    assert hint == "" or any(f'"{shown(one)}"' in hint for one in known)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["nodes", "links", "id", "type", "inputs",
                                                       "class_type", "1"]), inner, max_size=4),
                    max_leaves=20))  # fmt: skip
def test_no_json_makes_validation_crash(data) -> None:
    """Anything but a workflow is refused with a ValueError, never another exception."""
    prompt = {"5": {"class_type": "Save", "inputs": {"images": data, "prefix": data}}}
    workflow = ui([node(5, "Save", values=data)], [data])
    for read in (
        lambda: problems(prompt),
        lambda: problems(ui_to_api(workflow, REGISTRY)),
        lambda: parse_workflow(data, REGISTRY),
    ):
        try:
            read()
        except ValueError as error:
            assert str(error)


JUNK = st.none() | st.booleans() | st.integers(-20, 20) | st.sampled_from(["1", "Reroute", "x"])
JUNK = JUNK | st.lists(JUNK, max_size=3) | st.dictionaries(st.just("name"), JUNK, max_size=1)
FIELDS = ["mode", "inputs", "outputs", "properties", "widgets_values", "widgets_values_named",
          "title"]  # fmt: skip
TYPES = ["Sampler", "SaveVideo", "Reroute", "PrimitiveNode", "GetNode", "SetNode", "Many", "sub"]


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JUNK), max_size=4),
       st.lists(st.sampled_from(TYPES), min_size=4, max_size=4), JUNK,
       st.lists(st.tuples(*[st.integers(-10, 4)] * 5).map(list), max_size=6))  # fmt: skip
def test_no_damaged_ui_workflow_crashes_the_conversion(fields, types, junk, links) -> None:
    nodes = [{**extra, "id": i, "type": t} for i, (extra, t) in enumerate(zip(fields, types))]  # noqa: B905
    inner = {"id": "sub", "nodes": [node(1, "Decode")], "links": links, "inputs": junk}
    workflow = {"nodes": nodes, "links": links, "definitions": {"subgraphs": [inner, junk]}}
    try:
        prompt = ui_to_api(workflow, REGISTRY)
    except ValueError:
        return
    assert isinstance(problems(prompt), list)


def test_sockets_of_plain_types_take_plain_values() -> None:
    spec = NodeSpec(id="Len", is_output_node=True, inputs=(socket("text", "STRING"),))
    assert validate(graph_from_api(api(n1=("Len", {"text": "x"}))), {"Len": spec}) == []
