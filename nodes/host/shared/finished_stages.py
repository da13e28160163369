"""Reusing whole stages: which inputs a node needs, and its output if the stage is finished.

Models, prompts and VAEs are lazy inputs of the nodes of long stages: they are requested, and so
loaded, only if something is left to compute. The store tells, under a key of the node and
everything upstream of it. If a node upstream is not known to depend on its inputs and files only,
all inputs are requested.
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
from .runs import content_keys, version
from .runs_folder import runs_folder, runs_limit

if TYPE_CHECKING:
    from ..interface import Host

LATENT, VIDEO = "latent", "video"


def stage_output(
    host: Host, kind: str, without: Collection[str] = (), graph: str | None = None
) -> StageOutput | None:
    """The record of the running node's output in the store; None without a store or a valid key.

    kind: LATENT or VIDEO. without: inputs that the output does not depend on. graph: the content
    key, if it is known.
    """
    running = host.running()
    if running is None or not runs_limit():
        return None
    nodes = upstream(running.node_of, running.node_id).values()
    if not all(map(running.is_plain, nodes)):
        return None
    folder = runs_folder(host.folders.output)
    if graph is None:
        files = FileHashes(host.folders, folder / MEMORY).named_by
        graph = content_keys(running, files).of(running.node_id, without=without)
    if graph is None:
        return None
    return StageOutput(folder, digest(kind, graph, running.index, running.place, version()))


def requested_inputs(host: Host, given: Iterable[str], output: StageOutput | None) -> list[str]:
    """The names of the lazy inputs that a node requests: none if its output is finished. given:
    the names of the inputs that the node declares."""
    if output is not None and output.is_finished(host.check_interrupted):
        return []
    return connected_inputs(host, given)


def connected_inputs(host: Host, given: Iterable[str]) -> list[str]:
    """The names of all connected inputs, those inside dynamic inputs included."""
    running = host.running()
    node = None if running is None else running.node_of(running.node_id)
    if node is None:
        return list(given)
    return [name for name, value in node["inputs"].items() if isinstance(value, (list, tuple))]


def skips_inputs(host: Host, given: Mapping[str, Any]) -> bool:
    """Whether any of these inputs of the running node is connected but has no value, because the
    node did not request it. Others may have one all the same: another node needed them."""
    return any(_value(given, name.split(".")) is None for name in connected_inputs(host, ())
               if name.partition(".")[0] in given)  # fmt: skip


def _value(given: Any, path: Sequence[str]) -> Any:
    for name in path:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given


def record_of(output: StageOutput | None) -> dict[str, Any]:
    """The record of a finished stage; OSError if it was removed since `requested_inputs`."""
    known = None if output is None else output.known()
    if known is None:
        raise OSError("what was finished of this stage has been removed: run the workflow again")
    return known


def keep_latent(host: Host, finished: Finished, latent: Mapping[str, Any], **known: Any) -> None:
    """Store the LATENT that the running node outputs, with `known`, JSON values to recall later,
    under the content key that the node had when it began: files that it names may have changed."""
    if not isinstance(finished, Run) or finished.whole is None:
        return
    output = stage_output(host, LATENT, graph=finished.whole)
    if output is not None:
        samples = latent["samples"]
        axis = 0 if samples.ndim == 4 else 2
        output.keep(samples, axis, finished, {**known, "axis": axis})


def latent_if_finished(host: Host, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict] | None:
    """`finished_latent` if the running node did not request all inputs in `given`, because its
    output is finished; else None."""
    return finished_latent(host) if skips_inputs(host, given) else None


def finished_latent(host: Host) -> tuple[dict[str, Any], dict]:
    """The LATENT of a finished stage, and what was recorded with it; OSError if it was removed
    since `requested_inputs`."""
    output = stage_output(host, LATENT)
    known = record_of(output)
    gathered = Gathering(runs_folder(host.folders.output), axis=known["axis"])
    for part in output.parts():
        gathered.add(part)
    return {"samples": gathered.tensor()}, known
