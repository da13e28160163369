"""Outputs of whole stages: a stage that is finished needs neither its models nor its prompts.

Keys of chunks depend on values such as encoded prompts, which need the networks that make them. The
key of a stage depends on the workflow and the files that it names, and is known before anything is
loaded. It leads to the files that hold everything the stage returned:

    runs/outputs/<key of the stage>.json                the files, and what else is known of it
    runs/<key of the run>/<key of the stage>.output0.safetensors
                                                        latents as the stage returned them
    runs/<key of the run>/<key>.safetensors             chunks, in order

A stage counts as finished if every one of these files holds what was written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from .chunk_files import is_whole, read_chunk, replaced
from .chunk_store import Run
from .content import NoDigest, digest
from .gathering import HELD, in_parts
from .kept_runs import OUTPUT, OUTPUTS, SUFFIX

CHUNK = "chunk"


@dataclass(frozen=True)
class StageOutput:
    """The output of one stage, in the folder of all runs."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / OUTPUTS / f"{self.key}.json"

    def known(self) -> dict[str, Any] | None:
        """The note on the stage; None if it is not finished."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            note = found["known"]
            return note if found["digest"] == digest(json.dumps(note, sort_keys=True)) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_finished(self, look: Callable[[], None] = lambda: None) -> bool:
        """Whether everything that the stage returned is stored and undamaged. look() is called
        before each file is read, and may raise."""
        known = self.known()
        if known is None:
            return False
        files = [self.folder / one for one in known["files"]]
        return all(one.is_file() for one in files) and all(_is_whole(one, look) for one in files)

    def write(self, files: Sequence[Path], known: Mapping[str, Any]) -> None:
        """Note the files of a finished stage. If the note cannot be written, the stage does not
        count as finished."""
        note = {**known, "files": [one.relative_to(self.folder).as_posix() for one in files]}
        text = json.dumps(note, sort_keys=True)
        with suppress(OSError, NoDigest):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            found = json.dumps({"known": note, "digest": digest(text)}, sort_keys=True)
            replaced(self.path, lambda at: at.write_text(found, encoding="utf-8"))

    def keep(self, samples: Tensor, axis: int, run: Run, known: Mapping[str, Any]) -> None:
        """Store a video, whose frames lie along an axis, beside the chunks of its run, in files of
        about HELD bytes."""
        frame = max(1, samples.nbytes // max(1, samples.shape[axis]))
        files = []
        for k, part in enumerate(in_parts(samples, max(1, HELD // frame), axis=axis)):
            files.append(self.folder / run.key / f"{self.key}{OUTPUT}{k}{SUFFIX}")
            if not is_whole(files[-1]):
                try:
                    run.store.write(files[-1], {CHUNK: part}, run.about)
                except (OSError, SafetensorError):
                    return
        self.write(files, known)

    def parts(self) -> Iterator[Tensor]:
        """The parts of a stored video; OSError where one is missing or damaged."""
        known = self.known() or {"files": [self.path.name]}
        for one in known["files"]:
            found = read_chunk(self.folder / one)
            if found is None:
                raise OSError(f"{one} was finished, but is missing or damaged: run it again")
            yield found[CHUNK]


def _is_whole(file: Path, look: Callable[[], None]) -> bool:
    look()
    return is_whole(file)
