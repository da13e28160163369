"""Stages that are finished as a whole: which inputs a node needs, and what it gives without them.

Models, prompts and VAEs are lazy inputs of the nodes of long stages. They are asked for, and so
loaded, only where something is left to be made. Whether that is so is read from the store, under a
key of the node with everything upstream of it; where a node upstream is not known to depend on its
inputs and files alone, everything is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....core.graph.content_key import upstream
from ....core.tasks.chunk_store import Run
from ....core.tasks.content import digest
from ....core.tasks.finished import Finished
from ....core.tasks.gathering import Gathering
from ....core.tasks.stage_outputs import StageOutput
from .file_hashes import MEMORY, FileHashes
from .runs import graph_key, version
from .runs_folder import runs_folder, runs_limit

if TYPE_CHECKING:
    from ..interface import Host

LATENT, VIDEO = "latent", "video"


def stage_output(host: Host, kind: str, without: Collection[str] = ()) -> StageOutput | None:
    """Where is noted what the node that runs now gave; None where that cannot be told.

    kind: LATENT or VIDEO. without: inputs that change nothing about it.
    """
    running = host.running()
    if running is None or not runs_limit():
        return None
    nodes = upstream(running.node_of, running.node_id).values()
    if not all(map(running.is_plain, nodes)):
        return None
    folder = runs_folder(host.folders.output)
    graph = graph_key(running, FileHashes(host.folders, folder / MEMORY).named_by, without)
    if graph is None:
        return None
    return StageOutput(folder, digest(kind, graph, running.index, running.place, version()))


def wanted(host: Host, given: Iterable[str], output: StageOutput | None) -> list[str]:
    """The inputs that a node waits for: none if what it gives is finished. given: all its inputs'
    names, as far as the node knows."""
    if output is not None and output.is_finished(host.check_interrupted):
        return []
    return wired(host, given)


def wired(host: Host, given: Iterable[str]) -> list[str]:
    """The names of all inputs that are wired, also of those that an input opened."""
    running = host.running()
    node = None if running is None else running.node_of(running.node_id)
    if node is None:
        return list(given)
    return [name for name, value in node["inputs"].items() if isinstance(value, (list, tuple))]


def left_out(host: Host, given: Mapping[str, Any]) -> bool:
    """Whether any of these inputs of the node that runs now is wired, but did not come: the node
    did not ask for it. Others may have come all the same, because another node needed them."""
    return any(_value(given, name.split(".")) is None for name in wired(host, ())
               if name.partition(".")[0] in given)  # fmt: skip


def _value(given: Any, path: Sequence[str]) -> Any:
    for name in path:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given


def known_of(output: StageOutput | None) -> dict[str, Any]:
    """What was noted of a stage that `wanted` found finished; OSError if it was removed since."""
    known = None if output is None else output.known()
    if known is None:
        raise OSError("what was finished of this stage has been removed: run the workflow again")
    return known


def keep_latent(host: Host, finished: Finished, latent: Mapping[str, Any], **known: Any) -> None:
    """Keep the LATENT that the node that runs now gives. known: JSON values that go along."""
    output = stage_output(host, LATENT)
    if output is not None and isinstance(finished, Run):
        samples = latent["samples"]
        axis = 0 if samples.ndim == 4 else 2
        output.keep(samples, axis, finished, {**known, "axis": axis})


def latent_before(host: Host, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict] | None:
    """As `finished_latent`, where the node that runs now did not ask for all of `given`, as all is
    finished; else None."""
    return finished_latent(host) if left_out(host, given) else None


def finished_latent(host: Host) -> tuple[dict[str, Any], dict]:
    """The LATENT of a stage that `wanted` found finished, and what went along with it; OSError if
    it was removed since."""
    output = stage_output(host, LATENT)
    known = known_of(output)
    gathered = Gathering(runs_folder(host.folders.output), axis=known["axis"])
    for part in output.parts():
        gathered.add(part)
    return {"samples": gathered.tensor()}, known
