"""Each rule of the conversion from the UI form to the API form."""

from __future__ import annotations

import random
import time

import pytest
from graph_toys import REGISTRY, SAMPLER, node, sampler, ui
from videoldm.core.graph import (
    InputSpec,
    NodeResult,
    NodeSpec,
    WorkflowError,
    parse_workflow,
    ui_to_api,
    validate,
)
from videoldm.core.graph.ui_format import bypass_input, convert
from videoldm.core.graph.widgets import align, read_widgets


def inputs_of(workflow: dict, node_id: str = "3") -> dict:
    return ui_to_api(workflow, REGISTRY)[node_id]["inputs"]


def chain(*extra: dict, links: tuple = (), third: dict | None = None, **more) -> dict:
    """Return Loader -> Sampler <- Empty -> ... as a UI workflow."""
    nodes = [node(1, "Loader", values=["a.safetensors"]), node(2, "Empty", values=[64])]
    wires = [[1, 1, 0, 3, 0, "MODEL"], [2, 2, 0, 3, 1, "LATENT"], *links]
    return ui([*nodes, third or sampler(), *extra], wires, **more)


def test_widgets_and_wires_become_inputs_and_titles_go_along() -> None:
    api = ui_to_api(chain(third=sampler(title="Mine")), REGISTRY)
    assert api["3"] == {
        "class_type": "Sampler",
        "inputs": {"seed": 5, "steps": 20, "cfg": 7.5, "sampler": "heun", "tiled": True,
                   "model": ["1", 0], "latent": ["2", 0]},
        "_meta": {"title": "Mine"},
    }  # fmt: skip
    assert api["1"]["_meta"] == {"title": "Load Model"}


def test_links_may_be_objects_and_ids_texts() -> None:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    workflow = chain()
    workflow["links"] = [dict(zip(keys, link, strict=True)) for link in workflow["links"]]
    workflow.update(version=1, reroutes=[{"id": 1, "linkIds": [1], "pos": [0, 0]}], state={})
    workflow["links"][0]["parentId"] = 1  # A native reroute is only a bend in the drawn line.
    assert ui_to_api(workflow, REGISTRY) == ui_to_api(chain(), REGISTRY)


def test_wires_go_to_the_input_of_their_name_not_to_the_saved_slot_number() -> None:
    workflow = chain()
    workflow["links"][0][4], workflow["links"][1][4] = 7, 0
    assert inputs_of(workflow) == inputs_of(chain())


def test_a_slot_without_a_link_entry_is_looked_up_by_number() -> None:
    workflow = chain()
    for slot in workflow["nodes"][2]["inputs"]:
        del slot["link"]
    assert inputs_of(workflow) == inputs_of(chain())


@pytest.mark.parametrize(("saved", "expected"), [
    ([5, "randomize", 20, 7.5, "heun", True], (5, 20, 7.5, "heun", True)),
    ([5, 20, 7.5, "heun", True], (5, 20, 7.5, "heun", True)),
    ([5, "fixed", 20, 7.5, "heun"], (5, 20, 7.5, "heun", False)),
    ([5, "fixed", 20, 7.5, "heun", True, "more", None], (5, 20, 7.5, "heun", True)),
    ([5], (5, 20, 7.5, "euler", False)),
    ({"cfg": 2.0, "seed": 1, "preview": {}}, (1, 20, 2.0, "euler", False)),
])  # fmt: skip
def test_saved_widget_lists_old_new_short_long_and_by_name(saved, expected) -> None:
    values = read_widgets(node(3, "Sampler", values=saved), REGISTRY["Sampler"])
    assert tuple(values.values()) == expected
    assert tuple(values) == ("seed", "steps", "cfg", "sampler", "tiled")


def test_named_values_win_over_positions() -> None:
    named = {"steps": 3, "seed": 9, "control_after_generate": "fixed"}
    saved = node(3, "Sampler", values=SAMPLER, widgets_values_named=named)
    values = read_widgets(saved, REGISTRY["Sampler"])
    assert (values["seed"], values["steps"], values["cfg"]) == (9, 3, 7.5)
    assert "control_after_generate" not in values


def test_optional_widgets_stand_behind_required_ones_wherever_they_are_declared() -> None:
    spec = NodeSpec(id="X", inputs=(
        InputSpec(name="late", type="INT", kind="widget", required=False),
        InputSpec(name="early", type="STRING", kind="widget"),
    ))  # fmt: skip
    assert read_widgets({"widgets_values": ["a", 1]}, spec) == {"early": "a", "late": 1}


def test_upload_buttons_and_filters_of_combos_take_a_place() -> None:
    image = REGISTRY["LoadImage"].inputs
    assert align(["a.png", 0.5, "image"], image) == {"image": "a.png", "scale": 0.5}
    assert align(["a.png", "image", 0.5], image) == {"image": "a.png", "scale": 0.5}
    assert align(["a.png", 0.5], image) == {"image": "a.png", "scale": 0.5}
    later = InputSpec(name="rate", type="FLOAT", kind="widget", required=False, default=0.0)
    for saved in (["a.png", 0.5, 2.0, "image"], ["a.png", 0.5, "image", 2.0], ["a.png", 0.5, 2.0]):
        assert align(saved, (*image, later)) == {"image": "a.png", "scale": 0.5, "rate": 2.0}
    assert align(["a.png", 0.5, "image"], (*image, later)) == {"image": "a.png", "scale": 0.5}
    combo = InputSpec(name="mode", type="COMBO", kind="widget", options=("x", "fixed"),
                      control_after_generate=True)  # fmt: skip
    text = InputSpec(name="text", type="STRING", kind="widget")
    for saved in (["x", "randomize", "", "hi"], ["x", "randomize", "hi"], ["x", "hi"]):
        assert align(saved, (combo, text)) == {"mode": "x", "text": "hi"}


def test_inputs_of_a_dynamic_combo_follow_it_and_carry_dotted_names() -> None:
    spec = REGISTRY["SaveVideo"]
    saved = {"widgets_values": ["h264", 9, "slow", 3, 12.0]}
    assert read_widgets(saved, spec) == {
        "codec": "h264", "codec.crf": 9, "codec.encoding": "slow", "codec.encoding.passes": 3,
        "fps": 12.0,
    }  # fmt: skip
    gif = read_widgets({"widgets_values": ["gif", 32, 12.0]}, spec)
    assert gif == {"codec": "gif", "codec.colors": 32, "fps": 12.0}
    by_name = read_widgets({"widgets_values_named": {"codec": "gif", "fps": 2.0}}, spec)
    assert by_name == {"codec": "gif", "codec.colors": 64, "fps": 2.0}


def test_array_values_are_wrapped() -> None:
    workflow = ui([node(3, "Points", values=[[[0, 1], [2, 3]]])], [])
    assert inputs_of(workflow) == {"points": {"__value__": [[0, 1], [2, 3]]}}


def test_a_wire_beats_the_value_of_a_converted_widget_which_keeps_its_place() -> None:
    third = sampler(inputs=[("model", "MODEL", 1), ("latent", "LATENT", 2),
                            ("steps", "INT", 3, True)])  # fmt: skip
    workflow = chain(node(4, "Int", values=[33]), links=([3, 4, 0, 3, 2, "INT"],), third=third)
    got = inputs_of(workflow)
    assert got["steps"] == ["4", 0] and got["cfg"] == 7.5


def test_primitive_nodes_become_values_also_through_reroutes() -> None:
    third = sampler(inputs=[("model", "MODEL", 1), ("latent", "LATENT", 2),
                            ("steps", "INT", 4, True)])  # fmt: skip
    workflow = chain(node(4, "PrimitiveNode", values=[33, "fixed"]),
                     node(5, "Reroute", inputs=[("", "*", 3)]), third=third,
                     links=([3, 4, 0, 5, 0, "INT"], [4, 5, 0, 3, 2, "INT"]))  # fmt: skip
    assert inputs_of(workflow)["steps"] == 33
    assert set(ui_to_api(workflow, REGISTRY)) == {"1", "2", "3"}


def test_reroute_nodes_and_get_set_pairs_are_seen_through() -> None:
    third = sampler(inputs=[("model", "MODEL", 5), ("latent", "LATENT", 2)])
    workflow = chain(node(4, "Reroute", inputs=[("", "*", 1)]),
                     node(5, "SetNode", inputs=[("MODEL", "MODEL", 4)], values=["m"]),
                     node(6, "GetNode", values=["m"]), third=third,
                     links=([4, 4, 0, 5, 0, "MODEL"], [5, 6, 0, 3, 0, "MODEL"]))  # fmt: skip
    workflow["links"][0] = [1, 1, 0, 4, 0, "MODEL"]
    assert inputs_of(workflow)["model"] == ["1", 0]
    assert set(ui_to_api(workflow, REGISTRY)) == {"1", "2", "3"}


def test_notes_and_unknown_frontend_nodes_are_left_out_and_unknown_backend_nodes_are_not() -> None:
    unknown = node(8, "Gone", properties={"Node name for S&R": "Gone"})
    workflow = chain(node(4, "Note", values=["hi"]), node(5, "MarkdownNote", values=["hi"]),
                     node(6, "Bookmark (rgthree)"), node(7, "Fancy Label"), unknown)  # fmt: skip
    result = convert(workflow, REGISTRY)
    assert set(result.api) == {"1", "2", "3", "8"}
    assert result.dropped == ("node 6 (Bookmark (rgthree))", "node 7 (Fancy Label)")


def test_muted_nodes_go_and_their_wires_with_them() -> None:
    workflow = chain()
    workflow["nodes"][1]["mode"] = 2
    assert set(ui_to_api(workflow, REGISTRY)) == {"1", "3"}
    assert "latent" not in inputs_of(workflow)


def test_a_wire_into_a_bypassed_node_goes_on_by_type() -> None:
    blend = node(6, "Blend", mode=4, inputs=[("first", "IMAGE", 3), ("second", "IMAGE", 4),
                                             ("extra", "LATENT", 5)])  # fmt: skip
    workflow = ui(
        [node(1, "LoadImage", values=["a.png", "image", 1.0]),
         node(2, "LoadImage", values=["b.png", "image", 1.0]), node(3, "Empty", values=[8]), blend,
         node(7, "Save", inputs=[("images", "IMAGE", 6)], values=["x"]),
         node(8, "Decode", inputs=[("latent", "LATENT", 7)]),
         node(9, "Any", inputs=[("value", "*", 8)])],
        [[3, 1, 0, 6, 0, "IMAGE"], [4, 2, 0, 6, 1, "IMAGE"], [5, 3, 0, 6, 2, "LATENT"],
         [6, 6, 0, 7, 0, "IMAGE"], [7, 6, 1, 8, 0, "LATENT"], [8, 6, 1, 9, 0, "*"]],
    )  # fmt: skip
    api = ui_to_api(workflow, REGISTRY)
    assert "6" not in api
    assert api["7"]["inputs"]["images"] == ["1", 0]
    assert api["8"]["inputs"]["latent"] == ["3", 0]
    assert api["9"]["inputs"]["value"] == ["2", 0]  # Any type: the same slot.


@pytest.mark.parametrize(("inputs", "output", "slot", "wanted", "index"), [
    (["A", "B"], "A", 1, "*", 1),
    (["A"], "A", 1, "*", 0),
    (["A", "B"], "B", 1, "B", 1),
    (["A", "B"], "A", 1, "A", 0),
    (["X,A", "A"], "A", 5, "A", 1),
    (["X,A", "B"], "A", 5, "A", 0),
    (["*", "B"], "B", 0, "B", 0),
    (["a"], "A", 0, "A", 0),
    (["X", "Y"], "A", 0, "A", None),
    ([], "A", 0, "A", None),
])  # fmt: skip
def test_which_input_stands_in_for_an_output_of_a_bypassed_node(
    inputs, output, slot, wanted, index
) -> None:
    assert bypass_input(inputs, output, slot, wanted) == index


def test_bypass_without_a_fitting_input_leaves_the_widget_its_value() -> None:
    third = sampler(inputs=[("model", "MODEL", 1), ("latent", "LATENT", 2),
                            ("steps", "INT", 3, True)])  # fmt: skip
    workflow = chain(node(4, "Int", values=[33], mode=4), third=third,
                     links=([3, 4, 0, 3, 2, "INT"],))  # fmt: skip
    assert inputs_of(workflow)["steps"] == 20


def test_a_loop_of_reroutes_is_an_error_not_a_hang() -> None:
    third = sampler(inputs=[("model", "MODEL", 3), ("latent", "LATENT", 2)])
    workflow = chain(node(4, "Reroute", inputs=[("", "*", 4)]),
                     node(5, "Reroute", inputs=[("", "*", 3)]), third=third,
                     links=([3, 4, 0, 5, 0, "*"], [4, 5, 0, 4, 0, "*"]))  # fmt: skip
    with pytest.raises(WorkflowError, match="loop through link"):
        ui_to_api(workflow, REGISTRY)


def test_dynamic_prompts_are_resolved_with_the_given_generator() -> None:
    text = "a {red|blue} \\{car\\} /* note */{on {ice|snow}|at sea} // end"
    workflow = ui([node(3, "Text", values=[text])], [])
    texts = {ui_to_api(workflow, REGISTRY, random.Random(i))["3"]["inputs"]["text"]
             for i in range(60)}  # fmt: skip
    assert texts == {f"a {c} {{car}} {p} " for c in ("red", "blue")
                     for p in ("on ice", "on snow", "at sea")}  # fmt: skip
    again = [ui_to_api(workflow, REGISTRY)["3"]["inputs"]["text"] for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(("workflow", "message"), [
    ({"nodes": {}, "links": []}, "is an object, expected a list"),
    ({"nodes": [{"id": 1}], "links": []}, 'entry 0 of .* no type'),
    ({"nodes": [3], "links": []}, "entry 0"),
])  # fmt: skip
def test_malformed_workflows_are_refused_in_one_sentence(workflow, message) -> None:
    with pytest.raises(WorkflowError, match=message):
        ui_to_api(workflow, REGISTRY)


@pytest.mark.parametrize("links", [None, [None], [[1]], [{"id": 1}], ["x"], {"1": [1, 1, 0, 3, 0]}])
def test_damaged_links_are_ignored(links) -> None:
    api = ui_to_api({**chain(), "links": links}, REGISTRY)
    assert set(api) == {"1", "2", "3"}


def test_the_engine_needs_the_registry_only_for_the_nodes_that_run() -> None:
    extra = NodeSpec(id="Reroute", inputs=(InputSpec(name="x", type="*"),),
                     execute=lambda x: NodeResult())  # fmt: skip
    third = sampler(inputs=[("model", "MODEL", 3), ("latent", "LATENT", 2)])
    workflow = chain(node(4, "Reroute", inputs=[("x", "*", 1)]), third=third,
                     links=([3, 4, 0, 3, 0, "MODEL"],))  # fmt: skip
    workflow["links"][0] = [1, 1, 0, 4, 0, "MODEL"]
    # A host may bring a real node called Reroute; then it stays a node.
    assert ui_to_api(workflow, {**REGISTRY, "Reroute": extra})["3"]["inputs"]["model"] == ["4", 0]


# Files of spring 2023, and what no frontend writes.


@pytest.mark.parametrize("control", [[], [True], [False], [None], ["fixed"], ["randomize"]])
def test_a_seed_control_of_any_year_takes_a_place(control) -> None:
    saved = [5, *control, 20, 7.5, "sample_heun", True]
    values = read_widgets(node(3, "Sampler", values=saved), REGISTRY["Sampler"])
    assert list(values.values()) == [5, 20, 7.5, "sample_heun", True]


def test_a_switch_behind_a_seed_is_no_control() -> None:
    spec = NodeSpec(id="X", inputs=(
        InputSpec(name="seed", type="INT", kind="widget"),
        InputSpec(name="tiled", type="BOOLEAN", kind="widget"),
        InputSpec(name="size", type="INT", kind="widget", default=3),
    ))  # fmt: skip
    for saved in ([5, True, 7], [5, "fixed", True, 7], [5, False, True, 7]):
        assert read_widgets({"widgets_values": saved}, spec) == {
            "seed": 5,
            "tiled": True,
            "size": 7,
        }
    assert read_widgets({"widgets_values": [5, True]}, spec)["tiled"] is True
    lost = read_widgets(node(3, "Sampler", values=[5, None, 7.5, "heun"]), REGISTRY["Sampler"])
    assert "steps" not in lost and (lost["cfg"], lost["sampler"]) == (7.5, "heun")


def test_samplers_lose_the_prefix_of_2023_and_only_samplers() -> None:
    workflow = chain()
    workflow["nodes"][2]["widgets_values"][4] = "sample_ddim"
    assert parse_workflow(workflow, REGISTRY).nodes["3"].inputs["sampler"] == "ddim"
    loader = {"1": {"class_type": "Loader", "inputs": {"name": "sample_a.safetensors"}}}
    assert parse_workflow(loader, REGISTRY).nodes["1"].inputs["name"] == "sample_a.safetensors"


@pytest.mark.parametrize("mode", [2, 4])
def test_muting_and_bypassing_virtual_nodes_has_no_effect(mode) -> None:
    third = sampler(inputs=[("model", "MODEL", 5), ("latent", "LATENT", 2),
                            ("steps", "INT", 7, True)])  # fmt: skip
    workflow = chain(node(4, "Reroute", inputs=[("", "*", 1)], mode=mode),
                     node(5, "SetNode", inputs=[("MODEL", "MODEL", 4)], values=["m"], mode=mode),
                     node(6, "GetNode", values=["m"], mode=mode),
                     node(7, "PrimitiveNode", values=[33, "fixed"], mode=mode), third=third,
                     links=([4, 4, 0, 5, 0, "MODEL"], [5, 6, 0, 3, 0, "MODEL"],
                            [7, 7, 0, 3, 2, "INT"]))  # fmt: skip
    workflow["links"][0] = [1, 1, 0, 4, 0, "MODEL"]
    inputs = inputs_of(workflow)
    assert inputs["model"] == ["1", 0] and inputs["steps"] == 33


@pytest.mark.parametrize("mode", ["4", None, 99, -1, 2.5, True, [2], float("inf")])
def test_a_mode_that_is_none_is_refused(mode) -> None:
    workflow = chain()
    workflow["nodes"][1]["mode"] = mode
    with pytest.raises(WorkflowError, match=r"node 2 \(Empty\) has the mode .*, expected a whole"):
        ui_to_api(workflow, REGISTRY)


@pytest.mark.parametrize("mode", [0, 1, 3, 0.0])
def test_other_modes_run(mode) -> None:
    workflow = chain()
    workflow["nodes"][1]["mode"] = mode
    assert set(ui_to_api(workflow, REGISTRY)) == {"1", "2", "3"}


@pytest.mark.parametrize("slot", [0.5, None, float("inf"), "x", [0], True])
@pytest.mark.parametrize("place", [2, 4])
def test_a_link_slot_that_is_no_whole_number_is_refused(slot, place) -> None:
    workflow = chain()
    workflow["links"][0][place] = slot
    with pytest.raises(WorkflowError, match="link 1 (leaves output|enters input) .* whole number"):
        ui_to_api(workflow, REGISTRY)


def test_whole_floats_are_the_same_ids_and_slots() -> None:
    workflow = chain()
    workflow["nodes"][0]["id"] = 1.0
    workflow["links"][0] = [1, 1.0, 0.0, 3, 0, "MODEL"]
    assert ui_to_api(workflow, REGISTRY) == ui_to_api(chain(), REGISTRY)


def test_two_nodes_of_one_id_are_refused() -> None:
    with pytest.raises(WorkflowError, match=r"two nodes have the id 2, node 2 \(Empty\) and node"):
        ui_to_api(chain(node(2, "Decode")), REGISTRY)


@pytest.mark.parametrize("name", [[], {}, 5, None])
def test_slots_and_widgets_whose_names_are_no_texts(name) -> None:
    workflow = chain()
    workflow["nodes"][2]["inputs"][0] = {"name": name, "widget": {"name": name}, "link": 1}
    with pytest.raises(WorkflowError, match=r"node 3 \(Sampler\) has a wire into an input without"):
        ui_to_api(workflow, REGISTRY)
    workflow["nodes"][2]["inputs"][0]["link"] = None
    problems = validate(parse_workflow(workflow, REGISTRY), REGISTRY, ["3"])
    assert any('input "model" is missing' in problem.message for problem in problems)


@pytest.mark.parametrize("saved", [5, "x", True, [], {}, [[]], [{}]])
@pytest.mark.parametrize("kind", ["PrimitiveNode", "GetNode", "SetNode", "Sampler"])
def test_saved_values_of_any_form(kind, saved) -> None:
    third = sampler(inputs=[("model", "MODEL", 3), ("latent", "LATENT", 2)])
    workflow = chain(node(4, kind, values=saved), third=third, links=([3, 4, 0, 3, 0, "MODEL"],))
    assert "3" in ui_to_api(workflow, REGISTRY)


# The cost of small files.


def hundreds(count: int) -> dict:
    """A chain of reroutes, each of which also feeds a sampler."""
    nodes, links = [node("m", "Loader", values=["a.safetensors"])], []
    for i in range(count):
        nodes += [node(f"r{i}", "Reroute", inputs=[("", "*", f"l{i}")]),
                  node(f"s{i}", "Decode", inputs=[("latent", "LATENT", f"k{i}")])]  # fmt: skip
        links += [[f"l{i}", f"r{i - 1}" if i else "m", 0, f"r{i}", 0, "*"],
                  [f"k{i}", f"r{i}", 0, f"s{i}", 0, "*"]]  # fmt: skip
    return ui(nodes, links)


def test_wires_through_thousands_of_reroutes_take_no_longer_than_others() -> None:
    begun = time.process_time()
    api = ui_to_api(hundreds(2000), REGISTRY)
    assert api["s1999"]["inputs"]["latent"] == ["m", 0] and time.process_time() - begun < 2


def test_more_nodes_than_people_make_are_refused() -> None:
    with pytest.raises(WorkflowError, match="more than 10,000 nodes"):
        ui_to_api(hundreds(5001), REGISTRY)
    prompt = {str(i): {"class_type": "Int", "inputs": {}} for i in range(10_001)}
    with pytest.raises(WorkflowError, match="10,001 nodes, at most 10,000"):
        parse_workflow(prompt, REGISTRY)
    with pytest.raises(WorkflowError, match="100,001 links, at most 100,000"):
        ui_to_api(ui([node(1, "Loader")], [None] * 100_001), REGISTRY)
