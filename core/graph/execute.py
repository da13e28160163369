"""Runs workflows without ComfyUI, with its semantics for lists, lazy inputs and node expansion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .api_format import graph_to_api, read_node
from .calls import (
    as_result,
    call_node,
    cause_of,
    find_blocker,
    merge_ui,
    slices,
    wait_for,
    wait_for_all,
    without_collisions,
)
from .context import Call, DynamicPrompt, Event, Interrupted
from .messages import shown
from .run_result import NodeError, Outputs, RunResult
from .schema import (
    Blocked,
    Graph,
    Link,
    Node,
    NodeResult,
    NodeSpec,
    Registry,
    describe,
    nest_inputs,
)
from .signature import Signatures
from .validate import output_nodes, require_valid, show_cycle, upstream
from .values import coerce


@dataclass(frozen=True)
class Cached:
    """The cached outputs of a node; if it expanded, also the signatures of the nodes that it
    expanded to (`parts`) and their UI outputs."""

    outputs: Outputs
    ui: dict[str, Any] | None
    parts: frozenset[str] = frozenset()
    inner_ui: Mapping[str, dict[str, Any]] = field(default_factory=dict)


class Executor:
    """Runs graphs; with `cache`, the next run reuses the outputs of unchanged nodes.

    As in ComfyUI's classic cache, the end of a successful run drops all outputs that do not belong
    to its graph. Without cache, an output is freed as soon as its last consumer has run.
    """

    def __init__(self, registry: Registry, *, cache: bool = True):
        self.registry = registry
        self.cache: dict[str, Cached] | None = {} if cache else None

    def run(
        self,
        graph: Graph,
        *,
        on_event: Callable[[Event], None] | None = None,
        interrupted: Callable[[], bool] | None = None,
        targets: Sequence[str] | None = None,
    ) -> RunResult:
        """Validate, then run all output nodes (or `targets`) and the nodes they depend on.

        Raises InvalidWorkflow before anything runs, NodeError if a node fails and Interrupted once
        `interrupted()` is true; the last two carry the partial result.
        """
        require_valid(graph, self.registry, targets)
        run = _Run(self, graph, on_event or (lambda event: None), interrupted or (lambda: False))
        try:
            run.all(targets)
        except (NodeError, Interrupted) as stop:
            stop.result = run.result
            raise
        except KeyboardInterrupt as stop:
            interruption = Interrupted("interrupted from the keyboard")
            interruption.result = run.result
            raise interruption from stop
        if self.cache is not None:
            self.cache = {key: self.cache[key] for key in run.used_signatures()}
        return run.result


class _Run:
    """The state of one run."""

    def __init__(self, executor: Executor, graph: Graph, on_event: Callable, interrupted: Callable):
        self.registry, self.cache = executor.registry, executor.cache
        self.graph, self.on_event, self.interrupted = graph, on_event, interrupted
        self.prompt = DynamicPrompt(graph)
        self.nodes = self.prompt.nodes
        self.signatures = Signatures(self.nodes, self.registry, wait_for)
        self.result = RunResult()
        self.done: set[str] = set()
        self.values: dict[str, Outputs] = {}
        self.consumers: dict[str, set[str]] = {}
        self.required: dict[str, list[str]] = {}
        self.expanded: dict[str, list[NodeResult]] = {}
        self.needed: list[str] = []
        self.inner: dict[str, list[str]] = {}

    def all(self, targets: Sequence[str] | None) -> None:
        ends = list(targets) if targets is not None else output_nodes(self.graph, self.registry)
        self.needed = upstream(self.graph, ends)
        for node_id in self.needed:
            self._consume(node_id)
        for target in targets or ():
            self.consumers.setdefault(target, set()).add("")  # The caller is a consumer, too.
        for end in ends:
            self._run_target(end)
            if targets is not None:
                self.result.values[end] = self.values[end]

    def _consume(self, node_id: str) -> None:
        for link in self.nodes[node_id].links.values():
            self.consumers.setdefault(link.node_id, set()).add(node_id)

    # Deciding what to run next.

    def _run_target(self, target: str) -> None:
        """Run a node and its dependencies, depth first, so that outputs finish one by one."""
        path = {target: None}  # An ordered set: membership in a list takes linear time.
        while path:
            node_id = next(reversed(path))
            if node_id in self.done:
                del path[node_id]
                continue
            ahead = [need for need in self._dependencies(node_id) if need not in self.done]
            if not ahead:
                self._step(node_id)
            elif ahead[0] in path:
                raise self._cycle(ahead[0], list(path))
            else:
                path[ahead[0]] = None

    def _cycle(self, node_id: str, path: list[str]) -> NodeError:
        loop = path[path.index(node_id) :][::-1]
        names = show_cycle([describe(self.nodes[one]) for one in (*loop, loop[0])])
        return NodeError(self.nodes[node_id], f"the wires form a cycle: {names}")

    def _dependencies(self, node_id: str) -> list[str]:
        """Return the nodes that must run before this one: none if its output is cached."""
        if self._lookup(node_id) is not None:
            return []
        node = self.nodes[node_id]
        live = self.registry[node.class_type].live_inputs(node.inputs)
        lazy = {name for name, spec in live.items() if spec.lazy}
        eager = [link.node_id for name, link in node.links.items() if name not in lazy]
        return [*eager, *self.required.get(node_id, ())]

    def _lookup(self, node_id: str) -> Cached | None:
        if self.cache is None or node_id in self.expanded:
            return None
        signature = self.signatures.of(node_id)
        return self.cache.get(signature) if signature else None

    def _step(self, node_id: str) -> None:
        """Finish a node from the cache or by running it, or find out what else it needs."""
        if self.interrupted():
            raise Interrupted(f"interrupted before {describe(self.nodes[node_id])}")
        found = self._lookup(node_id)
        if found is not None:
            self._emit("node_cached", node_id)
            self.result.cached.append(node_id)
            self.result.ui.update(found.inner_ui)
            self._finish(node_id, found.outputs, found.ui)
            return
        try:
            self._run_node(node_id)
        except NodeError:
            raise
        except KeyboardInterrupt as stop:
            node = self.nodes[node_id]
            raise Interrupted(f"interrupted in node {node_id} ({node.class_type})") from stop
        except Exception as error:
            raise NodeError(self.nodes[node_id], cause_of(error)) from error

    def _run_node(self, node_id: str) -> None:
        if node_id in self.expanded:
            self._complete(node_id, self.expanded.pop(node_id))
            return
        if self._request_lazy_inputs(node_id):
            return
        self._emit("node_start", node_id)
        results = self._call_all(node_id, self._gather(node_id))
        if any(result.expand is not None for result in results):
            self._expand(node_id, results)
        else:
            self._complete(node_id, results)

    def _request_lazy_inputs(self, node_id: str) -> bool:
        """Ask the node which lazy inputs it needs, and require those; False if there are none."""
        node = self.nodes[node_id]
        spec = self.registry[node.class_type]
        if spec.check_lazy_status is None:
            return False
        waiting = {n: k for n, k in node.links.items() if k.node_id not in self.done}
        names: set[str] = set()
        for index, arguments in enumerate(slices(self._gather(node_id), spec.is_input_list)):
            arguments, call = nest_inputs(spec, arguments), self._call(node_id, index)
            asked = wait_for(call_node(spec.check_lazy_status, arguments, call))
            names |= {name for name in asked or () if name in waiting}
        more = [waiting[name].node_id for name in waiting if name in names]
        self.required.setdefault(node_id, []).extend(more)
        return bool(more)

    # Calling nodes.

    def _gather(self, node_id: str) -> dict[str, list]:
        """Return the values of each input as a list; lazy inputs not requested are [None]."""
        node = self.nodes[node_id]
        spec = self.registry[node.class_type]
        live = spec.live_inputs(node.inputs)
        gathered: dict[str, list] = {}
        for name, value in node.inputs.items():
            if isinstance(value, Link):
                gathered[name] = self._link_values(value)
            elif name in live:
                given = value is not None or live[name].required
                gathered[name] = [coerce(value, live[name]) if given else None]
            elif spec.accept_all_inputs:
                gathered[name] = [value]
        return gathered

    def _link_values(self, link: Link) -> list:
        if link.node_id not in self.values:
            if link.node_id in self.done:
                raise RuntimeError(f"the output of node {shown(link.node_id)} was freed too early")
            return [None]  # A lazy input that was not requested.
        outputs = self.values[link.node_id]
        if link.slot >= len(outputs):
            source = describe(self.nodes[link.node_id])
            raise ValueError(f"output {link.slot} of {source} is wired, but it has {len(outputs)}")
        return outputs[link.slot]

    def _call_all(self, node_id: str, gathered: dict[str, list]) -> list[NodeResult]:
        spec = self.registry[self.nodes[node_id].class_type]
        results: list[Any] = []
        for index, arguments in enumerate(slices(gathered, spec.is_input_list)):
            blocker = find_blocker(arguments)
            if blocker is not None:
                results.append(self._blocked(node_id, blocker))
                continue
            call = self._call(node_id, index)
            arguments = {**nest_inputs(spec, arguments), **call.hidden}
            results.append(call_node(spec.execute, arguments, call))
        return [as_result(one, len(spec.outputs)) for one in wait_for_all(results)]

    def _call(self, node_id: str, index: int) -> Call:
        node = self.nodes[node_id]

        def report(value: float, total: float) -> None:
            self._emit("progress", node_id, value=value, total=total)

        hidden = {name: self._hidden(name, node_id) for name in self._spec(node_id).hidden}

        def warn(text: str) -> None:
            display = self.prompt.get_display_node_id(node_id)
            texts = self.result.warnings.setdefault(display, [])
            if text not in texts:
                texts.append(text)
                self._emit("warning", node_id, text=text)

        return Call(
            node_id, node.class_type, index, hidden, report, warn, self.interrupted, self.prompt,
            self.registry,
        )  # fmt: skip

    def _spec(self, node_id: str) -> NodeSpec:
        return self.registry[self.nodes[node_id].class_type]

    def _hidden(self, name: str, node_id: str) -> Any:
        if name == "unique_id":
            return node_id
        if name == "prompt":
            return graph_to_api(self.graph)
        if name == "dynprompt":
            return self.prompt
        if name == "extra_pnginfo" and self.graph.workflow is not None:
            return {"workflow": self.graph.workflow}
        return None

    def _blocked(self, node_id: str, blocker: Blocked) -> NodeResult:
        """Block all outputs; the message is reported once, at the first node that is blocked."""
        if blocker.message:
            self.result.blocked[node_id] = blocker.message
            self._emit("blocked", node_id, text=blocker.message)
        return NodeResult((Blocked(),) * len(self._spec(node_id).outputs))

    # Expansion.

    def _expand(self, node_id: str, results: list[NodeResult]) -> None:
        """Add the nodes that a node expanded to, and require its result's links and outputs."""
        needs: list[str] = []
        for index, result in enumerate(results):
            if result.expand is None:
                continue
            prefix = f"{node_id}.{index}."
            api, values = without_collisions(result, prefix, self.nodes)
            added = [read_node(key, raw, api) for key, raw in api.items()]
            for node in added:
                self._add(node, node_id)
            links = [value for value in values if isinstance(value, Link)]
            ends = [node.id for node in added if self._spec(node.id).is_output_node]
            needs += [*ends, *(link.node_id for link in links)]
            results[index] = NodeResult(values, result.ui, result.expand, result.block)
        for need in needs:
            self.consumers.setdefault(need, set()).add(node_id)
        self.required.setdefault(node_id, []).extend(needs)
        self.expanded[node_id] = results

    def _add(self, node: Node, parent: str) -> None:
        if node.class_type not in self.registry:
            raise ValueError(f"it expands to {describe(node)}, which is of an unknown type")
        self.prompt.add(node, parent)
        self.inner.setdefault(parent, []).append(node.id)
        self._consume(node.id)
        self._revive([link.node_id for link in node.links.values()])

    def _revive(self, sources: list[str]) -> None:
        """Schedule nodes again whose outputs were freed before this expansion required them."""
        waiting = list(sources)
        while waiting:
            source = waiting.pop()
            if source in self.done and source not in self.values:
                self.done.discard(source)
                self._consume(source)
                waiting += [link.node_id for link in self.nodes[source].links.values()]

    # Finishing.

    def _complete(self, node_id: str, results: list[NodeResult]) -> None:
        spec = self._spec(node_id)
        outputs: Outputs = tuple([] for _ in spec.outputs)
        for result in results:
            for slot, value in enumerate(result.values):
                outputs[slot].extend(self._items(value, spec.outputs[slot].is_list))
        ui = merge_ui(results)
        signature = self.signatures.of(node_id) if self.cache is not None else None
        if signature is not None:
            inner = self._descendants(node_id)
            parts = frozenset(filter(None, map(self.signatures.of, inner)))
            inner_ui = {one: self.result.ui[one] for one in inner if one in self.result.ui}
            self.cache[signature] = Cached(outputs, ui, parts, inner_ui)
        self._finish(node_id, outputs, ui)
        self.result.executed.append(node_id)
        self._emit("node_done", node_id)

    def _descendants(self, node_id: str) -> list[str]:
        """Return the nodes that a node expanded to, recursively."""
        found = list(self.inner.get(node_id, ()))
        for child in found:
            found += self.inner.get(child, ())
        return found

    def used_signatures(self) -> list[str]:
        """Return the cached signatures of this graph's nodes, looked up during the run or not."""
        used: set[str] = set()
        waiting = [self.signatures.of(node_id) for node_id in self.needed]
        while waiting:
            signature = waiting.pop()
            if signature in self.cache and signature not in used:
                used.add(signature)
                waiting += self.cache[signature].parts
        return list(used)

    def _items(self, value: Any, is_list: bool) -> list:
        if isinstance(value, Link):
            return self._link_values(value)
        return list(value) if is_list and not isinstance(value, Blocked) else [value]

    def _finish(self, node_id: str, outputs: Outputs, ui: dict[str, Any] | None) -> None:
        self.done.add(node_id)
        if ui:
            self.result.ui[node_id] = ui
        if self.consumers.get(node_id):
            self.values[node_id] = outputs
        sources = [link.node_id for link in self.nodes[node_id].links.values()]
        for source in {*sources, *self.required.pop(node_id, ())}:
            self._release(source, node_id)

    def _release(self, source: str, consumer: str) -> None:
        waiting = self.consumers.get(source, set())
        waiting.discard(consumer)
        if not waiting:
            self.values.pop(source, None)

    def _emit(self, kind: str, node_id: str, **details: Any) -> None:
        node = self.nodes[node_id]
        display = self.prompt.get_display_node_id(node_id)
        self.on_event(
            Event(kind, node_id, node.class_type, node.title, display_id=display, **details)
        )
