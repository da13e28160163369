"""Training one network for generation, prediction and interpolation (LVDM, section 3).

It works on the latents of a 3D autoencoder. Key frames, which are generated or predicted, lie
`spacing` latent frames apart; interpolation fills in those between two of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..diffusion.schedules import scaled_linear
from ..families import lvdm
from ..families.embedded import loading as embedded
from ..families.embedded import worlds
from ..networks.autoencoder_3d import Autoencoder3D
from ..networks.factorised_unet import FactorisedConfig, FactorisedUNet, GivenFramesSpec
from ..networks.layers.factorised_transformers import SplitAttentionSpec
from .given_frames import (
    HIGHEST_LEVEL,
    MaskDistribution,
    draw_noise,
    given_frames_error,
    l1,
    l2,
)
from .recipe import Recipe

LOSSES = {"l1": l1, "l2": l2}


@dataclass(frozen=True, kw_only=True)
class LatentPlan:
    """The training videos: `count` scenes of `latents` latent frames, which start at a random base
    frame in 0 .. `latest_start`."""

    count: int
    latents: int = 17
    size: int = 64
    world: str = "driving"
    latest_start: float = 240.0
    seed: int = 0

    def render(self, index: int, frames: int) -> np.ndarray:
        """One video [t 3 h w]."""
        random = np.random.default_rng((self.seed, index))
        scene = worlds.sample_scene(self.world, int(random.integers(2**31)))
        times = random.uniform(0, self.latest_start) + np.arange(frames)
        return worlds.render(scene, times=times, size=self.size)


def encoded(plan: LatentPlan, autoencoder: Autoencoder3D, folder: Path) -> Tensor:
    """Latents [n t c h w] of all videos, float16 means of the posterior; cached in `folder`."""
    fingerprint = hashlib.sha256(json.dumps(vars(plan), sort_keys=True).encode())
    fingerprint.update(autoencoder.mix_moments.conv.weight.detach().float().cpu().numpy().tobytes())
    path = folder / f"videos-{fingerprint.hexdigest()[:16]}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        frames = plan.latents * autoencoder.temporal_factor
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = [
                autoencoder.encode(torch.from_numpy(plan.render(i, frames))[None])[0].half()
                for i in track(range(plan.count), f"encoding {plan.count} videos")
            ]
        save_file({"latents": torch.stack(found).contiguous()}, path)
    return load_file(path)["latents"]


class TrainGivenFrames:
    """LVDM's factorised U-Net, trained with random masks (see `given_frames`).

    In the recipe, `model` has the network's sizes, `data.masks` the `MaskDistribution`,
    `data.frames` the latent frames of a window, and `data.spacing` the distance of key frames.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe, data = recipe, recipe.data
        self.autoencoder = lvdm.load_autoencoder(embedded.path_of(recipe.start_from["autoencoder"]))
        self.frames, self.spacing = data["frames"], data["spacing"]
        latents = (self.frames - 1) * self.spacing + 1
        plan = LatentPlan(latents=latents, **data["videos"])
        self.latents = encoded(plan, self.autoencoder, cache)
        self.masks = MaskDistribution(**data["masks"])
        self.error_of = LOSSES[data.get("loss", "l1")]
        self.prediction = data.get("prediction", "eps")
        first, last = lvdm.UNCONDITIONAL_BETAS
        self.schedule = scaled_linear(start=first, end=last)
        sizes = embedded.tuples(recipe.model)
        attention = SplitAttentionSpec(heads=sizes.pop("heads"), max_distance=self.frames)
        channels = self.autoencoder.config.latent_channels
        given = GivenFramesSpec(levels=HIGHEST_LEVEL + 1)
        self.config = FactorisedConfig(
            attention=attention, given=given, latent_channels=channels, **sizes
        )
        self.module = FactorisedUNet(self.config)

    def batch(self, step: int) -> dict:
        """Windows with their masks: of consecutive frames for interpolation, else of key frames."""
        random, choose = (
            Random(f"{self.recipe.seed}/{step}"),
            np.random.default_rng((self.recipe.seed, step)),
        )
        masks = [self.masks.draw(self.frames, random) for _ in range(self.recipe.batch)]
        windows = []
        for mask in masks:
            video = self.latents[choose.integers(len(self.latents))]
            filled_in = bool(mask[-1])
            spacing = 1 if filled_in else self.spacing
            start = choose.integers(len(video) - (self.frames - 1) * spacing)
            windows.append(video[start::spacing][: self.frames].float())
        return {"latents": torch.stack(windows), "mask": torch.tensor(masks)}

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        x0, mask = batch["latents"], batch["mask"]
        noise = draw_noise(x0, self.schedule.steps, generator)
        how = dict(prediction=self.prediction)
        error = given_frames_error(self.module, self.schedule, x0, mask, noise, **how).float()
        made = (1 - mask)[:, :, None, None, None].expand_as(error)
        return {
            "loss": self.error_of(error),
            "new_frames": (error.detach().square() * made).sum() / made.sum(),
        }

    def save(self, path: Path, notes: dict) -> None:
        config = self.autoencoder.config
        lvdm.save_model(path, self.module, config, notes, prediction=self.prediction)
