"""Calls of nodes: arguments from lists, awaiting, checking results, renaming expansions."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .context import Call, current_call
from .messages import first_line
from .schema import Blocked, Link, Node, NodeResult

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Phrases in out-of-memory errors, whose types differ between allocators."""


def slices(gathered: Mapping[str, list], is_input_list: bool) -> list[dict[str, Any]]:
    """Return the arguments of each call of a node.

    Lists are zipped, shorter ones repeat their last value, and an empty list means no call. A node
    with `is_input_list` is called once with the lists.
    """
    if is_input_list or not gathered:
        return [dict(gathered)]
    if any(not values for values in gathered.values()):
        return []
    calls = max(len(values) for values in gathered.values())
    return [{k: v[min(i, len(v) - 1)] for k, v in gathered.items()} for i in range(calls)]


def find_blocker(arguments: Mapping[str, Any]) -> Blocked | None:
    for value in arguments.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Blocked):
                return item
    return None


def as_result(result: Any, outputs: int) -> NodeResult:
    """Check what a node returned, and turn `block` into blockers on every output."""
    if not isinstance(result, NodeResult):
        raise TypeError(f"expected a NodeResult, the node returned {type(result).__name__}")
    if result.block is not None:
        blockers = (Blocked(result.block or None),) * outputs
        return NodeResult(blockers, result.ui, result.expand)
    if len(result.values) != outputs:
        raise ValueError(f"expected {outputs} outputs, the node returned {len(result.values)}")
    return result


def merge_ui(results: Sequence[NodeResult]) -> dict[str, Any] | None:
    """Join the UI outputs of several calls of one node, key by key."""
    shown = [result.ui for result in results if result.ui]
    if len(shown) < 2:
        return dict(shown[0]) if shown else None
    return {key: [item for ui in shown for item in ui.get(key, ())] for key in shown[0]}


def call_node(function: Callable[..., Any], arguments: dict[str, Any], call: Call) -> Any:
    """Call a node with `current_call` set; for a coroutine it is set when awaited."""
    token = current_call.set(call)
    try:
        result = function(**arguments)
    finally:
        current_call.reset(token)
    return _await_in_call(result, call) if inspect.isawaitable(result) else result


async def _await_in_call(awaitable: Any, call: Call) -> Any:
    current_call.set(call)
    return await awaitable


def wait_for(value: Any) -> Any:
    """Return a value, after awaiting it if it is awaitable."""
    return wait_for_all([value])[0]


def wait_for_all(values: list[Any]) -> list[Any]:
    """Return the values, after awaiting the awaitables among them concurrently."""
    if not any(inspect.isawaitable(value) for value in values):
        return values

    async def gather() -> list[Any]:
        waiting = [value if inspect.isawaitable(value) else _ready(value) for value in values]
        return list(await asyncio.gather(*waiting))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(gather())
    return _in_thread(gather)


async def _ready(value: Any) -> Any:
    return value


def _in_thread(gather: Callable[[], Any]) -> list[Any]:
    """Await in a new thread, for callers inside a running event loop."""
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["values"] = asyncio.run(gather())
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["values"]


def cause_of(error: BaseException) -> str:
    """Return what went wrong as one line, never empty.

    Types that nodes raise on purpose show their message alone, others are called unexpected, with
    their type. Out-of-memory errors are recognised by their text.
    """
    text, kind = first_line(error), type(error).__name__
    if isinstance(error, MemoryError) or any(words in text.lower() for words in NO_MEMORY):
        return f"there is not enough memory: take fewer or smaller frames, or tiles ({text})"
    if text == kind:
        return f"unexpected {kind} without a reason"
    foreseen = isinstance(error, (ValueError, OSError, NotImplementedError))
    return text if foreseen else f"unexpected {kind}: {text}"


def without_collisions(
    result: NodeResult, prefix: str, nodes: Mapping[str, Node]
) -> tuple[dict[str, Any], tuple]:
    """Return an expansion with ids that are new to `nodes`, and the values with links to match."""
    api = {str(key): raw for key, raw in (result.expand or {}).items()}
    clash = any(key in nodes for key in api)
    names = {key: f"{prefix}{key}" if clash else key for key in api}
    renamed = {names[key]: _renamed(raw, names) for key, raw in api.items()}
    return renamed, tuple(_as_link(value, names, nodes) for value in result.values)


def _renamed(raw: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(raw, dict) or not isinstance(raw.get("inputs"), dict):
        return raw
    inputs = {
        name: [names[str(value[0])], value[1]]
        if isinstance(value, list) and len(value) == 2 and str(value[0]) in names
        else value
        for name, value in raw["inputs"].items()
    }
    return {**raw, "inputs": inputs}


def _as_link(value: Any, names: Mapping[str, str], nodes: Mapping[str, Node]) -> Any:
    if isinstance(value, (list, Link)) and len(value) == 2 and isinstance(value[1], int):
        if isinstance(value[0], str) and (value[0] in names or value[0] in nodes):
            return Link(names.get(value[0], value[0]), value[1])
    return value
