"""Whether fine-tuning a decoder in time lowers its flicker: the recipe `decoder_fine_tuning` at toy
size, on an image autoencoder trained for that, measured on videos that training never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
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
STEPS = 4000
IMAGES = (
    "steps=500", "batch=8", "save_every=500", "model.channels=[16, 32, 48]",
    "model.latent_channels=4", "data.size=48", "data.real_share=0.0",
)  # fmt: skip
"""Of the recipe `autoencoder`: a small one of half the channels."""
DECODER = (
    "batch=1", "learning_rate=1e-2", "warmup=50", "ema=0.998", "model.spatial=[3, 3, 3, 1]",
    "data.size=64", "data.max_size=64", "data.frames=8", "data.losses.disc_weight=0.0",
)  # fmt: skip
"""Of the recipe `decoder_fine_tuning`: whole frames, reconstruction alone."""


@dataclass(frozen=True)
class Quality:
    """Of decoded videos against the true ones."""

    flicker: float
    psnr: float

    @classmethod
    def of(cls, made: Tensor, truth: Tensor) -> Quality:
        return cls(flicker(made, truth), psnr(made, truth))


def trained(name: str, folder: Path, *changes: str) -> Path:
    """The file that a recipe of this project leaves in `folder`."""
    recipe = load_recipe(name, changes)
    task = build_task(recipe, folder)
    return train(recipe, task, folder, device=torch.device("cpu"), workers=0, report=lambda _: None)


@torch.no_grad()
def qualities(autoencoder: AutoencoderKL, decode: Callable[[Tensor], Tensor]) -> dict[str, Quality]:
    """Of a decoder of an autoencoder's latents, by world."""
    found = {}
    for world in WORLDS:
        truth = rendered_videos(world, VIDEOS, FIRST_SEED, frames=FRAMES, size=SIDE)
        made = torch.cat([decode(encode(autoencoder, one[None])) for one in truth])
        found[world] = Quality.of(made.clamp(-1, 1), truth)
    return found


def fine_tuned(
    folder: Path, steps: int = STEPS, *changes: str
) -> tuple[dict[str, Quality], dict[str, Quality]]:
    """Before, frame by frame, and after fine-tuning; what is trained is left in `folder`. changes:
    of the recipe, besides DECODER."""
    path = trained("autoencoder", folder / "images", *IMAGES)
    autoencoder = load_autoencoder(str(path))
    before = qualities(autoencoder, lambda latents: decode_frames(autoencoder, latents))
    more = (f"start_from.autoencoder={path}", f"steps={steps}", f"save_every={steps}")
    made = trained("decoder_fine_tuning", folder / "videos", *DECODER, *more, *changes)
    return before, qualities(autoencoder, embedded.load_temporal_decoder(made))


def report() -> tuple[dict[str, Any], str]:
    """The figures by world, and a line for each."""
    with TemporaryDirectory() as folder:
        before, after = fine_tuned(Path(folder))
    found, lines = {}, []
    for world in before:
        old, new = before[world], after[world]
        found[world] = {"flicker": [old.flicker, new.flicker], "psnr": [old.psnr, new.psnr],
                        "ratio": new.flicker / old.flicker}  # fmt: skip
        lines.append(
            f"{world}, {STEPS} steps: flicker {new.flicker:.4f} is {new.flicker / old.flicker:.2f} "
            f"of {old.flicker:.4f} before; PSNR {new.psnr:.2f} dB, before {old.psnr:.2f} dB"
        )
    return found, "\n".join(lines)
