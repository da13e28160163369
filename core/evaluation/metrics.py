"""Video metrics: PSNR, flicker, warping error, and spectrum distance.

Pixels are in [-1, 1], videos [t c h w] or [b t c h w]; every metric is one number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..tasks.optical_flow import luma, pairs, warp

ROUNDING_POWER = (2 / 255) ** 2 / 12  # variance of the noise of rounding to 8 bits


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all pixels together; 120 dB for equal videos."""
    _check_alike(x, y)
    error = (x.double() - y.double()).square().mean().clamp_min(4e-12)
    return float(10 * torch.log10(4 / error))


def flicker(x: Tensor, y: Tensor) -> float:
    """mean |(x[t+1] - x[t]) - (y[t+1] - y[t])|: change in time that the true video y lacks."""
    _check_alike(x, y)
    if x.shape[-4] < 2:
        raise ValueError(f"Flicker needs at least 2 frames, got {x.shape[-4]}.")
    return float((x.double() - y.double()).diff(dim=-4).abs().mean())


# --------------------------------------------------------------------------------------------------
# Warping error.


def warping_error(frames: Tensor, flow: Tensor, valid: Tensor | None = None) -> float:
    """mean |frame[t] - frame[t+1] warped back| over channels and valid pixels.

    flow: [... t-1 2 h w], forward flow in pixels. valid: [... t-1 h w], 1 where a pixel counts;
    None for all whose target is inside the frame.
    """
    _check_flow(frames, flow)
    now, after = pairs(frames)
    flow = flow.reshape(-1, *flow.shape[-3:]).to(now)
    counts = _inside(flow) if valid is None else valid.reshape(-1, *valid.shape[-2:]).to(now)
    error = (now - warp(after, flow)).abs().mean(dim=1) * counts
    return float(error.double().sum() / counts.double().sum().clamp_min(1))


def _inside(flow: Tensor) -> Tensor:
    """1 where the flow's target is inside the frame, [n h w]."""
    h, w = flow.shape[-2:]
    x = torch.arange(w, device=flow.device) + flow[:, 0]
    y = torch.arange(h, device=flow.device)[:, None] + flow[:, 1]
    return ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).to(flow)


# --------------------------------------------------------------------------------------------------
# Spectrum.


def spectrum_distance(x: Tensor, y: Tensor) -> float:
    """Mean absolute difference of the log power spectra of two videos, in dB, over rings of
    frequencies (see `radial_power`) and frames.

    The log is 10 log10(power / rounding noise of 8 bits + 1), so that invisible detail does not
    count.
    """
    _check_alike(x, y)
    return float((_decibels(radial_power(x)) - _decibels(radial_power(y))).abs().mean())


def _decibels(power: Tensor) -> Tensor:
    return 10 * torch.log10(power / ROUNDING_POWER + 1)


def radial_power(video: Tensor) -> Tensor:
    """Radially averaged power spectrum [n rings] of each frame's luma, without its mean and times a
    Hann window. White noise of variance v has power v in every ring.

    The min(h, w) // 2 rings are equally wide and cover (0, 0.5] cycles per pixel.
    """
    grey = luma(video.reshape(-1, *video.shape[-3:]).double())[:, 0]
    n, h, w = grey.shape
    there = dict(dtype=grey.dtype, device=grey.device)
    window = torch.outer(torch.hann_window(h, **there), torch.hann_window(w, **there))
    mean = (grey * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2((grey - mean) * window).abs().square() / window.square().sum()
    fx, fy = torch.fft.fftfreq(w, **there), torch.fft.fftfreq(h, **there)
    radius = (fx[None, :].square() + fy[:, None].square()).sqrt()
    rings = min(h, w) // 2
    ring = (radius * 2 * rings).ceil().long() - 1
    used = (ring >= 0) & (ring < rings)
    totals = power.new_zeros(n, rings).index_add_(1, ring[used], power[:, used])
    return totals / torch.bincount(ring[used], minlength=rings)


# --------------------------------------------------------------------------------------------------


def _check_alike(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim not in (4, 5):
        raise ValueError(
            "Expected two videos of one shape [t c h w] or [b t c h w], got "
            f"{list(x.shape)} and {list(y.shape)}."
        )


def _check_flow(frames: Tensor, flow: Tensor) -> None:
    *batch, t, _, h, w = frames.shape
    if list(flow.shape) != [*batch, t - 1, 2, h, w]:
        raise ValueError(
            f"A flow of shape {list(flow.shape)} does not fit frames of shape {list(frames.shape)}."
        )
