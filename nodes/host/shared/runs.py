"""The store of finished chunks of the running node, and the keys in it.

The key of a run covers the device, the versions, and the node with everything upstream of it
(`core.graph.content_key`), except for inputs whose values are in the keys of its chunks: the
prompts of their frames, seeds, input latents, the length of the video. So a longer video reuses the
chunks of a shorter one, and a new prompt for some frames keeps the chunks of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....core.graph.content_key import ContentKeys
from ....core.media.partial_files import replacing_partials
from ....core.tasks.chunk_store import ChunkStore
from ....core.tasks.content import NoDigest, digest
from ....core.tasks.finished import Finished, MadeByWorkers, always_made
from .conditioning import OF_FRAMES, branches, pooled_for, text_for
from .file_hashes import MEMORY, FileHashes
from .runs_folder import runs_folder, runs_limit

if TYPE_CHECKING:
    from ....core.media.new_files import NewFile
    from ..interface import Host, RunningNode

WRITING = "writing"
PROMPTS = ("positive", "negative")
ELSEWHERE = (*OF_FRAMES, "pooled_output", "videoldm_seed")
"""Keys of a prompt that enter chunk keys in other ways: frame by frame, or through the noise."""


def finished_chunks(
    host: Host, *, without: Collection[str], prompts: Sequence[list] = ()
) -> Finished:
    """The running node's store of chunks; none if it is disabled or the node has no key.

    without: inputs whose values are in the chunks' keys. prompts: its positive and negative
    CONDITIONINGs, which then enter a chunk's key as far as its frames read them.
    """
    running, limit = host.running(), runs_limit()
    if running is None or not limit:
        return unkept_chunks(host)
    prompt_of = _prompt_of(prompts)
    if prompt_of is not None:
        without = {*without, *PROMPTS}
    folder = runs_folder(host.folders.output)
    keys = content_keys(running, FileHashes(host.folders, folder / MEMORY).named_by)
    graph = keys.of(running.node_id, without=without)
    if graph is None:
        return unkept_chunks(host)
    store = ChunkStore(folder, limit, host.warn)
    about = {**_about(running), "graph": graph}
    key = digest(graph, running.index, running.place, version())
    return store.run(key, about, prompt_of, host.workers, keys.of(running.node_id))


def unkept_chunks(host: Host) -> Finished:
    """Chunks without a store: they are computed each time."""
    return always_made if host.workers is None else MadeByWorkers(host.workers)


@contextmanager
def replacing_partial_file(host: Host, begin: Callable[[], NewFile]) -> Iterator[NewFile]:
    """The file that the running node begins; it replaces what a killed run of the node left."""
    running = host.running()
    graph = None if running is None else content_keys(running).of(running.node_id)
    if graph is None or not runs_limit():
        yield begin()
        return
    output = host.folders.output
    notes = runs_folder(output) / WRITING / digest(graph, running.index)
    with replacing_partials(begin, notes, output) as file:
        yield file


def content_keys(
    running: RunningNode, files: Callable[[Any], Collection[str]] = lambda value: ()
) -> ContentKeys:
    """The content keys of the running prompt's nodes, each of which is computed once."""
    return ContentKeys(running.node_of, files, running.is_volatile)


def version() -> str:
    from .... import __version__

    return __version__


def _about(running: RunningNode) -> dict[str, Any]:
    """A description of the node by which users recognise a run."""
    node = running.node_of(running.node_id)
    title = node.get("_meta", {}).get("title", "")
    plain = {name: value for name, value in node["inputs"].items()
             if isinstance(value, (str, int, float)) and len(str(value)) < 100}  # fmt: skip
    return {"node": node["class_type"], "title": title, "inputs": plain}


def _prompt_of(prompts: Sequence[list]) -> Callable[[Sequence[int]], str] | None:
    """frames -> digest of their prompts; None without prompts, or if one holds something without a
    digest, such as a ControlNet."""
    found = [one for prompt in prompts for one in branches(prompt)]
    try:
        carried = digest([[_carried(more) for _, more in one] for one in found])
    except NoDigest:
        return None
    if not found:
        return None

    def of(frames: Sequence[int]) -> str:
        texts = [[text_for(one, frames), pooled_for(one, frames)] for one in found]
        return digest(carried, texts)

    return of


def _carried(more: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in more.items() if key not in ELSEWHERE}
