"""Whether fine-tuning a decoder in time lowers its flicker: the recipe `decoder_fine_tuning` at toy
size, on the autoencoder that comes with the pack, measured on videos that training never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ..families.embedded import loading as embedded
from ..networks.autoencoder import decode_frames, encode
from ..training.recipe import Recipe, load_recipe
from ..training.tasks import build_task
from ..training.trainer import train
from .metrics import flicker, psnr
from .run import SIDE, WORLDS
from .unseen import FIRST_SEED, rendered_videos

FRAMES, VIDEOS = 16, 4
STEPS = 240
TOY = (
    "start_from.autoencoder=autoencoder", "learning_rate=2e-3", "batch=2", "warmup=20", "ema=0.98",
    "model.spatial=[3, 3, 1, 1]", "data.size=32", "data.frames=6", "data.max_size=64",
    "data.losses.disc_weight=0.1", "data.discriminator={width = 16, depth = 2}",
)  # fmt: skip


@dataclass(frozen=True)
class Quality:
    """Of decoded videos against the true ones."""

    flicker: float
    psnr: float

    @classmethod
    def of(cls, made: Tensor, truth: Tensor) -> Quality:
        return cls(flicker(made, truth), psnr(made, truth))


def toy_recipe(steps: int) -> Recipe:
    """The recipe at toy size; the discriminator joins after two thirds of the steps."""
    start = f"data.losses.disc_start={2 * steps // 3}"
    recipe = load_recipe("decoder_fine_tuning", (*TOY, start, f"steps={steps}"))
    return replace(recipe, save_every=steps)


@torch.no_grad()
def qualities(decode: Callable[[Tensor], Tensor]) -> dict[str, Quality]:
    """Of a decoder of the pack's latents, by world."""
    autoencoder, found = embedded.load_autoencoder(), {}
    for world in WORLDS:
        truth = rendered_videos(world, VIDEOS, FIRST_SEED, frames=FRAMES, size=SIDE)
        made = torch.cat([decode(encode(autoencoder, one[None])) for one in truth])
        found[world] = Quality.of(made.clamp(-1, 1), truth)
    return found


def fine_tuned(folder: Path, steps: int = STEPS) -> tuple[dict[str, Quality], dict[str, Quality]]:
    """Before, frame by frame, and after fine-tuning; what is trained is left in `folder`."""
    autoencoder = embedded.load_autoencoder()
    before = qualities(lambda latents: decode_frames(autoencoder, latents))
    recipe = toy_recipe(steps)
    task = build_task(recipe, folder)
    path = train(recipe, task, folder, device=torch.device("cpu"), workers=0, report=lambda _: None)
    return before, qualities(embedded.load_temporal_decoder(path))


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
