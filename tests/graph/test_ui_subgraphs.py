"""Subgraphs of the UI form, flattened into the API form."""

from __future__ import annotations

import pytest
from graph_toys import REGISTRY, link, node, sampler, ui
from videoldm.core.graph import (
    WorkflowError,
    ui_to_api,
)

# Subgraphs.

INNER, OUTER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


def definition(**more) -> dict:
    """A subgraph with Empty -> Sampler inside; inputs model and steps, output latent."""
    inside = sampler(inputs=[("model", "MODEL", 1), ("latent", "LATENT", 2),
                             ("steps", "INT", 3, True)])  # fmt: skip
    return {
        "id": INNER, "name": "Inner",
        "inputNode": {"id": -10}, "outputNode": {"id": -20},
        "inputs": [{"name": "model", "type": "MODEL"}, {"name": "steps", "type": "INT"}],
        "outputs": [{"name": "latent", "type": "LATENT"}],
        "nodes": [node(2, "Empty", values=[64]), inside],
        "links": [link(1, -10, 0, 3, 0, "MODEL"), link(2, 2, 0, 3, 1, "LATENT"),
                  link(3, -10, 1, 3, 2, "INT"), link(4, 3, 0, -20, 0, "LATENT")],
        **more,
    }  # fmt: skip


def with_subgraph(definitions: list | None = None, type: str = INNER, **instance) -> dict:
    instance.setdefault("inputs", [("model", "MODEL", 1), ("steps", "INT", None, True)])
    outputs = [{"name": "latent", "type": "LATENT"}]
    return ui(
        [node(1, "Loader", values=["a.safetensors"]), node(7, type, outputs=outputs, **instance),
         node(8, "Decode", inputs=[("latent", "LATENT", 2)])],
        [[1, 1, 0, 7, 0, "MODEL"], [2, 7, 0, 8, 0, "LATENT"]],
        definitions={"subgraphs": definitions or [definition()]},
    )  # fmt: skip


def test_subgraphs_are_flattened_with_ids_outer_colon_inner() -> None:
    api = ui_to_api(with_subgraph(), REGISTRY)
    assert set(api) == {"1", "8", "7:2", "7:3"}
    assert api["7:3"]["inputs"]["model"] == ["1", 0]
    assert api["7:3"]["inputs"]["latent"] == ["7:2", 0]
    assert api["7:3"]["inputs"]["steps"] == 20  # Nothing promoted: the inner value stays.
    assert api["8"]["inputs"]["latent"] == ["7:3", 0]


@pytest.mark.parametrize("saved", [
    {"values": [11]},
    {"values": {"steps": 11}},
    {"widgets_values_named": {"steps": 11}},
    {"values": [11], "properties": {"proxyWidgets": [["-1", "steps"]]}},
    {"values": [11], "properties": {"proxyWidgets": [["3", "steps"]]}},
    {"values": [11], "properties": {"proxyWidgets": '[["3", "steps"]]'}},
    {"values": [1.5, 11], "properties": {"proxyWidgets": [["3", "cfg"], ["-1", "steps"]]}},
])  # fmt: skip
def test_promoted_values_live_on_the_instance_and_win_over_inner_ones(saved) -> None:
    api = ui_to_api(with_subgraph(**saved), REGISTRY)
    assert api["7:3"]["inputs"]["steps"] == 11
    if len(saved.get("values", ())) == 2:
        assert api["7:3"]["inputs"]["cfg"] == 1.5


def test_promoted_widgets_that_save_no_value_leave_the_inner_one() -> None:
    proxies = {"proxyWidgets": [["3", "steps"]]}
    for values in ([], [None]):
        api = ui_to_api(with_subgraph(values=values, properties=proxies), REGISTRY)
        assert api["7:3"]["inputs"]["steps"] == 20


def test_a_wire_into_the_instance_wins_over_its_promoted_value() -> None:
    workflow = with_subgraph(inputs=[("model", "MODEL", 1), ("steps", "INT", 3, True)],
                             values=[11])  # fmt: skip
    workflow["nodes"].append(node(9, "Int", values=[2]))
    workflow["links"].append([3, 9, 0, 7, 1, "INT"])
    assert ui_to_api(workflow, REGISTRY)["7:3"]["inputs"]["steps"] == ["9", 0]


def test_the_inputs_of_an_instance_are_matched_by_name() -> None:
    workflow = with_subgraph(inputs=[("steps", "INT", None, True), ("model", "MODEL", 1)],
                             values=[11])  # fmt: skip
    inputs = ui_to_api(workflow, REGISTRY)["7:3"]["inputs"]
    assert inputs["model"] == ["1", 0] and inputs["steps"] == 11


def outer(**instance) -> dict:
    """A subgraph that contains an instance (node 5) of the inner one."""
    wires = [("model", "MODEL", 1), ("steps", "INT", 2, True)]
    latent = [{"name": "latent", "type": "LATENT"}]
    inside = node(5, INNER, outputs=latent, inputs=wires, **instance)
    return {
        "id": OUTER, "name": "Outer",
        "inputs": [{"name": "model", "type": "MODEL"}, {"name": "steps", "type": "INT"}],
        "outputs": [{"name": "latent", "type": "LATENT"}],
        "nodes": [inside],
        "links": [link(1, -10, 0, 5, 0, "MODEL"), link(2, -10, 1, 5, 1, "INT"),
                  link(3, 5, 0, -20, 0, "LATENT")],
    }  # fmt: skip


@pytest.mark.parametrize("nested", [False, True])
def test_subgraphs_in_subgraphs(nested) -> None:
    both = [outer(), definition()]
    if nested:
        both = [{**outer(), "definitions": {"subgraphs": [definition()]}}]
    api = ui_to_api(with_subgraph(both, OUTER, values=[11]), REGISTRY)
    assert set(api) == {"1", "8", "7:5:2", "7:5:3"}
    assert api["7:5:3"]["inputs"]["model"] == ["1", 0]
    assert api["7:5:3"]["inputs"]["steps"] == 11
    assert api["8"]["inputs"]["latent"] == ["7:5:3", 0]


def test_promotion_through_two_levels_of_proxies() -> None:
    inner_proxies = {"proxyWidgets": [["3", "cfg"]]}
    both = [outer(properties=inner_proxies, values=[2.0]), definition()]
    api = ui_to_api(with_subgraph(both, OUTER), REGISTRY)
    assert api["7:5:3"]["inputs"]["cfg"] == 2.0
    outer_proxies = {"proxyWidgets": [["5", "cfg"]]}
    workflow = with_subgraph(both, OUTER, values=[3.0], properties=outer_proxies)
    assert ui_to_api(workflow, REGISTRY)["7:5:3"]["inputs"]["cfg"] == 3.0


def test_two_instances_of_one_definition_keep_their_own_values() -> None:
    workflow = with_subgraph(values=[11])
    workflow["nodes"].append(node(9, INNER, values=[12], inputs=[
        ("model", "MODEL", None), ("steps", "INT", None, True)]))  # fmt: skip
    api = ui_to_api(workflow, REGISTRY)
    assert api["7:3"]["inputs"]["steps"] == 11 and api["9:3"]["inputs"]["steps"] == 12
    assert "model" not in api["9:3"]["inputs"]


def test_muted_and_bypassed_instances() -> None:
    assert set(ui_to_api(with_subgraph(mode=2), REGISTRY)) == {"1", "8"}
    workflow = with_subgraph(mode=4, inputs=[("latent", "LATENT", 1)])
    workflow["nodes"][0] = node(1, "Empty", values=[64])
    assert ui_to_api(workflow, REGISTRY)["8"]["inputs"]["latent"] == ["1", 0]


def test_a_subgraph_that_contains_itself_is_an_error_not_a_hang() -> None:
    inner = definition()
    inner["nodes"].append(node(4, INNER))
    with pytest.raises(WorkflowError, match='"Inner" contains itself'):
        ui_to_api(with_subgraph([inner]), REGISTRY)
