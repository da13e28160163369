"""Whether temporal fine-tuning of a decoder reduces flicker: the recipe `decoder_fine_tuning` at
toy size, measured on unseen videos.

The image autoencoder it starts from is fully trained, so that more steps would hardly improve
single frames. A control, the same layers with kernels of one frame, shows how much of the gain is
due to neighbouring frames rather than to more weights and steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..families.embedded import loading as embedded
from ..networks.autoencoder import decode_frames, encode
from ..training.recipe import load_recipe
from ..training.tasks import build_task
from ..training.trainer import train
from ..training.video_decoder_task import load_autoencoder
from .metrics import flicker, psnr
from .run import SIDE, WORLDS
from .unseen import FIRST_SEED, rendered_videos

FRAMES, VIDEOS = 16, 4
STEPS = 500
START = "autoencoder"
"""The pack's own image autoencoder; any other name or path works."""
SETTINGS = (
    "batch=1", "learning_rate=4e-3", "warmup=20", "ema=0.98", "data.losses.disc_weight=0.0",
    "data.size=64", "data.max_size=64", "data.frames=8",
)  # fmt: skip
"""Overrides of the recipe: toy size, without the adversarial loss."""
VARIANTS = {"in time": (), "frame by frame": ("model.kernel=1",)}
"""The temporal layers, and the control."""
LATENTS = ("sampled", "mode")
"""Of the encoder's posterior: a sample per frame, as in the training of image models, or its mode.
"""

Say = Callable[[str], object]


@dataclass(frozen=True)
class Quality:
    """Quality of decoded videos against the true ones; psnr in dB."""

    flicker: float
    psnr: float

    @classmethod
    def of(cls, made: Tensor, truth: Tensor) -> Quality:
        return cls(flicker(made, truth), psnr(made, truth))


@dataclass(frozen=True)
class FineTuned:
    """Quality by world and latents: of the image decoder, and of VARIANTS after training."""

    before: Mapping[str, Quality]
    after: Mapping[str, Mapping[str, Quality]]

    def ratio(self, variant: str, what: str) -> float:
        """Flicker after training relative to before."""
        return self.after[variant][what].flicker / self.before[what].flicker

    def gain(self, variant: str, what: str) -> float:
        """PSNR after training minus that before, in dB."""
        return self.after[variant][what].psnr - self.before[what].psnr


@torch.no_grad()
def qualities(autoencoder: AutoencoderKL, decode: Callable[[Tensor], Tensor]) -> dict[str, Quality]:
    """Quality of a decoder of the autoencoder's latents, by world and LATENTS."""
    found = {}
    for world in WORLDS:
        truth = rendered_videos(world, VIDEOS, FIRST_SEED, frames=FRAMES, size=SIDE)
        for kind in LATENTS:
            made = [decode(_latents(autoencoder, one, i, kind)) for i, one in enumerate(truth)]
            found[f"{world}, {kind}"] = Quality.of(torch.cat(made).clamp(-1, 1), truth)
    return found


def _latents(autoencoder: AutoencoderKL, video: Tensor, seed: int, kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(seed) if kind == "sampled" else None
    return encode(autoencoder, video[None], generator=generator)


def trained(folder: Path, say: Say, *changes: str) -> Path:
    """Train the recipe with SETTINGS and `changes`, resuming from `folder`; returns the path of the
    weights."""
    recipe = load_recipe("decoder_fine_tuning", (*SETTINGS, *changes))
    task = build_task(recipe, folder)
    return train(recipe, task, folder, device=torch.device("cpu"), workers=0, report=say)


def fine_tuned(
    folder: Path, say: Say, *changes: str, steps: int = STEPS, start: str = START
) -> FineTuned:
    """Train each of VARIANTS for `steps` steps in `folder` and measure it. changes: overrides of
    the recipe besides SETTINGS. start: the image autoencoder."""
    autoencoder = load_autoencoder(start)
    before = qualities(autoencoder, lambda latents: decode_frames(autoencoder, latents))
    after = {}
    for name, kernel in VARIANTS.items():
        say(f"{name}, {steps} steps:")
        overrides = (f"start_from.autoencoder={start}", f"steps={steps}", *changes, *kernel)
        path = trained(folder / name.replace(" ", "_"), say, *overrides)
        after[name] = qualities(autoencoder, embedded.load_temporal_decoder(path))
    return FineTuned(before, after)


def table(found: FineTuned) -> str:
    """One line for each variant, world and kind of latents."""
    lines = []
    for variant, after in found.after.items():
        for what, new in after.items():
            old = found.before[what]
            lines.append(
                f"{variant}, {what}: flicker {new.flicker:.5f} is "
                f"{found.ratio(variant, what):.3f} of {old.flicker:.5f} before; PSNR "
                f"{new.psnr:.2f} dB, {found.gain(variant, what):+.2f} dB"
            )
    return "\n".join(lines)


def report(folder: Path, say: Say = print) -> tuple[dict[str, Any], str]:
    """(values, text) by variant, world and latents; the decoders are kept in `folder`."""
    found = fine_tuned(folder / "fine_tuning", say)
    values = {variant: {what: _values(found, variant, what) for what in after}
              for variant, after in found.after.items()}  # fmt: skip
    return values, table(found)


def _values(found: FineTuned, variant: str, what: str) -> dict[str, Any]:
    old, new = found.before[what], found.after[variant][what]
    ratio = found.ratio(variant, what)
    return {"flicker": [old.flicker, new.flicker], "ratio": ratio, "psnr": [old.psnr, new.psnr]}
