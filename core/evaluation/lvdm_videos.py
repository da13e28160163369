"""Long videos of the embedded LVDM network, with and without the paper's measures against error
accumulation (He et al. 2022, section 3.4); latents are cached."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..families import lvdm
from ..families.embedded.loading import path_of
from ..families.lvdm_sampling import LEVEL, SCALE, context_use, published_plan
from ..networks.autoencoder_3d import Autoencoder3D
from ..networks.conditions import Conditions
from ..networks.diffusion_model import DiffusionModel
from ..tasks.long_video import Between, Continuation, Hierarchy, hierarchical
from ..tasks.segment import DenoiserFor, Sampling

SIDE = 16
"""Of the latents."""
WINDOW, CONTEXT, CHUNK = 5, 2, 16
"""In latent frames, as in the workflow `lvdm_long_video`: window, context, and decoded chunk."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """perturbed: context frames are noised. guided: with unconditional guidance, away from the
    prediction without context frames."""

    perturbed: bool
    guided: bool

    @property
    def name(self) -> str:
        parts = ["perturbation"] * self.perturbed + ["guidance"] * self.guided
        return " and ".join(parts) or "neither"


VARIANTS = tuple(
    Variant(perturbed=perturbed, guided=guided)
    for perturbed, guided in ((True, True), (False, True), (True, False), (False, False))
)


@dataclass(frozen=True, kw_only=True)
class Length:
    """frames: per video. steps: of DDIM. videos: per seed, sampled as a batch."""

    frames: int = 1024
    steps: int = 10
    videos: int = 4


@dataclass(frozen=True)
class Sampled:
    """latents [b t c h w]. seconds [chunks]: processor time of each chunk, its key frames included.
    sizes [chunks]: latent frames of each chunk."""

    latents: Tensor
    seconds: Tensor
    sizes: Tensor


def kept_name(variant: str, length: Length) -> str:
    """File name of a variant, without seed and suffix."""
    return f"{variant.replace(' ', '_')}-{length.frames}-{length.steps}-{length.videos}"


class EmbeddedLvdm:
    """The LVDM network for `driving` and its autoencoder, loaded on first use."""

    @cached_property
    def model(self) -> DiffusionModel:
        return lvdm.load_model(path_of("lvdm_driving"))

    @cached_property
    def autoencoder(self) -> Autoencoder3D:
        return lvdm.load_autoencoder(path_of("lvdm_autoencoder"))

    def _denoiser_for(self) -> DenoiserFor:
        return lambda segment: self.model.denoiser(Conditions(context=segment.context))

    def chunks(self, variant: Variant, length: Length, seed: int) -> Iterator[Tensor]:
        """Latents [b t c h w] of videos with seeds seed, seed + 1, ..., chunk by chunk."""
        model, factor = self.model, self.model.temporal_factor
        plan = published_plan(model.family, "ddim", length.steps, model.schedule)
        sampling = Sampling(plan.sample, plan.sigmas, seed)
        use = context_use(model.schedule, level=LEVEL if variant.perturbed else 0,
                          scale=1 + SCALE if variant.guided else 1.0)  # fmt: skip
        how = Hierarchy(
            keys=Continuation(window=WINDOW, context=CONTEXT, use=use),
            between=Between(window_keys=2, passes=1, use=use),
        )
        size = length.videos, model.latent_channels, SIDE, SIDE
        frames = length.frames // factor
        return hierarchical(self._denoiser_for(), size, sampling, frames, settings=how)

    def sampled(self, variant: Variant, length: Length, seed: int) -> Sampled:
        """All chunks, with the time of each."""
        chunks, seconds, started = [], [], time.process_time()
        for chunk in self.chunks(variant, length, seed):
            chunks.append(chunk)
            now = time.process_time()
            seconds.append(now - started)
            started = now
        sizes = torch.tensor([chunk.shape[1] for chunk in chunks])
        return Sampled(torch.cat(chunks, dim=1), torch.tensor(seconds), sizes)

    def kept(self, variant: Variant, length: Length, seed: int, folder: Path) -> Sampled:
        """`sampled`, cached in the folder."""
        path = folder / f"{kept_name(variant.name, length)}-{seed}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            new, unfinished = self.sampled(variant, length, seed), path.with_suffix(".new")
            save_file({k: v.contiguous() for k, v in vars(new).items()}, unfinished)
            unfinished.replace(path)
        return Sampled(**load_file(path))

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> Iterator[Tensor]:
        """Decode every second chunk: [b t 3 h w] in [-1, 1]."""
        for start in range(0, latents.shape[1], 2 * CHUNK):
            yield self.autoencoder(latents[:, start : start + CHUNK]).clamp(-1, 1)
