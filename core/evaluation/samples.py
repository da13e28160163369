"""Contact sheets of uncurated samples: eight per task, of consecutive seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from ..families.embedded import worlds
from ..media.contact_sheet import contact_sheet
from ..tasks.back_projection import enlarge, shrink
from ..tasks.interpolation import linear_blend
from .models import Models, Settings
from .run import (
    FRAMES,
    IMAGE,
    INTERPOLATION,
    LARGE_SIDE,
    SIDE,
    TEXT_TO_VIDEO,
    WORLDS,
    Run,
)
from .unseen import FIRST_SEED, rendered_videos, unseen_prompts, unseen_scenes, unseen_shapes
from .upsampled import upsampled

# As in the workflows long_video and driving_simulation.
PREDICTION = Settings(steps=15, cfg=2.0)
FUTURE = Settings(steps=25, cfg=1.5)
LONG_CONTEXT = 2
LONG = 61  # frames of a predicted video
FUTURES = 4  # of each start frame
UPSAMPLED_FRAMES = 8
ERROR_GAIN = 5  # amplification of displayed errors


@dataclass(frozen=True, kw_only=True)
class SheetSettings:
    """The number of samples, and the maximum number of frames of each."""

    run: Run
    samples: int = 8
    segment_frames: int | None = None

    def frames(self, usual: int) -> int:
        return min(usual, self.segment_frames or usual)

    @property
    def models(self) -> Models:
        return self.run.models


def write_samples(
    folder: str | PathLike[str],
    report: Callable[[str], object] = print,
    *,
    only: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    seed0: int = FIRST_SEED,
    samples: int = 8,
    segment_frames: int | None = None,
) -> list[Path]:
    """Write one PNG per task (see `SHEETS`) to the folder and return their paths.

    segment_frames: maximum frames per video. Raises ValueError for an unknown name in `only`.
    """
    unknown = [name for name in only or () if name not in SHEETS]
    if unknown:
        raise ValueError(f"There is no sheet {unknown[0]!r}; known are {', '.join(SHEETS)}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(models=Models(device), seed=seed0)
    sheet = SheetSettings(run=run, samples=samples, segment_frames=segment_frames)
    written = []
    for name in only or SHEETS:
        path = folder / f"{name}.png"
        SHEETS[name](sheet).save(path, optimize=True)
        report(f"{path}: {samples} samples of consecutive seeds from {seed0}")
        written.append(path)
    return written


# --------------------------------------------------------------------------------------------------
# Generation.


def text_to_video(sheet: SheetSettings) -> Image:
    """Unseen prompts of `shapes`, alternately with one object and with two."""
    scenes = unseen_shapes(sheet.samples, sheet.run.seed)
    return _generated(sheet, [worlds.caption(scene) for scene in scenes])


def driving(sheet: SheetSettings) -> Image:
    """Unseen prompts of `driving`."""
    return _generated(sheet, unseen_prompts("driving", sheet.samples, sheet.run.seed))


def _generated(sheet: SheetSettings, prompts: list[str]) -> Image:
    models, frames = sheet.models, sheet.frames(FRAMES)
    latents = models.videos(models.text_to_video, models.text(prompts), TEXT_TO_VIDEO,
                           sheet.run.seed, frames=frames, side=SIDE)  # fmt: skip
    return _sheet(models.decoded(latents), prompts)


def image_to_video(sheet: SheetSettings) -> Image:
    """The first frame (left) of an unseen rendered video, continued; worlds alternate."""
    return _continued(sheet, IMAGE, sheet.frames(FRAMES), context=1)


def long_video(sheet: SheetSettings) -> Image:
    """61 frames predicted from a rendered first frame; eight of them are shown."""
    return _continued(sheet, PREDICTION, sheet.frames(LONG), context=LONG_CONTEXT)


def _continued(sheet: SheetSettings, settings: Settings, frames: int, context: int) -> Image:
    models = sheet.models
    scenes = _scenes_in_turn(sheet)
    first = torch.stack([_rendered(scene, 1) for scene in scenes])
    prompts = [worlds.caption(scene) for scene in scenes]
    latents = models.continued(models.encoded(first), models.text(prompts), settings,
                               sheet.run.seed, frames=frames, context=context)  # fmt: skip
    return _sheet(models.decoded(latents), prompts)


def _scenes_in_turn(sheet: SheetSettings) -> list[worlds.Scene]:
    kinds = [unseen_scenes(world, sheet.run.seed) for world in WORLDS]
    return [next(kinds[k % len(kinds)]) for k in range(sheet.samples)]


def _rendered(scene: worlds.Scene, frames: int, side: int = SIDE) -> Tensor:
    return torch.from_numpy(worlds.render(scene, times=torch.arange(frames).numpy(), size=side))


def driving_futures(sheet: SheetSettings) -> Image:
    """Start frames generated from prompts with bounding boxes, and four futures of each."""
    models, seed = sheet.models, sheet.run.seed
    scenes = (scene for scene in unseen_scenes("driving", seed) if scene.cars)
    chosen = list(islice(scenes, -(-sheet.samples // FUTURES)))
    prompts = [worlds.caption(scene, motion=False) for scene in chosen]
    condition = models.text_and_boxes(prompts, [_visible_boxes(scene) for scene in chosen])
    first = models.videos(models.image.model, condition, IMAGE, seed, frames=1, side=SIDE)
    of = [k // FUTURES for k in range(sheet.samples)]
    text = models.text([prompts[k] for k in of])
    latents = models.continued(first[of], text, FUTURE, seed, frames=sheet.frames(FRAMES))
    labels = [f"start {k + 1}, future {n % FUTURES + 1}: {prompts[k]}" for n, k in enumerate(of)]
    return _sheet(models.decoded(latents), labels)


def _visible_boxes(scene: worlds.Scene) -> list[worlds.Box]:
    """The boxes that are more than 0.02 of the image wide and high."""
    return [box for box in worlds.boxes(scene) if min(box.x1 - box.x0, box.y1 - box.y0) > 0.02]


def _sheet(videos: Tensor, labels: Sequence[str]) -> Image:
    return contact_sheet(list(videos), labels=labels, frames_per_row=8, scale=2)


# --------------------------------------------------------------------------------------------------
# Interpolation, upsampling and decoding.


def interpolation(sheet: SheetSettings) -> Image:
    """Between key frames of unseen videos (pictures 1, 5 and 9): ours, and linear blending."""
    scenes = _scenes_in_turn(sheet)
    keys = torch.stack([_rendered(scene, 3) for scene in scenes])
    models = sheet.models
    text = models.text([""]).expand(len(keys), -1, -1)
    latents = models.interpolated(
        models.encoded(keys), text, INTERPOLATION, sheet.run.seed, passes=1
    )
    pairs = zip(models.decoded(latents), linear_blend(keys), scenes, strict=True)
    rows = [row for ours, blend, _ in pairs for row in (ours, blend)]
    labels = [text for scene in scenes for text in (worlds.caption(scene), "linear blending")]
    return contact_sheet(rows, labels=labels, frames_per_row=9, scale=2)


def upsampling(sheet: SheetSettings) -> Image:
    """The middle frames of unseen videos: low resolution, bicubic, ours, truth."""
    frames, rows = sheet.frames(UPSAMPLED_FRAMES), []
    for k in range(sheet.samples):
        world, seed = WORLDS[k % len(WORLDS)], sheet.run.seed + k
        truth = rendered_videos(world, 1, seed, frames=frames, size=LARGE_SIDE)
        low = shrink(truth)
        nearest = F.interpolate(low.flatten(0, 1), scale_factor=4).unflatten(0, low.shape[:2])
        versions = nearest, enlarge(low).clamp(-1, 1), upsampled(sheet.run, low), truth
        rows.append(torch.stack([video[0, frames // 2] for video in versions]))
    heading = "low resolution | bicubic | ours | truth"
    return contact_sheet(rows, labels=[heading, *[""] * (len(rows) - 1)], frames_per_row=4)


def decoding(sheet: SheetSettings) -> Image:
    """Unseen videos: truth, image decoder, temporal decoder, and the flicker of both decoders."""
    frames, rows = sheet.frames(FRAMES), []
    for k in range(sheet.samples):
        world, seed = WORLDS[k % len(WORLDS)], sheet.run.seed + k
        truth = rendered_videos(world, 1, seed, frames=frames, size=SIDE)
        latents = sheet.models.encoded(truth)
        both = [sheet.models.decoded(latents, per_frame=alone) for alone in (True, False)]
        errors = [(video - truth).diff(dim=1).abs() * ERROR_GAIN - 1 for video in both]
        shown = [*(video[0, frames // 2] for video in (truth, *both)),
                 *(error[0, frames // 2 - 1].clamp(-1, 1) for error in errors)]  # fmt: skip
        rows.append(torch.stack(shown))
    heading = f"truth | image decoder | temporal decoder | flicker of both, times {ERROR_GAIN}"
    labels = [heading, *[""] * (len(rows) - 1)]
    return contact_sheet(rows, labels=labels, frames_per_row=5, scale=2)


SHEETS: dict[str, Callable[[SheetSettings], Image]] = {
    "text_to_video": text_to_video,
    "driving": driving,
    "image_to_video": image_to_video,
    "long_video": long_video,
    "driving_futures": driving_futures,
    "interpolation": interpolation,
    "upsampling": upsampling,
    "decoding": decoding,
}
