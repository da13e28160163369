"""The raw parts of a UI workflow, checked once: nodes, slots and links, with lookups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from .messages import kind_of, shown, written
from .schema import MOST_LINKS, WorkflowError

ALWAYS, MUTED, BYPASSED = 0, 2, 4
MODES = range(5)
MOST_SLOTS = 1000


class UiLink(NamedTuple):
    """A wire of the UI format, saved there as a list (0.4) or an object (1.0, subgraphs)."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str


@dataclass(frozen=True)
class Layout:
    """The nodes and links, by id, of the root graph or of one subgraph's definition."""

    nodes: dict[str, dict]
    links: dict[str, UiLink]

    @cached_property
    def values(self) -> int:
        """The number of saved inputs and values, a measure of the cost of reading them."""
        keys = ("inputs", "widgets_values", "widgets_values_named")
        saved = (node.get(key) for node in self.nodes.values() for key in keys)
        return sum(len(one) for one in saved if isinstance(one, (list, dict)))

    @cached_property
    def by_target(self) -> dict[tuple[str, int], UiLink]:
        """The first link into each input, by node id and slot number."""
        return {(k.target, k.target_slot): k for k in reversed(self.links.values())}

    @cached_property
    def wired(self) -> set[str]:
        """The ids of the nodes at either end of a link."""
        return {end for link in self.links.values() for end in (link.origin, link.target)}

    @cached_property
    def slot_of(self) -> dict[str, tuple[dict, dict]]:
        """The target node and input slot of each link, by the link's id."""
        found: dict[str, tuple[dict, dict]] = {}
        for node in self.nodes.values():
            for index, slot in enumerate(slots(node, "inputs")):
                link = self.incoming(node, index, slot)
                if link is not None:
                    found[link.id] = node, slot
        return found

    @cached_property
    def leaving(self) -> set[tuple[str, int, str]]:
        """(node id, output number, link id) of each link that an output lists."""
        return {(node_id, index, key) for node_id, node in self.nodes.items()
                for index, slot in enumerate(slots(node, "outputs"))
                for key in link_ids(slot, "links")}  # fmt: skip

    @cached_property
    def setters(self) -> dict[str, dict]:
        """The SetNodes by the name under which GetNodes refer to them."""
        nodes = [node for node in self.nodes.values() if node["type"] == "SetNode"]
        return {first_value(n): n for n in reversed(nodes) if isinstance(first_value(n), str)}

    def incoming(
        self, node: Mapping[str, Any], index: int, slot: Mapping[str, Any]
    ) -> UiLink | None:
        """Return the link into an input, by the slot's own link id. The slot number saved with the
        link goes stale when a node gains inputs; it is used only for slots without a "link" key."""
        if "link" in slot:
            return self.links.get(id_text(slot["link"]) or "")
        return self.by_target.get((id_text(node["id"]), index))


def read_layout(graph: Mapping[str, Any]) -> Layout:
    """Read a graph's nodes and links; raises WorkflowError naming the malformed part."""
    return Layout(_read_nodes(graph), _read_links(graph))


def slots(node: Mapping[str, Any], key: str) -> list[dict]:
    """Return a node's saved "inputs" or "outputs", each a dict whose "name" is a text ("" if it was
    missing or malformed)."""
    raw = node.get(key) if isinstance(node.get(key), list) else []
    return [s if _has_name(s) else _nameless(s) for s in raw]


def refuse_many(node: Mapping[str, Any], name: str) -> None:
    """Raise WorkflowError above MOST_SLOTS inputs, outputs or promoted widgets."""
    properties = node.get("properties")
    saved = {"inputs": node.get("inputs"), "outputs": node.get("outputs")}
    if isinstance(properties, dict):
        saved["promoted widgets"] = properties.get("proxyWidgets")
    for what, listed in saved.items():
        if isinstance(listed, list) and len(listed) > MOST_SLOTS:
            raise WorkflowError(f"{name} has {len(listed):,} {what}, at most {MOST_SLOTS:,} are "
                                "read")  # fmt: skip


def widget_name(slot: Mapping[str, Any]) -> str | None:
    """Return the name of an input slot's widget; None if it has none."""
    widget = slot.get("widget")
    name = widget.get("name", slot["name"]) if isinstance(widget, dict) else None
    return name if isinstance(name, str) else None


def link_ids(slot: Mapping[str, Any], key: str) -> list[str]:
    """Return the ids of the links that a slot lists under a key."""
    raw = slot.get(key)
    found = map(id_text, raw if isinstance(raw, list) else [])
    return [one for one in found if one is not None]


def first_value(node: Mapping[str, Any]) -> Any:
    """Return the first value that a node saves, or None."""
    saved = node.get("widgets_values_named") or node.get("widgets_values")
    values = list(saved.values()) if isinstance(saved, dict) else saved
    return values[0] if isinstance(values, list) and values else None


def id_text(value: Any) -> str | None:
    """Return an id as text, so that 3, 3.0 and "3" are equal; None for an invalid id."""
    if isinstance(value, str):
        return value
    whole = whole_number(value)
    return None if whole is None else str(whole)


def whole_number(value: Any) -> int | None:
    """Return a whole number as an int; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value // 1 else None


def mode_of(node: Mapping[str, Any]) -> int:
    """Return a node's mode: 0 always, 2 muted, 4 bypassed (1 and 3 run like 0)."""
    return int(node.get("mode", ALWAYS))


def name_of(node: Mapping[str, Any]) -> str:
    return f"node {shown(id_text(node['id']))} ({shown(node['type'])})"


def _has_name(slot: Any) -> bool:
    return isinstance(slot, dict) and isinstance(slot.get("name"), str)


def _nameless(slot: Any) -> dict:
    return {**slot, "name": ""} if isinstance(slot, dict) else {"name": ""}


def _read_nodes(graph: Mapping[str, Any]) -> dict[str, dict]:
    raw = graph.get("nodes")
    if not isinstance(raw, list):
        raise WorkflowError(f'the workflow\'s "nodes" is {kind_of(raw)}, expected a list')
    nodes: dict[str, dict] = {}
    for index, node in enumerate(raw):
        known = isinstance(node, dict) and isinstance(node.get("type"), str)
        node_id = id_text(node.get("id")) if known else None
        if node_id is None:
            raise WorkflowError(f'entry {index} of the workflow\'s "nodes" has no id or no type')
        if node_id in nodes:
            raise WorkflowError(f"two nodes have the id {shown(node_id)}, {name_of(nodes[node_id])}"
                                f" and {name_of(node)}")  # fmt: skip
        refuse_many(node, name_of(node))
        if whole_number(node.get("mode", ALWAYS)) not in MODES:
            raise WorkflowError(f"{name_of(node)} has the mode {written(node['mode'])}, expected "
                                f"a whole number from {MODES[0]} to {MODES[-1]}")  # fmt: skip
        nodes[node_id] = node
    return nodes


def _read_links(graph: Mapping[str, Any]) -> dict[str, UiLink]:
    raw = graph.get("links")
    if isinstance(raw, dict):
        raw = list(raw.values())
    entries = raw if isinstance(raw, list) else []
    if len(entries) > MOST_LINKS:
        raise WorkflowError(f"the workflow has {len(entries):,} links, at most {MOST_LINKS:,} are "
                            "read")  # fmt: skip
    links = [link for link in map(read_link, entries) if link is not None]
    return {link.id: link for link in links}


def read_link(raw: Any) -> UiLink | None:
    """Read one link; None for anything else (the frontend sometimes saves nulls).

    Raises WorkflowError for a link whose slot numbers are not whole.
    """
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    if isinstance(raw, dict):
        raw = [*(raw.get(key) for key in keys), raw.get("type", "*")]
    if not isinstance(raw, (list, tuple)) or len(raw) < 5:
        return None
    ids = [id_text(raw[index]) for index in (0, 1, 3)]
    if None in ids:
        return None
    link_id, origin, target = ids
    kind = raw[5] if len(raw) > 5 and isinstance(raw[5], str) else "*"
    leaves = _slot_number(raw[2], f"link {shown(link_id)} leaves output", origin)
    enters = _slot_number(raw[4], f"link {shown(link_id)} enters input", target)
    return UiLink(link_id, origin, leaves, target, enters, kind)


def _slot_number(value: Any, what: str, node_id: str) -> int:
    is_digits = isinstance(value, str) and value.isdecimal() and len(value) < 10
    number = int(value) if is_digits else whole_number(value)
    if number is None:
        raise WorkflowError(f"{what} {written(value)} of node {shown(node_id)}, expected a whole "
                            "number")  # fmt: skip
    return number
