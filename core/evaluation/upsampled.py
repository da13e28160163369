"""Figures of the upsampler, and of the temporal decoder relative to the image decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..tasks.back_projection import back_projected, enlarge, shrink
from .figures import Figure, at_least, at_most
from .metrics import flicker, spectrum_distance
from .run import (
    FRAMES,
    LARGE_SIDE,
    SIDE,
    UPSAMPLING,
    UPSAMPLING_NOISE_LEVEL,
    WORLDS,
    Run,
    mean,
    mean_psnr,
)
from .unseen import held_out_videos, rendered_videos

REAL = (
    "upsampler, real: spectrum distance / bicubic's",
    "upsampler, real: PSNR below bicubic",
    "upsampler, real: flicker / per frame",
)


@dataclass(frozen=True)
class Upsampled:
    """Metrics of one upsampled video: ours, ours frame by frame, and bicubic."""

    psnr: float
    bicubic: float
    flicker: float
    flicker_frames: float
    flicker_bicubic: float
    spectrum: float
    spectrum_bicubic: float

    @classmethod
    def of(cls, run: Run, truth: Tensor) -> Upsampled:
        """Reduce the truth [b t 3 h w] by 4 (area averaging) and upsample it again."""
        low = shrink(truth)
        ours, alone = (upsampled(run, low, per_frame=alone) for alone in (False, True))
        cubic = enlarge(low).clamp(-1, 1)
        return cls(
            mean_psnr(ours, truth), mean_psnr(cubic, truth),
            flicker(ours, truth), flicker(alone, truth), flicker(cubic, truth),
            spectrum_distance(ours, truth), spectrum_distance(cubic, truth),
        )  # fmt: skip


def upsampled(run: Run, low: Tensor, *, per_frame: bool = False) -> Tensor:
    """Upsample to pixels [b t 3 4h 4w] as in the workflow `upscale_video`; families with joint
    layers for all tasks do without back-projection.

    per_frame: without temporal layers in network and decoder.
    """
    latents = run.models.upsampled(
        low, UPSAMPLING, run.seed, noise_level=UPSAMPLING_NOISE_LEVEL, per_frame=per_frame
    )
    decoded = run.models.decoded(latents, per_frame=per_frame)
    if run.models.joint:
        return decoded
    return torch.cat(list(back_projected([decoded], low)), dim=1).clamp(-1, 1)


def upsampler(run: Run) -> list[Figure]:
    """Unseen videos of both worlds at 256x256, relative to bicubic and to frame by frame."""
    measured = {world: _rendered(run, world) for world in WORLDS}
    gain = mean(one.psnr - one.bicubic for one in _all(measured))
    detail = _by_name(measured, "psnr", "bicubic")
    return [
        at_least("upsampler", "upsampler, worlds: PSNR over bicubic", gain, 1, "dB", detail),
        _flicker_figure("upsampler", "upsampler, worlds", measured),
    ]


def _rendered(run: Run, world: str) -> list[Upsampled]:
    """Measure video by video, to limit the large frames in memory."""
    size = dict(frames=run.counts.upsampled_frames, size=LARGE_SIDE)
    seeds = range(run.seed, run.seed + run.counts.upsampled)
    return [Upsampled.of(run, rendered_videos(world, 1, seed, **size)) for seed in seeds]


def upsampler_real(run: Run) -> list[Figure]:
    """Held-out real videos: spectrum, PSNR and flicker."""
    videos, missing = held_out_videos(run.counts.real_frames)
    if missing:
        return _no_real_videos(missing)
    measured = {name: [Upsampled.of(run, video)] for name, video in videos.items()}
    every = _all(measured)
    distance = mean(one.spectrum for one in every) / mean(one.spectrum_bicubic for one in every)
    below = mean(one.bicubic - one.psnr for one in every)
    spectra = _by_name(measured, "spectrum", "spectrum_bicubic")
    psnrs = _by_name(measured, "psnr", "bicubic")
    return [
        at_most("upsampler_real", REAL[0], distance, 0.6, "", spectra),
        at_most("upsampler_real", REAL[1], below, 1.5, "dB", psnrs),
        _flicker_figure("upsampler_real", "upsampler, real", measured),
    ]


def _no_real_videos(missing: list[str]) -> list[Figure]:
    why = {"skipped": f"no video {', '.join(missing)}"}
    targets = zip(REAL, (0.6, 1.5, 0.8), ("", "dB", ""), strict=True)
    return [at_most("upsampler_real", name, None, target, unit, why)
            for name, target, unit in targets]  # fmt: skip


def _flicker_figure(group: str, what: str, measured: dict[str, list[Upsampled]]) -> Figure:
    every = _all(measured)
    ratio = mean(one.flicker for one in every) / mean(one.flicker_frames for one in every)
    detail = _by_name(measured, "flicker", "flicker_frames", "flicker_bicubic")
    return at_most(group, f"{what}: flicker / per frame", ratio, 0.8, "", detail)


def _all(measured: dict[str, list[Upsampled]]) -> list[Upsampled]:
    return [one for some in measured.values() for one in some]


def _by_name(measured: dict[str, list[Upsampled]], *fields: str) -> dict[str, float]:
    return {
        f"{name} {what.replace('_', ' ')}": mean(getattr(one, what) for one in some)
        for name, some in measured.items()
        for what in fields
    }


# --------------------------------------------------------------------------------------------------
# The temporal decoder.


def decoder(run: Run) -> list[Figure]:
    """Rendered and real videos, decoded by the temporal decoder and frame by frame.

    The flicker is the mean of the ratios of videos, so that calm ones count as much as lively ones.
    """
    rendered = {
        world: rendered_videos(world, run.counts.decoded, run.seed, frames=FRAMES, size=SIDE)
        for world in WORLDS
    }
    real, missing = held_out_videos(run.counts.real_frames)
    measured = {name: _decoded(run, truth) for name, truth in (rendered | real).items()}
    ratios = {name: one["flicker"] / one["flicker frames"] for name, one in measured.items()}
    gain = mean(one["psnr"] - one["psnr frames"] for one in measured.values())
    psnrs = {
        f"{name} {what}": one[what] for name, one in measured.items() for what in one
        if what.startswith("psnr")
    }  # fmt: skip
    note = {"missing": ", ".join(missing)} if missing else {}
    name = "temporal decoder"
    return [
        at_most("decoder", f"{name}: flicker / per frame", mean(ratios.values()), 0.8, "",
                ratios | note),
        at_least("decoder", f"{name}: PSNR over per frame", gain, 0, "dB", psnrs | note),
    ]  # fmt: skip


def _decoded(run: Run, truth: Tensor) -> dict[str, float]:
    latents = run.models.encoded(truth)
    ours, alone = (run.models.decoded(latents, per_frame=alone) for alone in (False, True))
    return {
        "flicker": flicker(ours, truth),
        "flicker frames": flicker(alone, truth),
        "psnr": mean_psnr(ours, truth),
        "psnr frames": mean_psnr(alone, truth),
    }
