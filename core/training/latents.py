"""Latents of rendered videos, on which the diffusion models train.

They are encoded once and cached: the autoencoder is frozen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..families.embedded import worlds
from ..families.embedded.worlds import Box
from ..networks.autoencoder import encode

ONE_OBJECT, TWO_OBJECTS = "one object", "two objects"


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """A set of rendered videos: ``count`` scenes of ``frames`` frames, ``rate`` base frames apart.

    ``shapes_share`` of them are shapes, the others driving. Half of them start at 0, the others at
    a random time in 0 .. ``latest_start`` (base frames). size: a side, or (height, width). labels:
    captions are the labels of the scenes, without motion.
    """

    count: int
    frames: int = 16
    rate: float = 1.0
    size: int | Sequence[int] = 64
    shapes_share: float = 0.5
    latest_start: float = 0.0
    seed: int = 0
    labels: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))

    def captions(self, scene: worlds.Scene) -> tuple[str, str]:
        """The captions of a scene, with and without motion."""
        if self.labels:
            return worlds.labels(scene), worlds.labels(scene)
        return worlds.caption(scene), worlds.caption(scene, motion=False)

    def scene(self, index: int) -> tuple[worlds.Scene, np.ndarray]:
        """The scene of video ``index`` and the times of its frames."""
        random = np.random.default_rng((self.seed, index))
        world = "shapes" if random.random() < self.shapes_share else "driving"
        start = random.uniform(0, self.latest_start) if random.random() < 0.5 else 0.0
        scene = worlds.sample_scene(world, int(random.integers(2**31)))
        return scene, start + self.rate * np.arange(self.frames)


@dataclass(frozen=True)
class LatentVideos:
    """Encoded videos: latents [n, t, c, h, w] float16, captions with and without motion, and the
    boxes of every frame; ``plan`` describes the videos."""

    plan: VideoPlan
    latents: Tensor
    captions: list[tuple[str, str]]
    boxes: list[list[list[Box]]]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def showing(self) -> dict[str, list[int]]:
        """Indices of the videos of shapes, by "one object", "two objects" and each motion."""
        found: dict[str, list[int]] = {}
        for i in range(self.plan.count):
            scene = self.plan.scene(i)[0]
            for what in _contents(scene):
                found.setdefault(what, []).append(i)
        return found

    def draw(
        self, count: int, random: np.random.Generator, more_of: Mapping[str, float]
    ) -> np.ndarray:
        """Draw the indices of ``count`` videos. more_of: the shares to draw only from the videos of
        a key of `showing`; the rest is drawn from all."""
        unknown = sorted(set(more_of) - {ONE_OBJECT, TWO_OBJECTS, *worlds.shapes.MOTIONS})
        if unknown or sum(more_of.values()) > 1:
            raise ValueError(
                f"more_of takes {ONE_OBJECT!r}, {TWO_OBJECTS!r} and motions of shapes with shares "
                f"that are 1 together at most, not {dict(more_of)}."
            )
        chosen = random.integers(len(self), size=count)
        place, start = random.random(count), 0.0
        for what, share in more_of.items():
            if what in self.showing:
                again = random.choice(self.showing[what], size=count)
                chosen = np.where((start <= place) & (place < start + share), again, chosen)
            start += share
        return chosen


def caption_scenes(plan: VideoPlan) -> list[worlds.Scene]:
    """The scenes of ``plan`` with two shapes, for training on captions alone. Scenes with one shape
    have so few captions that the videos show most of them; the rest is left for evaluation."""
    scenes = (plan.scene(i)[0] for i in range(plan.count))
    return [scene for scene in scenes if TWO_OBJECTS in _contents(scene)]


def _contents(scene: worlds.Scene) -> set[str]:
    if not isinstance(scene, worlds.ShapesScene):
        return set()
    motions = {thing.motion for thing in scene.objects}
    return motions | {TWO_OBJECTS if len(scene.objects) == 2 else ONE_OBJECT}


def latent_videos(plan: VideoPlan, autoencoder: AutoencoderKL, folder: Path) -> LatentVideos:
    """Load the videos of ``plan`` from ``folder``, or encode and cache them there."""
    values = {name: value for name, value in vars(plan).items() if name != "labels"}
    fingerprint = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    fingerprint.update(autoencoder.encoder.conv_out.weight.detach().float().cpu().numpy().tobytes())
    path = folder / f"videos-{fingerprint.hexdigest()[:16]}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"latents": encode_plan(plan, autoencoder)}, path)
    latents = load_file(path)["latents"]
    scenes = [plan.scene(i) for i in range(plan.count)]
    captions = [plan.captions(scene) for scene, _ in scenes]
    size = plan.size if isinstance(plan.size, int) else (plan.size[0], plan.size[1])
    boxes = [[list(worlds.boxes(s, float(t), size=size)) for t in times] for s, times in scenes]
    return LatentVideos(plan, latents, captions, boxes)


@torch.no_grad()
def encode_plan(plan: VideoPlan, autoencoder: AutoencoderKL) -> Tensor:
    """Render and encode the videos of ``plan``: scaled latents [n, t, c, h, w], float16."""
    device = autoencoder.device
    videos = []
    for index in track(range(plan.count), f"encoding {plan.count} videos"):
        scene, times = plan.scene(index)
        video = torch.from_numpy(worlds.render(scene, times=times, size=plan.size))[None]
        with torch.autocast(device.type, torch.bfloat16):
            videos.append(encode(autoencoder, video.to(device), chunk=64)[0].half().cpu())
    return torch.stack(videos).contiguous()
