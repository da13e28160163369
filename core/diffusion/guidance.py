"""Wrappers from denoisers to a denoiser: guidance and known frames. None of them has state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from .curves import Curve, current_step
from .denoiser import (
    Denoiser,
    Prediction,
    broadcast,
    eps_from_x0,
    to_ve,
    to_vp,
    v_from_x0,
    x0_from_eps,
    x0_from_v,
)

Scale = float | Tensor
"""One number, one per frame [t] (axis 1 of b t c h w), or one per frame and position
[t, h or 1, w or 1]."""


def per_frame_scale(start: float, end: float, frames: int) -> Tensor:
    """[frames] guidance rising linearly over the video (Stable Video Diffusion: 1.0 to 2.5)."""
    return torch.linspace(start, end, frames)


def triangular_scale(start: float, end: float, frames: int) -> Tensor:
    """[frames] guidance rising linearly to the middle of the video and falling again."""
    places = torch.linspace(0, 1, frames)
    return start + 2 * (places - (places + 0.5).floor()).abs() * (end - start)


def relative(scale: Scale, cfg: float) -> Scale:
    """A multiple of cfg as a factor. At cfg 0, which no factor changes, it is 1."""
    return scale / cfg if cfg else 1.0


def combine(cond: Tensor, uncond: Tensor, scale: Scale) -> Tensor:
    """uncond + scale (cond - uncond) (Ho & Salimans 2021, eq. 6, with scale = 1 + w)."""
    if isinstance(scale, Tensor):
        scale = _along_frames(scale, cond)
    return uncond + scale * (cond - uncond)


def guided(cond: Denoiser, uncond: Denoiser, scale: Scale) -> Denoiser:
    """Classifier-free guidance. At scale 1 only `cond` is evaluated."""
    if not isinstance(scale, Tensor) and scale == 1:
        return cond

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return combine(cond(x, sigma), uncond(x, sigma), scale)

    return denoise


class Branch(NamedTuple):
    """A denoiser that is part of an average from noise level `first` down to `last`, inclusive."""

    denoiser: Denoiser
    first: float = inf
    last: float = 0.0

    def takes_part(self, sigma: float) -> bool:
        return self.last <= sigma <= self.first


def averaged(branches: Sequence[Branch]) -> Denoiser:
    """The mean of the denoisers active at a noise level; zeros if none is.

    With sigma [b t], each frame averages those active at its own level. A denoiser is evaluated if
    it is active at the level of any frame with noise.
    """
    if len(branches) == 1 and branches[0][1:] == (inf, 0.0):
        return branches[0].denoiser

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels = _levels(sigma).tolist()
        noisy = [level for level in levels if level > 0] or levels
        total, count = torch.zeros_like(x), x.new_zeros(())
        for one in branches:
            if any(map(one.takes_part, noisy)):
                share = torch.tensor([[float(one.takes_part(level)) for level in levels]])
                total = total + broadcast(share, x) * one.denoiser(x, sigma)
                count = count + broadcast(share, x)
        return total / count.clamp(min=1)

    return denoise


def window_level(sigma: Tensor) -> float:
    """One noise level for a window: with sigma [b t], that of the middle frame among those with
    noise; 0 if no frame has any."""
    levels = _levels(sigma)
    noisy = levels[levels > 0]
    return float(noisy[len(noisy) // 2]) if len(noisy) else 0.0


def _levels(sigma: Tensor) -> Tensor:
    """The noise levels of the first video: one per frame [t] of sigma [b t], else [1]."""
    return sigma[0] if sigma.ndim == 2 else sigma.flatten()[:1]


def scheduled(
    guide: Callable[[Scale], Denoiser], strength: Curve, frames: Sequence[int]
) -> Denoiser:
    """guide(scale), with the scale read from a curve at these absolute frames and each step."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        scale = strength.amount(frames, current_step.get(), tuple(x.shape[-2:]))
        return guide(scale)(x, sigma)

    return denoise


def context_guided(with_context: Denoiser, without_context: Denoiser, scale: Scale) -> Denoiser:
    """f(z) + s (f(z; c) - f(z)) over the context frames c (Blattmann et al. 2023, section 3.2).

    The same formula as `guided`. Both denoisers keep the text and may apply text guidance.
    """
    return guided(with_context, without_context, scale)


def batched(stacked: Denoiser, scale: Scale) -> Denoiser:
    """Classifier-free guidance in one network call.

    stacked: denoises 2b videos, the first b with the condition and the last b without.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        twice = sigma if sigma.ndim == 0 else torch.cat([sigma, sigma])
        cond, uncond = stacked(torch.cat([x, x]), twice).chunk(2)
        return combine(cond, uncond, scale)

    return denoise


def rescaled(
    cond: Denoiser,
    uncond: Denoiser,
    scale: Scale,
    phi: float = 0.7,
    *,
    prediction: Prediction = "v",
) -> Denoiser:
    """Guidance that keeps the standard deviation of the conditional prediction.

    phi: in [0, 1]; 0 is plain guidance, 1 restores the deviation fully (Lin et al. 2023, section
    3.4). prediction: the quantity whose deviation is kept; the paper's networks predict v.
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"The guidance rescale phi must lie in [0, 1], got {phi}.")
    if phi == 0:
        return guided(cond, uncond, scale)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        cond_x0 = cond(x, sigma)
        guided_x0 = combine(cond_x0, uncond(x, sigma), scale)
        return rescaled_x0(x, sigma, cond_x0, guided_x0, phi, prediction=prediction)

    return denoise


def rescaled_x0(
    x: Tensor, sigma: Tensor, cond_x0: Tensor, guided_x0: Tensor, phi: float,
    *, prediction: Prediction,
) -> Tensor:  # fmt: skip
    """Apply the rescaling of :func:`rescaled` to the result of any guidance, given as x_0. Frames
    at sigma 0 (sigma [b t]) are left unchanged."""
    if sigma.ndim == 2 and not sigma.all():
        noisy, made = (sigma > 0).all(0), guided_x0.clone()
        of_noisy = (one[:, noisy] for one in (x, sigma, cond_x0, guided_x0))
        made[:, noisy] = rescaled_x0(*of_noisy, phi, prediction=prediction)
        return made
    positive = _from_x0(prediction, x, cond_x0, sigma)
    guided_one = _from_x0(prediction, x, guided_x0, sigma)
    return _to_x0(prediction, x, rescale(guided_one, positive, phi), sigma)


def rescale(guided_prediction: Tensor, cond_prediction: Tensor, phi: float) -> Tensor:
    """phi x_cfg std(x_pos) / std(x_cfg) + (1 - phi) x_cfg (Lin et al. 2023, eq. 15-16).

    Standard deviations are per sample, over all its frames together.
    """
    axes = tuple(range(1, cond_prediction.ndim))
    std_pos = cond_prediction.std(axes, keepdim=True)
    std_cfg = guided_prediction.std(axes, keepdim=True)
    return guided_prediction * (phi * std_pos / std_cfg + (1 - phi))


def masked(
    denoiser: Denoiser, known: Tensor, mask: Tensor, *, noise: Tensor | None = None
) -> Denoiser:
    """Keep known latents: where mask is 1, the result is `known` [b t c h w].

    mask: broadcastable to known, in [0, 1], for instance [b t 1 1 1] for whole frames.
    noise: if given, the network also sees known + sigma noise there instead of the sampler's x.
    """

    mask = mask.to(known)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if noise is not None:
            x = torch.lerp(x, known + broadcast(sigma, x) * noise, mask.expand_as(x))
        denoised = denoiser(x, sigma)
        return denoised + mask * (known - denoised)

    return denoise


def with_known_input(denoiser: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """Replace x by `known` [b t c h w] where mask is 1.

    It is scaled so that a VP network sees `known` itself at every noise level. LVDM's code writes
    it into the sampler's x, so its unconditional branch sees it too.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(torch.lerp(x, to_ve(known.to(x), sigma), mask.to(x).expand_as(x)), sigma)

    return denoise


def _along_frames(scale: Tensor, x: Tensor) -> Tensor:
    """[t] -> [1 t 1 ... 1], [t h w] -> [1 t 1 h w]; a 0-dim scale keeps its shape."""
    if scale.ndim == 0:
        return scale.to(x)
    if scale.ndim == 3 and len(scale) == x.shape[1]:
        return scale.to(x)[None, :, None]
    if scale.shape != x.shape[1:2]:
        raise ValueError(
            f"{len(scale)} guidance scales were given for a video of {x.shape[1]} frames."
        )
    return broadcast(scale[None], x)


def _from_x0(prediction: Prediction, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    if prediction == "x0":
        return x0
    return (v_from_x0 if prediction == "v" else eps_from_x0)(to_vp(x, sigma), x0, sigma)


def _to_x0(prediction: Prediction, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
    if prediction == "x0":
        return value
    return (x0_from_v if prediction == "v" else x0_from_eps)(to_vp(x, sigma), value, sigma)
