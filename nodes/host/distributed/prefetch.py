"""Later workflows of a run: their chunks are begun while those of the first ones are made.

Every workflow runs in its turn, as without workers. Before that, it runs in a thread that saves and
tells nothing: all that is left of it are finished chunks in the store, which the workflow then
takes. So the workers have something to do where a workflow has few chunks or each waits for the one
before, and the results come in the order of the workflows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ....core.graph import Executor, Graph, NodeError
from ....core.graph.schema import Link
from ....core.graph.validate import output_nodes
from ....core.media.files import VideoStream
from ...host.standalone.video import StandaloneVideo
from .pool import Pool

log = logging.getLogger("videoldm")


@dataclass
class Prefetch:
    """executor: of the workflows in their turn, whose loaded models the others share."""

    pool: Pool
    executor: Executor
    graphs: Sequence[Graph]
    begun: int = field(default=1, init=False)

    def up_to(self, number: int) -> None:
        """Begin the workflows before this one that have not been begun."""
        while self.begun < min(number, len(self.graphs)):
            self._begin(self.begun)
            self.begun += 1

    def beside(self, number: int) -> None:
        """Begin as many workflows behind this one as there are workers."""
        self.begun = max(self.begun, number + 1)
        self.up_to(number + 1 + len(self.pool.actors))

    def _begin(self, number: int) -> None:
        self.pool.beside(lambda: self._run(self.graphs[number]), number)

    def _run(self, graph: Graph) -> None:
        own = Executor(self.executor.registry)
        own.cache = dict(self.executor.cache)
        try:
            made = own.run(graph, targets=_before_outputs(graph, own)).values
        except NodeError as error:
            # The workflow will say so in its turn.
            log.debug("a workflow that was begun ahead: %s", error)
            return
        for value in (one for outputs in made.values() for slot in outputs for one in slot):
            if isinstance(value, StandaloneVideo):
                _make_frames(value.stream)


def _before_outputs(graph: Graph, executor: Executor) -> list[str]:
    """The nodes whose values are shown or saved."""
    ends = output_nodes(graph, executor.registry)
    inputs = (value for end in ends for value in graph.nodes[end].inputs.values())
    found = dict.fromkeys(value.node_id for value in inputs if isinstance(value, Link))
    return [one for one in found if one not in ends]


def _make_frames(stream: VideoStream) -> None:
    for _ in stream.source():
        pass
