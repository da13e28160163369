"""Drift of long videos: sharpness, contrast, colour and objects over frame number, for every
long-video strategy with the embedded models on the world `shapes`."""

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
from .models import Models, Settings
from .rules import matches, recognise

PROMPT, WANTED = "a red star rotates on a black background", ("red", "star", "rotates")
FRAMES, WINDOW, SIDE, BLOCK = 10_000, 16, 64, 16
SETTINGS = Settings(steps=4, cfg=2.0, sampler="ddim")
FILLING = Settings(steps=4, sampler="ddim")
QUEUE, QUEUE_WINDOW = Settings(steps=8, cfg=2.0, sampler="ddim"), 8
"""Rolling needs at least as many steps as its window has frames."""
LIMIT = 50e9
"""Maximum bytes of the chunk store; 10,000 frames of all strategies take less than 1 GB."""
MEASURES = ("sharpness", "contrast", "colour", "objects")
PARTS = 5
"""Parts of the video for :meth:`Course.change` and the table."""


@dataclass
class Course:
    """The measures along a video, one value per block of frames."""

    measures: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in MEASURES}
    )

    def add(self, frames: Tensor) -> None:
        """Measure a block of frames [t 3 h w] in [-1, 1]."""
        for name, value in measured(frames).items():
            self.measures[name].append(value)

    def parts(self, name: str, count: int = PARTS) -> list[float]:
        """Means of a measure over `count` parts of equal length."""
        values = torch.tensor(self.measures[name])
        return [float(part.mean()) for part in values.tensor_split(count) if len(part)]

    def change(self, name: str) -> float:
        """Ratio of the last part to the first."""
        first, *_, last = self.parts(name)
        return last / first if first else float("nan")


def measured(frames: Tensor) -> dict[str, float]:
    """The measures of frames [t 3 h w] in [-1, 1].

    sharpness: root mean square of the luma's differences between neighbouring pixels, relative to
    contrast. contrast: standard deviation of the luma within a frame. colour: mean absolute
    difference of the channels from the luma. objects: share of colour and shape recognised as
    prompted.
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
    """One strategy's video: `frames` frames for the encoded prompt [1 n d], with the store of its
    finished chunks."""

    models: Models
    text: Tensor
    frames: int
    finished: Finished

    @property
    def size(self) -> Size:
        return self.models.latent_size(1, SIDE, SIDE)

    def denoiser_for(self, model: DiffusionModel, settings: Settings = SETTINGS) -> DenoiserFor:
        return self.models.denoiser_for(model, self.text, settings)

    def sampling(self, model: DiffusionModel, settings: Settings = SETTINGS) -> Sampling:
        return replace(self.models.sampling(model, settings, 0), finished=self.finished)


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
            settings=_continuation(match),
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
            settings=Hierarchy(keys=_continuation(match), between=between),
        )  # fmt: skip

    return made


def _rolling(lookahead: bool) -> Strategy:
    def made(task: Task) -> Iterator[Tensor]:
        model = task.models.text_to_video
        return rolling(
            task.denoiser_for(model, QUEUE), task.size, task.sampling(model, QUEUE), task.frames,
            settings=Rolling(window=QUEUE_WINDOW, lookahead=lookahead),
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
    """Sample and measure a video of `frames` frames by each strategy, or those in `only`.

    Finished chunks are stored: an interrupted run resumes, and all strategies but sliding windows
    can be extended to a longer video. Only sliding windows hold all latents in memory.
    """
    text, weights = models.text([PROMPT]), _weights(models)
    for name, made in STRATEGIES.items():
        if only and name not in only:
            continue
        say(f"{name}: {frames} frames")
        key = digest(name, PROMPT, vars(SETTINGS), vars(QUEUE), weights, torch.__version__)
        kept = store.run(key, {"node": "evaluate drift", "title": name, "inputs": {}})
        course = Course()
        for block in _blocks(made(Task(models, text, frames, kept))):
            course.add(models.decoded(block, per_frame=True)[0])
        say(f"{name}: {kept.made} chunks made, {kept.reused} reused")
        yield name, course


def chunk_store(folder: Path, warn: Callable[[str], object]) -> ChunkStore:
    """The chunk store in a folder."""
    return ChunkStore(folder, LIMIT, warn)


def _weights(models: Models) -> str:
    used = models.text_to_video, models.prediction, models.interpolation
    return digest([one.network.state_dict() for one in used], models.text([""]))


def as_json(found: Mapping[str, Course]) -> dict[str, Any]:
    return {name: course.measures for name, course in found.items()}


def _blocks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Latents [1 t c h w] in blocks of BLOCK frames; an incomplete last one is dropped."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        while held.shape[1] >= BLOCK:
            yield held[:, :BLOCK]
            held = held[:, BLOCK:]
