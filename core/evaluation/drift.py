"""What a long video slowly loses: sharpness, contrast, colour and objects against frame number, for
every strategy, of the embedded models on the world `shapes`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.diffusion_model import DiffusionModel
from ..tasks.chunk_store import ChunkStore
from ..tasks.content import digest
from ..tasks.finished import Finished
from ..tasks.long_video import (
    Between,
    Continuation,
    Hierarchy,
    SlidingWindows,
    hierarchical,
    prediction,
    sliding,
)
from ..tasks.optical_flow import LUMA
from ..tasks.rolling import Rolling, rolling
from ..tasks.segment import DenoiserFor, Sampling, Size
from .models import How, Models
from .rules import matches, recognise

PROMPT, WANTED = "a red star rotates on a black background", ("red", "star", "rotates")
FRAMES, WINDOW, SIDE, BLOCK = 10_000, 16, 64, 16
HOW = How(steps=4, cfg=2.0, sampler="ddim")
FILLING = How(steps=4, sampler="ddim")
QUEUE, QUEUE_WINDOW = How(steps=8, cfg=2.0, sampler="ddim"), 8
"""Rolling takes a step for every frame of its window at least."""
LIMIT = 50e9
"""Bytes that finished chunks may take; 10,000 frames of all strategies take less than 1 GB."""
MEASURES = ("sharpness", "contrast", "colour", "objects")
PARTS = 5
"""Stretches of the video that the table compares."""


@dataclass
class Course:
    """The measures of a video, a number for every block of frames."""

    measures: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in MEASURES}
    )

    def add(self, frames: Tensor) -> None:
        """Measure a block of frames [t 3 h w] in [-1, 1]."""
        for name, value in measured(frames).items():
            self.measures[name].append(value)

    def parts(self, name: str, count: int = PARTS) -> list[float]:
        """The mean of a measure in each of `count` stretches of the same length."""
        values = torch.tensor(self.measures[name])
        return [float(part.mean()) for part in values.tensor_split(count) if len(part)]

    def change(self, name: str) -> float:
        """The last stretch over the first."""
        first, *_, last = self.parts(name)
        return last / first if first else float("nan")


def measured(frames: Tensor) -> dict[str, float]:
    """Of frames [t 3 h w] in [-1, 1].

    sharpness: root mean square of the differences of neighbouring pixels' luma over its deviation.
    contrast: that deviation. colour: mean distance of the channels from grey. objects: the share of
    colour and shape that the rules recognise as asked for.
    """
    luma = (frames * frames.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    contrast = float(luma.std((1, 2, 3)).mean())
    edges = [luma.diff(dim=axis).square().mean() for axis in (-1, -2)]
    found = matches(recognise(frames.numpy()), [WANTED])
    return {
        "sharpness": float(sum(edges) / 2) ** 0.5 / max(contrast, 1e-6),
        "contrast": contrast,
        "colour": float((frames - luma).abs().mean()),
        "objects": (found["color"] + found["shape"]) / 2,
    }


# --------------------------------------------------------------------------------------------------
# The strategies.


@dataclass(frozen=True)
class Task:
    """The video of one strategy: `frames` frames of what the text [1 n d] says, with the chunks
    that are finished."""

    models: Models
    text: Tensor
    frames: int
    finished: Finished

    @property
    def size(self) -> Size:
        return self.models.latent_size(1, SIDE, SIDE)

    def denoiser_for(self, model: DiffusionModel, how: How = HOW) -> DenoiserFor:
        return self.models.denoiser_for(model, self.text, how)

    def sampling(self, model: DiffusionModel, how: How = HOW) -> Sampling:
        return replace(self.models.sampling(model, how, 0), finished=self.finished)


Strategy = Callable[[Task], Iterator[Tensor]]


def _sliding(task: Task) -> Iterator[Tensor]:
    model = task.models.text_to_video
    return sliding(
        task.denoiser_for(model), task.size, task.sampling(model), task.frames,
        windows=SlidingWindows(window=WINDOW, overlap=4),
    )  # fmt: skip


def _continuation(match: float) -> Continuation:
    return Continuation(window=WINDOW, context=1, match=match)


def _prediction(match: float) -> Strategy:
    def made(task: Task) -> Iterator[Tensor]:
        model = task.models.prediction
        return prediction(
            task.denoiser_for(model), task.size, task.sampling(model), task.frames,
            how=_continuation(match),
        )  # fmt: skip

    return made


def _hierarchical(match: float) -> Strategy:
    def made(task: Task) -> Iterator[Tensor]:
        model, filling = task.models.prediction, task.models.interpolation
        between = Between(
            denoiser_for=task.denoiser_for(filling, FILLING),
            sampling=task.sampling(filling, FILLING), passes=1,
        )  # fmt: skip
        return hierarchical(
            task.denoiser_for(model), task.size, task.sampling(model), task.frames,
            how=Hierarchy(keys=_continuation(match), between=between),
        )  # fmt: skip

    return made


def _rolling(lookahead: bool) -> Strategy:
    def made(task: Task) -> Iterator[Tensor]:
        model = task.models.text_to_video
        return rolling(
            task.denoiser_for(model, QUEUE), task.size, task.sampling(model, QUEUE), task.frames,
            how=Rolling(window=QUEUE_WINDOW, lookahead=lookahead),
        )  # fmt: skip

    return made


STRATEGIES: dict[str, Strategy] = {
    "prediction": _prediction(0.0),
    "prediction, colours matched": _prediction(1.0),
    "hierarchical": _hierarchical(0.0),
    "hierarchical, colours matched": _hierarchical(1.0),
    "rolling": _rolling(False),
    "rolling, lookahead": _rolling(True),
    "sliding windows": _sliding,
}


@torch.no_grad()
def courses(
    models: Models,
    store: ChunkStore,
    frames: int = FRAMES,
    *,
    only: Collection[str] = (),
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[tuple[str, Course]]:
    """Each strategy, or those of `only`, with its course over a video of `frames` frames.

    Finished chunks are in the store: a run that was cut off goes on there, and all but sliding
    windows go on to a longer video. Latents and frames of a video are never all in memory, but the
    latents of sliding windows.
    """
    text, weights = models.text([PROMPT]), _weights(models)
    for name, made in STRATEGIES.items():
        if only and name not in only:
            continue
        say(f"{name}: {frames} frames")
        key = digest(name, PROMPT, vars(HOW), vars(QUEUE), weights, torch.__version__)
        kept = store.run(key, {"node": "evaluate drift", "title": name, "inputs": {}})
        course = Course()
        for block in _blocks(made(Task(models, text, frames, kept))):
            course.add(models.decoded(block, per_frame=True)[0])
        say(f"{name}: {kept.made} chunks made, {kept.taken} were there")
        yield name, course


def kept_in(folder: Path, warn: Callable[[str], object]) -> ChunkStore:
    """The chunks of finished runs in a folder."""
    return ChunkStore(folder, LIMIT, warn)


def _weights(models: Models) -> str:
    used = models.text_to_video, models.prediction, models.interpolation
    return digest([one.network.state_dict() for one in used], models.text([""]))


def as_json(found: Mapping[str, Course]) -> dict[str, Any]:
    return {name: course.measures for name, course in found.items()}


def _blocks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Latents [1 t c h w] in blocks of BLOCK frames; what is left over at the end is left out."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        while held.shape[1] >= BLOCK:
            yield held[:, :BLOCK]
            held = held[:, BLOCK:]
