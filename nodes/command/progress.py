"""Progress output of a run: bars on a terminal, lines elsewhere, JSON, or only warnings."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from ...core.graph import Event, Graph, Registry
from ...core.graph.messages import printable, shown
from ...core.graph.schema import describe
from ...core.graph.validate import output_nodes, upstream
from ..host.time_left import TimeLeft

LINE_EVERY = 2.0
"""Seconds between two lines about the same node."""


class NodeTimeLeft:
    """The time left of a node that starts now; starts over when the count of its steps falls."""

    def __init__(self, clock: Callable[[], float] | None = None):
        self.clock = clock or time.monotonic
        self.time_left = TimeLeft(begin=self.clock())
        self.value = 0.0

    def seconds(self, value: float, total: float) -> float | None:
        """Return the remaining seconds, or None before the first step."""
        now = self.clock()
        if value < self.value:
            self.time_left.restart(now, value)
        self.value = value
        return self.time_left.seconds(now, value, total)


def duration(seconds: float) -> str:
    """Format seconds as 4.2 s, 3:05 min or 2:10 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


class Progress:
    """Numbers the nodes of a graph in the order of their events; this base class only shows
    warnings."""

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self.names: dict[str, str] = {}
        self.places: dict[str, int] = {}
        self.time_left: dict[str, NodeTimeLeft] = {}

    def begin(self, graph: Graph, registry: Registry) -> None:
        """Prepare for one graph; called before its first event."""
        self.graph, needed = graph, upstream(graph, output_nodes(graph, registry))
        self.names = {n: graph.nodes[n].title or self._named(graph, registry, n) for n in needed}
        self.places, self.time_left = {}, {}

    def __call__(self, event: Event) -> None:
        """Handle an event of the executor."""
        place = self.places.setdefault(event.display_id or event.node_id, len(self.places) + 1)
        left = None
        if event.kind == "warning":
            self.warn(event, place)
            return
        if event.kind == "progress":
            time_left = self.time_left.setdefault(event.node_id, NodeTimeLeft())
            left = time_left.seconds(event.value, event.total)
        else:
            self.time_left[event.node_id] = NodeTimeLeft()
        self.show(event, place, left)

    def show(self, event: Event, place: int, left: float | None) -> None:
        """Show an event; `place` counts nodes from 1, `left` is in seconds."""

    def warn(self, event: Event, place: int) -> None:
        """Show a warning, always on stderr."""
        print(self.warning(event), file=sys.stderr, flush=True)

    def warning(self, event: Event) -> str:
        nodes = self.graph.nodes if self.graph else {}
        node = nodes.get(event.display_id or event.node_id)
        name = event.class_type if node is None else describe(node)
        return f"videoldm: warning: {name}: {printable(event.text)}"

    def end(self) -> None:
        """Stop showing; called once per graph, even after an error."""

    def label(self, event: Event, place: int) -> str:
        name = self.names.get(event.display_id) or event.title or event.class_type
        return f"[{place}/{len(self.names)}] {shown(name)}"

    @staticmethod
    def _named(graph: Graph, registry: Registry, node_id: str) -> str:
        kind = graph.nodes[node_id].class_type
        return registry[kind].display_name or kind


class Lines(Progress):
    """One line per node, and one every few seconds while it runs: for files and pipes."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self.stream = stream
        self.started: dict[str, float] = {}
        self.last = 0.0

    def show(self, event: Event, place: int, left: float | None) -> None:
        text = self._text(event, left)
        if text is not None:
            print(f"{self.label(event, place)}: {text}", file=self.stream, flush=True)

    def _text(self, event: Event, left: float | None) -> str | None:
        now = time.monotonic()
        if event.kind == "node_start":
            self.started[event.node_id] = self.last = now
            return None
        if event.kind == "node_done":
            return f"done in {duration(now - self.started.get(event.node_id, now))}"
        if event.kind == "progress":
            if now - self.last < LINE_EVERY:
                return None
            self.last = now
            rest = "" if left is None else f", {duration(left)} left"
            return f"{event.value:g}/{event.total:g}{rest}"
        return "unchanged" if event.kind == "node_cached" else f"stopped, {printable(event.text)}"


class Bars(Progress):
    """One bar per node on a terminal, with the remaining time."""

    def __init__(self, stream: TextIO):
        super().__init__()
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.fields[steps]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}", markup=False),
        )
        self.console = Console(file=stream)
        self.make = lambda: progress.Progress(*columns, console=self.console)
        self.tasks: dict[str, Any] = {}

    def begin(self, graph: Graph, registry: Registry) -> None:
        super().begin(graph, registry)
        self.bars, self.tasks = self.make(), {}
        self.bars.start()

    def show(self, event: Event, place: int, left: float | None) -> None:
        if event.node_id not in self.tasks:
            label = self.label(event, place)
            self.tasks[event.node_id] = self.bars.add_task(label, total=None, steps="", left="")
        changes: dict[str, Any] = {"left": "" if left is None else f"{duration(left)} left"}
        if event.kind == "progress":
            changes |= {"completed": event.value, "total": event.total}
            changes |= {"steps": f"{event.value:g}/{event.total:g}"}
        elif event.kind == "blocked":
            changes |= {"steps": f"stopped, {printable(event.text)}"}
        elif event.kind != "node_start":
            changes |= {"completed": 1, "total": 1}
        if event.kind == "node_cached":
            changes |= {"steps": "unchanged"}
        self.bars.update(self.tasks[event.node_id], **changes)

    def warn(self, event: Event, place: int) -> None:
        # Through the console of the bars, which would otherwise overwrite it.
        self.bars.console.print(self.warning(event), markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        self.bars.stop()


class JsonLines(Progress):
    """One JSON object per event."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self.stream, self.started = stream, time.monotonic()

    def show(self, event: Event, place: int, left: float | None) -> None:
        line: dict[str, Any] = {"event": event.kind, "node_id": event.display_id or event.node_id}
        line |= {"class_type": event.class_type, "name": self.names.get(event.display_id, "")}
        line |= {"node": place, "nodes": len(self.names)}
        if event.kind == "progress":
            line |= {"value": event.value, "total": event.total}
            line |= {"seconds_left": None if left is None else round(left, 2)}
        if event.text:
            line |= {"text": event.text}
        self.write({**line, "seconds": round(time.monotonic() - self.started, 3)})

    def warn(self, event: Event, place: int) -> None:
        super().warn(event, place)
        self.show(event, place, None)

    def write(self, line: dict[str, Any]) -> None:
        print(json.dumps(line, default=str), file=self.stream, flush=True)
