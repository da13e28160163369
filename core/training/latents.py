"""Latents of rendered clips, encoded once and kept: what the diffusion models train on.

The autoencoder is frozen by then, so encoding a clip again in every epoch would be work done twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import worlds
from ..autoencoder import encode
from ..worlds import Box


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Which clips: ``count`` scenes of ``frames`` frames, ``rate`` base frames apart.

    ``shapes_share`` of them are shapes, the others driving; they start at a time drawn from
    0 .. ``latest_start``, which is 0 for half of them in any case.
    """

    count: int
    frames: int = 16
    rate: float = 1.0
    size: int = 64
    shapes_share: float = 0.5
    latest_start: float = 0.0
    seed: int = 0

    def scene(self, index: int) -> tuple[worlds.Scene, np.ndarray]:
        """The scene of clip ``index`` and the times of its frames."""
        random = np.random.default_rng((self.seed, index))
        world = "shapes" if random.random() < self.shapes_share else "driving"
        start = random.uniform(0, self.latest_start) if random.random() < 0.5 else 0.0
        scene = worlds.sample_scene(world, int(random.integers(2**31)))
        return scene, start + self.rate * np.arange(self.frames)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips: latents [n, t, c, h, w] float16, captions with and without the motion, and the
    boxes of every frame; ``plan`` says which clips these are."""

    plan: ClipPlan
    latents: Tensor
    captions: list[tuple[str, str]]
    boxes: list[list[list[Box]]]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def with_two_shapes(self) -> list[int]:
        """The numbers of these clips."""
        return [i for i in range(self.plan.count) if _shows_two_shapes(self.plan.scene(i)[0])]

    def draw(self, count: int, random: np.random.Generator, *, two_objects: float) -> np.ndarray:
        """The numbers of ``count`` clips, a share of ``two_objects`` from those with two shapes
        alone."""
        chosen = random.integers(len(self), size=count)
        if not two_objects or not self.with_two_shapes:
            return chosen
        again = random.choice(self.with_two_shapes, size=count)
        return np.where(random.random(count) < two_objects, again, chosen)


def reading_scenes(plan: ClipPlan) -> list[worlds.Scene]:
    """The scenes of ``plan`` with two shapes, whose captions alone are trained on. Of scenes with
    one there are few enough captions for clips to show most of them: the rest stays unseen.
    """
    scenes = (plan.scene(i)[0] for i in range(plan.count))
    return [scene for scene in scenes if _shows_two_shapes(scene)]


def _shows_two_shapes(scene: worlds.Scene) -> bool:
    return isinstance(scene, worlds.ShapesScene) and len(scene.objects) == 2


def latent_clips(plan: ClipPlan, autoencoder: AutoencoderKL, folder: Path) -> LatentClips:
    """Load the clips of ``plan`` from ``folder``, encoding them first if they are not there."""
    fingerprint = hashlib.sha256(json.dumps(vars(plan), sort_keys=True).encode())
    fingerprint.update(autoencoder.encoder.conv_out.weight.detach().float().cpu().numpy().tobytes())
    path = folder / f"clips-{fingerprint.hexdigest()[:16]}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"latents": encode_plan(plan, autoencoder)}, path)
    latents = load_file(path)["latents"]
    scenes = [plan.scene(i) for i in range(plan.count)]
    captions = [(worlds.caption(s), worlds.caption(s, motion=False)) for s, _ in scenes]
    boxes = [[list(worlds.boxes(s, float(t))) for t in times] for s, times in scenes]
    return LatentClips(plan, latents, captions, boxes)


@torch.no_grad()
def encode_plan(plan: ClipPlan, autoencoder: AutoencoderKL) -> Tensor:
    """Render and encode every clip of ``plan``; scaled latents [n, t, c, h, w] as float16."""
    device = autoencoder.device
    clips = []
    for index in track(range(plan.count), f"encoding {plan.count} clips"):
        scene, times = plan.scene(index)
        video = torch.from_numpy(worlds.render(scene, times=times, size=plan.size))[None]
        with torch.autocast(device.type, torch.bfloat16):
            clips.append(encode(autoencoder, video.to(device), chunk=64)[0].half().cpu())
    return torch.stack(clips).contiguous()
