"""FreeInit in a MODEL: a wrapper around ComfyUI's samplers lets them sample again.

Our own samplers run inside of one of ComfyUI's that makes nothing itself; they do it in core.
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

from ....core.diffusion.free_init import FreeInit, noise_again
from ..shared.misfits import NEEDS_PURE_NOISE
from .steps import count_steps

KEY = "videoldm_free_init"
"""Of the wrapper and of the attachment in a ModelPatcher."""
SAMPLE = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
HANDLER = "context_handler"
"""Core's context windows among the model options."""


def with_free_init(model: Any, how: FreeInit) -> Any:
    """A clone whose samplers sample `how.iterations` times."""
    clone = model.clone()
    clone.remove_wrappers_with_key(SAMPLE, KEY)
    clone.set_attachments(KEY, how)
    clone.add_wrapper_with_key(SAMPLE, KEY, SamplingAgain(how))
    # Wrappers act in the order they were added, and steps are counted within a sampling.
    count_steps(clone)
    return clone


def free_init_of(model: Any) -> FreeInit | None:
    return model.get_attachment(KEY)


@dataclass(frozen=True)
class SamplingAgain:
    """The wrapper around `Sampler.sample`."""

    how: FreeInit

    def __call__(
        self, executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any],
        callback: Any, noise: Tensor, latent_image: Tensor | None = None, *more: Any,
    ) -> Tensor:  # fmt: skip
        if not isinstance(executor.class_obj, comfy.samplers.KSAMPLER):
            return executor(guider, sigmas, extra_args, callback, noise, latent_image, *more)
        if not bool(noise.any()) or latent_image is not None and bool(latent_image.any()):
            raise ValueError(NEEDS_PURE_NOISE)
        first, spread = sigmas[0], _spread(guider.inner_model.model_sampling, sigmas[0])
        # What the sampler makes of its noise is sqrt(1 + sigma^2) times noise of core's.
        scale = spread / float((1 + first**2).sqrt())
        for k in range(self.how.iterations):
            given = _further(extra_args, k) if k else extra_args
            report = _reporting(callback, k, self.how.iterations)
            made = executor(guider, sigmas, given, report, noise, latent_image, *more)
            if not k:
                eps = scale * noise  # Now, as core's windows shuffle it in place.
            if k + 1 < self.how.iterations:
                fresh = _drawn(extra_args["seed"] + k + 1, noise)
                again = noise_again(self.how, _video(made), _video(eps), _video(fresh), first)
                noise = _like(again, noise) / scale
        return made


def _spread(sampling: Any, first: Tensor) -> float:
    """By how much a sampler multiplies its noise at the first level."""
    highest = float(sampling.sigma_max)
    whole = math.isclose(highest, float(first), rel_tol=1e-5) or float(first) > highest
    one = torch.ones(1, 1, 1, 1, device=first.device)
    return float(sampling.noise_scaling(first, one, torch.zeros_like(one), whole))


def _further(extra_args: dict[str, Any], k: int) -> dict[str, Any]:
    """The arguments of the k-th further sampling: its steps have noise of their own, but the noise
    that it starts from is not shuffled over core's windows once more."""
    options = extra_args["model_options"]
    handler = options.get(HANDLER)
    if handler is not None:
        handler = copy.copy(handler)
        handler.freenoise = False
        options = {**options, HANDLER: handler}
    return {**extra_args, "model_options": options, "seed": extra_args["seed"] + k}


def _reporting(callback: Any, k: int, iterations: int) -> Callable[..., None] | None:
    """The callback of all samplings together, for the k-th of them."""
    if callback is None:
        return None

    def report(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        callback(k * total + step, denoised, x, iterations * total)

    return report


def _drawn(seed: int, like: Tensor) -> Tensor:
    """Noise as ComfyUI draws it, on the CPU."""
    generator = torch.Generator().manual_seed(seed % 2**64)
    return torch.randn(like.shape, generator=generator).to(like)


def _video(x: Tensor) -> Tensor:
    """[b t c h w] of frames as batch, or of [b c t h w]."""
    return x[None] if x.ndim == 4 else x.transpose(1, 2)


def _like(video: Tensor, x: Tensor) -> Tensor:
    return video[0] if x.ndim == 4 else video.transpose(1, 2)
