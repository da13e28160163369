"""What a long video slowly loses: sharpness, contrast, colour and objects against frame number, for
every strategy, of the embedded models on the world `shapes`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..tasks.long_video import (
    Between,
    Continuation,
    Hierarchy,
    SlidingWindows,
    hierarchical,
    prediction,
    sliding,
)
from ..tasks.rolling import Rolling, rolling
from .metrics import LUMA
from .models import How, Models
from .rules import matches, recognise

PROMPT, WANTED = "a red star rotates on a black background", ("red", "star", "rotates")
FRAMES, WINDOW, SIDE, BLOCK = 10_000, 16, 64, 16
HOW = How(steps=16, cfg=3.0, sampler="ddim")
FILLING = How(steps=8, sampler="ddim")
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


def _sliding(models: Models, text: Tensor, frames: int) -> Iterator[Tensor]:
    model = models.text_to_video
    return sliding(
        models.denoiser_for(model, text, HOW), models.latent_size(1, SIDE, SIDE),
        models.sampling(model, HOW, 0), frames, windows=SlidingWindows(window=WINDOW, overlap=4),
    )  # fmt: skip


def _continuation(match: float) -> Continuation:
    return Continuation(window=WINDOW, context=1, match=match)


def _prediction(match: float) -> Callable[[Models, Tensor, int], Iterator[Tensor]]:
    def made(models: Models, text: Tensor, frames: int) -> Iterator[Tensor]:
        model = models.prediction
        return prediction(
            models.denoiser_for(model, text, HOW), models.latent_size(1, SIDE, SIDE),
            models.sampling(model, HOW, 0), frames, how=_continuation(match),
        )  # fmt: skip

    return made


def _hierarchical(models: Models, text: Tensor, frames: int) -> Iterator[Tensor]:
    model, between = models.prediction, models.interpolation
    how = Hierarchy(
        keys=_continuation(0.0),
        between=Between(
            denoiser_for=models.denoiser_for(between, text, FILLING),
            sampling=models.sampling(between, FILLING, 0), passes=1,
        ),
    )  # fmt: skip
    return hierarchical(
        models.denoiser_for(model, text, HOW), models.latent_size(1, SIDE, SIDE),
        models.sampling(model, HOW, 0), frames, how=how,
    )  # fmt: skip


def _rolling(lookahead: bool) -> Callable[[Models, Tensor, int], Iterator[Tensor]]:
    def made(models: Models, text: Tensor, frames: int) -> Iterator[Tensor]:
        model = models.text_to_video
        return rolling(
            models.denoiser_for(model, text, HOW), models.latent_size(1, SIDE, SIDE),
            models.sampling(model, HOW, 0), frames,
            how=Rolling(window=WINDOW, lookahead=lookahead),
        )  # fmt: skip

    return made


STRATEGIES: dict[str, Callable[[Models, Tensor, int], Iterator[Tensor]]] = {
    "sliding windows": _sliding,
    "prediction": _prediction(0.0),
    "prediction, colours matched": _prediction(1.0),
    "hierarchical": _hierarchical,
    "rolling": _rolling(False),
    "rolling, lookahead": _rolling(True),
}


@torch.no_grad()
def courses(
    models: Models, frames: int = FRAMES, say: Callable[[str], None] = lambda text: None
) -> dict[str, Course]:
    """The course of every strategy over a video of `frames` frames; no video is in memory."""
    text, found = models.text([PROMPT]), {}
    for name, made in STRATEGIES.items():
        say(f"{name}: {frames} frames")
        found[name] = Course()
        for block in _blocks(made(models, text, frames)):
            found[name].add(models.decoded(block, per_frame=True)[0])
    return found


def _blocks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Latents [1 t c h w] in blocks of BLOCK frames; what is left over at the end is left out."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=1)
        while held.shape[1] >= BLOCK:
            yield held[:, :BLOCK]
            held = held[:, BLOCK:]


# --------------------------------------------------------------------------------------------------
# The table and the plot.


def table(found: dict[str, Course], frames: int) -> str:
    """Markdown: each measure in the first and the last fifth of the video."""
    lines = [f"| strategy, {frames} frames | {' | '.join(MEASURES)} |"]
    lines.append("| --- |" + " ---: |" * len(MEASURES))
    for name, course in found.items():
        cells = [f"{course.parts(one)[0]:.3f} → {course.parts(one)[-1]:.3f}" for one in MEASURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(found: dict[str, Course]) -> dict[str, Any]:
    return {name: course.measures for name, course in found.items()}


COLOURS = ((230, 75, 60), (60, 130, 230), (90, 190, 230), (80, 180, 90), (240, 180, 50),
           (170, 100, 210))  # fmt: skip


def plot(found: dict[str, Course]) -> Any:
    """A PIL picture: a panel for each measure, a line for each strategy, frames to the right."""
    from PIL import Image, ImageDraw

    wide, high, edge = 720, 180, 30
    picture = Image.new("RGB", (wide, high * len(MEASURES) + 20 * len(found)), "white")
    draw = ImageDraw.Draw(picture)
    for row, measure in enumerate(MEASURES):
        top = row * high
        most = max(max(course.measures[measure], default=0.0) for course in found.values()) or 1.0
        draw.text((edge, top + 4), f"{measure} (0 to {most:.3g})", "black")
        draw.line((edge, top + high - 6, wide - edge, top + high - 6), "gray")
        for course, colour in zip(found.values(), COLOURS, strict=False):
            values = course.measures[measure]
            step = (wide - 2 * edge) / max(len(values) - 1, 1)
            draw.line([(edge + k * step, top + high - 6 - value / most * (high - edge))
                       for k, value in enumerate(values)], colour, 2)  # fmt: skip
    for k, (name, colour) in enumerate(zip(found, COLOURS, strict=False)):
        draw.text((edge, high * len(MEASURES) + 20 * k), name, colour)
    return picture
