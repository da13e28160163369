"""FreeInit in a MODEL: a wrapper around ComfyUI's samplers repeats the sampling.

Our own samplers, which run inside a ComfyUI sampler that denoises nothing, use core's FreeInit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ....core.diffusion.free_init import FreeInit, next_noise
from ..shared.misfits import NEEDS_PURE_NOISE
from .attached import attach
from .steps import count_steps

KEY = "videoldm_free_init"
"""The key of the wrapper and of the attachment in a ModelPatcher."""
SAMPLE = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
HANDLER = "context_handler"
"""The key of ComfyUI's context windows in the model options."""


def with_free_init(model: Any, free_init: FreeInit) -> Any:
    """A clone whose samplers sample `free_init.iterations` times."""
    clone = model.clone()
    attach(clone, SAMPLE, KEY, free_init, FreeInitPass(free_init))
    count_steps(clone)  # After it: steps are counted within one iteration.
    return clone


def free_init_of(model: Any) -> FreeInit | None:
    return model.get_attachment(KEY)


@dataclass(frozen=True)
class FreeInitPass:
    """The wrapper around `Sampler.sample`."""

    free_init: FreeInit

    def __call__(
        self, executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any],
        callback: Any, noise: Tensor, latent_image: Tensor | None = None, *more: Any,
    ) -> Tensor:  # fmt: skip
        if not isinstance(executor.class_obj, comfy.samplers.KSAMPLER):
            return executor(guider, sigmas, extra_args, callback, noise, latent_image, *more)
        if not bool(noise.any()) or latent_image is not None and bool(latent_image.any()):
            raise ValueError(NEEDS_PURE_NOISE)
        first, noise_scale = sigmas[0], _noise_scale(guider.inner_model.model_sampling, sigmas[0])
        # The sampler's initial x, noise_scale * noise, is sqrt(1 + sigma^2) times core's noise.
        scale = noise_scale / float((1 + first**2).sqrt())
        for k in range(self.free_init.iterations):
            arguments = _next_arguments(extra_args, k) if k else extra_args
            report = _reporting(callback, k, self.free_init.iterations)
            made = executor(guider, sigmas, arguments, report, noise, latent_image, *more)
            if not k:
                eps = scale * noise  # After sampling: ComfyUI's windows shuffle noise in place.
            if k + 1 < self.free_init.iterations:
                fresh = _noise_like(extra_args["seed"] + k + 1, noise)
                again = next_noise(self.free_init, _video(made), _video(eps), _video(fresh), first)
                noise = _like(again, noise) / scale
        return made


def _noise_scale(sampling: Any, first: Tensor) -> float:
    """The factor by which a sampler multiplies its noise at the first level."""
    highest = float(sampling.sigma_max)
    whole = math.isclose(highest, float(first), rel_tol=1e-5) or float(first) > highest
    one = torch.ones(1, 1, 1, 1, device=first.device)
    return float(sampling.noise_scaling(first, one, torch.zeros_like(one), whole))


def _next_arguments(extra_args: dict[str, Any], k: int) -> dict[str, Any]:
    """The arguments of iteration k > 0: its steps draw new noise, but its initial noise is not
    shuffled again over ComfyUI's windows (FreeNoise)."""
    options = extra_args["model_options"]
    handler = options.get(HANDLER)
    if handler is not None:
        handler = copy.copy(handler)
        handler.freenoise = False
        options = {**options, HANDLER: handler}
    return {**extra_args, "model_options": options, "seed": extra_args["seed"] + k}


def _reporting(callback: Any, k: int, iterations: int) -> Callable[..., None] | None:
    """The callback for iteration k, which counts the steps of all iterations."""
    if callback is None:
        return None

    def report(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        callback(k * total + step, denoised, x, iterations * total)

    return report


def _noise_like(seed: int, like: Tensor) -> Tensor:
    """Noise as ComfyUI draws it, on the CPU."""
    generator = torch.Generator().manual_seed(seed % 2**64)
    return torch.randn(like.shape, generator=generator).to(like)


def _video(x: Tensor) -> Tensor:
    """[b t c h w] from frames as batch, or from [b c t h w]."""
    return x[None] if x.ndim == 4 else x.transpose(1, 2)


def _like(video: Tensor, x: Tensor) -> Tensor:
    return video[0] if x.ndim == 4 else video.transpose(1, 2)
