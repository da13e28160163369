"""Promoted widgets: the values that a subgraph instance saves for its inputs and inner nodes.

Frontends have saved them in several ways: one value per widget among the inputs (in the order of
the definition, or of the instance's own list), one per entry of `proxyWidgets` (pairs of inner node
id and widget name, where "-1" is the instance's own input), or by name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .schema import NodeSpec
from .ui_parts import MOST_SLOTS, id_text, slots, widget_name

OWN = "-1"
Place = tuple[str, str]
"""An inner node's id (or "-1", the subgraph's own inputs) and the name of the widget."""


def promoted_values(
    instance: Mapping[str, Any], widgets: Mapping[str, str], inner: Mapping[Place, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the values that an instance saves, by input and by inner node.

    widgets: types of the definition's widget inputs, in its order. inner: types of the inner nodes'
    widgets. Of the possible orders of the saved list, the one that fits its values best is taken.
    """
    by_input: dict[str, Any] = {}
    by_node: dict[str, dict[str, Any]] = {}
    saved = instance.get("widgets_values")
    types = {**inner, **{(OWN, name): kind for name, kind in widgets.items()}}
    if isinstance(saved, list):
        order = min(_orders(instance, widgets), key=lambda one: _misfit(one, saved, types))
        _assign(zip(order, saved, strict=False), by_input, by_node)
    for named in (saved, instance.get("widgets_values_named")):
        if isinstance(named, dict):
            places = _places_by_name(instance, ambiguous=not isinstance(saved, list))
            _assign([((OWN, name), value) for name, value in named.items()], by_input, by_node)
            _assign([(places[name], value) for name, value in named.items() if name in places],
                    by_input, by_node)  # fmt: skip
    return by_input, by_node


def _orders(instance: Mapping[str, Any], widgets: Mapping[str, str]) -> list[list[Place]]:
    """Return the possible orders of the saved values, the likeliest first."""
    pairs = proxies(instance)
    saved = slots(instance, "inputs")
    declared = [(OWN, name) for name in widgets]
    proxied = [pairs, [pair for pair in pairs if pair[0] == OWN]] if pairs else []
    listed = [(OWN, slot["name"]) for slot in saved if slot.get("widget")]
    is_full = set(widgets) <= {slot["name"] for slot in saved}
    return [*proxied, *([listed, declared] if is_full else [declared, listed])]


def _misfit(order: Sequence[Place], saved: Sequence[Any], types: Mapping[Place, str]) -> tuple:
    wrong = sum(not _suits(value, types.get(place, "*"))
                for place, value in zip(order, saved, strict=False))  # fmt: skip
    return wrong, abs(len(order) - len(saved))


def _suits(value: Any, kind: str) -> bool:
    """Return whether a saved value fits a widget of type `kind`; null fits any."""
    if value is None:
        return True
    if kind in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    return isinstance(value, str) or kind != "STRING"


def _places_by_name(instance: Mapping[str, Any], *, ambiguous: bool) -> dict[str, Place]:
    """Return the inner widgets by name; if not `ambiguous`, only names that are unique."""
    pairs = proxies(instance)
    count = Counter(name for _, name in pairs)
    return {pair[1]: pair for pair in pairs
            if pair[0] != OWN and (ambiguous or count[pair[1]] == 1)}  # fmt: skip


def _assign(pairs: Iterable[tuple[Place, Any]], by_input: dict, by_node: dict) -> None:
    for (inner, name), value in pairs:
        if value is None:
            continue
        if inner == OWN:
            by_input[name] = value
        else:
            by_node.setdefault(inner, {})[name] = value


def proxies(instance: Mapping[str, Any]) -> list[Place]:
    """Return the entries of `proxyWidgets`. A third item is the id of a node in an inner subgraph
    that has the widget; such a widget's name becomes "id: name"."""
    properties = instance.get("properties")
    raw = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raw = None
    entries = raw[:MOST_SLOTS] if isinstance(raw, list) else []
    found = [_place(one) for one in entries if isinstance(one, list)]
    return [place for place in found if place is not None]


def _place(entry: list) -> Place | None:
    if len(entry) < 2 or id_text(entry[0]) is None or not isinstance(entry[1], str):
        return None
    source = id_text(entry[2]) if len(entry) > 2 else None
    return id_text(entry[0]), f"{source}: {entry[1]}" if source else entry[1]


def is_widget(slot: Mapping[str, Any], spec: NodeSpec | None) -> bool:
    """Return whether an input slot belongs to a widget."""
    if widget_name(slot):
        return True
    inputs = spec.inputs if spec else ()
    return any(one.name == slot["name"] and one.kind == "widget" for one in inputs)
