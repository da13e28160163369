"""Long videos of the embedded LVDM network, with and without what the paper does against errors
that build up (He et al. 2022, section 3.4), sampled once and kept."""

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
"""Of latents."""
WINDOW, CONTEXT, CHUNK = 5, 2, 16
"""In latent frames, as in the workflow `lvdm_long_video`: of windows, how many frames of one are
given, and how many are decoded together."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """perturbed: given frames are noised. guided: away from what is made without given frames."""

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
    """frames: of every video. steps: of DDIM. videos: of every seed, sampled together."""

    frames: int = 1024
    steps: int = 10
    videos: int = 4


@dataclass(frozen=True)
class Sampled:
    """latents [b t c h w]. seconds [chunks] of processor time that each chunk took, of `sizes`
    [chunks] latent frames: those of its key frames are made with it."""

    latents: Tensor
    seconds: Tensor
    sizes: Tensor


def kept_name(variant: str, length: Length) -> str:
    """What files of a variant are called, before their seed."""
    return f"{variant.replace(' ', '_')}-{length.frames}-{length.steps}-{length.videos}"


class EmbeddedLvdm:
    """The network for endless driving and its autoencoder, loaded when they are needed."""

    @cached_property
    def model(self) -> DiffusionModel:
        return lvdm.load_model(path_of("lvdm_driving"))

    @cached_property
    def autoencoder(self) -> Autoencoder3D:
        return lvdm.load_autoencoder(path_of("lvdm_autoencoder"))

    def _denoiser_for(self) -> DenoiserFor:
        return lambda segment: self.model.denoiser(Conditions(context=segment.context))

    def chunks(self, variant: Variant, length: Length, seed: int) -> Iterator[Tensor]:
        """Latents [b t c h w] of videos with the seeds seed, seed + 1, ..."""
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
        return hierarchical(self._denoiser_for(), size, sampling, frames, how=how)

    def sampled(self, variant: Variant, length: Length, seed: int) -> Sampled:
        """All chunks, with the time that each took."""
        chunks, seconds, started = [], [], time.process_time()
        for chunk in self.chunks(variant, length, seed):
            chunks.append(chunk)
            now = time.process_time()
            seconds.append(now - started)
            started = now
        sizes = torch.tensor([chunk.shape[1] for chunk in chunks])
        return Sampled(torch.cat(chunks, dim=1), torch.tensor(seconds), sizes)

    def kept(self, variant: Variant, length: Length, seed: int, folder: Path) -> Sampled:
        """The same from the folder, or sampled and written there."""
        path = folder / f"{kept_name(variant.name, length)}-{seed}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            new, unfinished = self.sampled(variant, length, seed), path.with_suffix(".new")
            save_file({k: v.contiguous() for k, v in vars(new).items()}, unfinished)
            unfinished.replace(path)
        return Sampled(**load_file(path))

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> Iterator[Tensor]:
        """Every second chunk decoded, [b t 3 h w] in [-1, 1]."""
        for start in range(0, latents.shape[1], 2 * CHUNK):
            yield self.autoencoder(latents[:, start : start + CHUNK]).clamp(-1, 1)
