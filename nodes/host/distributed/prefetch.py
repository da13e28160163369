"""Begins chunks of later stages and later workflows of a run while earlier ones are made.

The stages downstream of one that makes its video chunk by chunk follow it in a thread: a segment is
predicted while those before it are interpolated, upsampled and decoded.

Every workflow runs in its turn, as without workers. Before that, it runs in a thread that saves and
reports nothing; it only leaves finished chunks in the store, which the workflow then reads. So
workers stay busy even if a workflow has few chunks or each depends on the one before, and results
come in the order of the workflows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ....core.graph import Executor, Graph, current_call
from ....core.graph.calls import wait_for
from ....core.graph.execute import Cached
from ....core.graph.schema import Blocked, Link
from ....core.graph.signature import Signatures
from ....core.graph.validate import output_nodes
from ....core.media.files import VideoStream
from ....core.tasks.finished import Arriving
from ..shared.arriving import ArrivingLatent
from ..standalone.video import StandaloneVideo
from .pool import Pool
from .turns import priority

log = logging.getLogger("videoldm")
HALF = 0.5


@dataclass
class Prefetch:
    """executor: runs the workflows in their turn; prefetching shares its loaded models."""

    pool: Pool
    executor: Executor
    graphs: Sequence[Graph]
    begun: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        self.pool.follow = self.follow

    def begin_before(self, number: int) -> None:
        """Begin the workflows before `number` that have not been begun."""
        while self.begun < min(number, len(self.graphs)):
            self._begin(self.begun)
            self.begun += 1

    def begin_after(self, number: int) -> None:
        """Begin as many workflows after `number` as there are workers."""
        self.begun = max(self.begun, number + 1)
        self.begin_before(number + 1 + len(self.pool.actors))

    def _begin(self, number: int) -> None:
        self.pool.spawn(lambda: self._run(self.graphs[number]), number)

    def _run(self, graph: Graph) -> None:
        self._make(graph, dict(self.executor.cache))

    def follow(self, arriving: Arriving) -> None:
        """Begin the stages downstream of the running node, whose LATENT is still being made."""
        call = current_call.get()
        graph, registry = call.prompt.original, self.executor.registry
        if call.node_id not in graph.nodes or call.index:
            return
        signature = Signatures(graph.nodes, registry, wait_for).of(call.node_id)
        if signature is None:
            return
        types = [one.type for one in registry[call.class_type].outputs]
        outputs = tuple(
            [ArrivingLatent(arriving) if one == "LATENT" else Blocked()] for one in types
        )  # fmt: skip
        known = {**self.executor.cache, signature: Cached(outputs, None)}
        self.pool.spawn(lambda: self._make(graph, known), priority.get() + HALF)

    def _make(self, graph: Graph, known: dict[str, Cached]) -> None:
        """Run a workflow up to what it saves or shows; known: cached outputs."""
        own = Executor(self.executor.registry)
        own.cache = known
        try:
            made = own.run(graph, targets=_before_outputs(graph, own)).values
            for value in (one for outputs in made.values() for slot in outputs for one in slot):
                if isinstance(value, StandaloneVideo):
                    _make_frames(value.stream)
        except Exception as error:
            # The workflow reports the error in its turn.
            log.debug("a workflow that was begun ahead: %s", error)


def _before_outputs(graph: Graph, executor: Executor) -> list[str]:
    """The nodes whose outputs are shown or saved."""
    ends = output_nodes(graph, executor.registry)
    inputs = (value for end in ends for value in graph.nodes[end].inputs.values())
    found = dict.fromkeys(value.node_id for value in inputs if isinstance(value, Link))
    return [one for one in found if one not in ends]


def _make_frames(stream: VideoStream) -> None:
    for _ in stream.source():
        pass
