"""Measures of videos: fidelity, flicker, agreement along motion, and the spectrum of detail.

Pixels lie in [-1, 1]; videos are [t c h w] or [b t c h w], and every measure is one number.
"""

from __future__ import annotations

import kornia
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2126, 0.7152, 0.0722)  # BT.709
ROUNDING_POWER = (2 / 255) ** 2 / 12  # of the noise that rounding to 8 bits adds to a pixel


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all pixels together; 120 for equal videos."""
    _check_alike(x, y)
    error = (x.double() - y.double()).square().mean().clamp_min(4e-12)
    return float(10 * torch.log10(4 / error))


def flicker(x: Tensor, y: Tensor) -> float:
    """mean |(x[t+1] - x[t]) - (y[t+1] - y[t])|: changes in time that the true video y has not."""
    _check_alike(x, y)
    if x.shape[-4] < 2:
        raise ValueError(f"Flicker needs at least 2 frames, got {x.shape[-4]}.")
    return float((x.double() - y.double()).diff(dim=-4).abs().mean())


# --------------------------------------------------------------------------------------------------
# Along motion.


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames [n c h w] looked up at their own pixels plus flow [n 2 h w] (dx, dy in pixels).

    Bilinear; outside the frame the nearest border pixel counts.
    """
    h, w = frames.shape[-2:]
    x = torch.arange(w, device=frames.device) + 0.5 + flow[:, 0]
    y = torch.arange(h, device=frames.device)[:, None] + 0.5 + flow[:, 1]
    grid = torch.stack([2 * x / w - 1, 2 * y / h - 1], dim=-1).to(frames)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def warping_error(frames: Tensor, flow: Tensor, valid: Tensor | None = None) -> float:
    """mean |frame[t] - frame[t+1] warped back| over channels and valid pixels.

    flow: [... t-1 2 h w], where each pixel of a frame is found in the next one, relative to itself.
    valid: [... t-1 h w], 1 where a pixel counts; None for all that stay inside the frame.
    """
    _check_flow(frames, flow)
    now, after = _pairs(frames)
    flow = flow.reshape(-1, *flow.shape[-3:]).to(now)
    counts = _inside(flow) if valid is None else valid.reshape(-1, *valid.shape[-2:]).to(now)
    error = (now - warp(after, flow)).abs().mean(dim=1) * counts
    return float(error.double().sum() / counts.double().sum().clamp_min(1))


def _pairs(frames: Tensor) -> tuple[Tensor, Tensor]:
    """All frames but the last, and their successors, both [n c h w]."""
    video = frames.reshape(-1, *frames.shape[-4:]).float()
    now, after = video[:, :-1], video[:, 1:]
    return now.flatten(0, 1), after.flatten(0, 1)


def _inside(flow: Tensor) -> Tensor:
    """1 where the target of a pixel lies inside the frame, [n h w]."""
    h, w = flow.shape[-2:]
    x = torch.arange(w, device=flow.device) + flow[:, 0]
    y = torch.arange(h, device=flow.device)[:, None] + flow[:, 1]
    return ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).to(flow)


# --------------------------------------------------------------------------------------------------
# Estimated motion.


def estimated_flow(frames: Tensor, *, radius: float = 2, rounds: int = 4) -> Tensor:
    """Motion [... t-1 2 h w] from each frame to the next, in pixels, estimated from luma.

    Lucas and Kanade's least squares over Gaussian windows, coarse to fine over a pyramid
    (Bouguet 2001), at every pixel; a median over 3 x 3 pixels per level removes outliers. radius:
    standard deviation of the window, in pixels of each level. rounds: refinements per level. Good
    for motions of a few pixels; where there is no texture it is that of the coarser level.
    """
    now, after = (_luma(part) for part in _pairs(frames))
    levels = _pyramid(now), _pyramid(after)
    flow = now.new_zeros(len(now), 2, *levels[0][-1].shape[-2:])
    for first, second in zip(reversed(levels[0]), reversed(levels[1]), strict=True):
        flow = _enlarged(flow, first.shape[-2:])
        for _ in range(rounds):
            flow = flow + _lucas_kanade(first, warp(second, flow), radius)
        flow = kornia.filters.median_blur(flow, 3)
    return flow.reshape(*frames.shape[:-4], frames.shape[-4] - 1, *flow.shape[1:])


def _luma(frames: Tensor) -> Tensor:
    """BT.709 luma [n 1 h w] of frames [n 3 h w], or the mean of other numbers of channels."""
    if frames.shape[1] != 3:
        return frames.mean(dim=1, keepdim=True)
    return (frames * frames.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def _pyramid(image: Tensor) -> list[Tensor]:
    """The image and its halves, down to about 8 pixels."""
    levels = [image]
    while min(levels[-1].shape[-2:]) >= 16 and len(levels) < 6:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _enlarged(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Motion of a coarser level in the pixels of a finer one."""
    if flow.shape[-2:] == size:
        return flow
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    larger = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    return larger * scale[:, None, None]


def _lucas_kanade(first: Tensor, second: Tensor, radius: float) -> Tensor:
    """The motion [n 2 h w] of at most a pixel from first to second [n 1 h w]."""
    gx, gy = _gradient((first + second) / 2)
    dt = second - first
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * dt, gy * dt], dim=1)
    xx, xy, yy, xt, yt = _smoothed(products, radius).split(1, dim=1)
    # A little stiffness: without texture the answer is no motion, instead of noise.
    xx, yy = xx + 1e-5, yy + 1e-5
    determinant = xx * yy - xy * xy
    step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant
    return step.clamp(-1, 1)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return gx, gy


def _smoothed(planes: Tensor, sigma: float) -> Tensor:
    """Every plane of [n c h w] convolved with a Gaussian; the border counts as continued."""
    reach = max(1, round(2 * sigma))
    at = torch.arange(-reach, reach + 1, device=planes.device, dtype=planes.dtype)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    weights = weights / weights.sum()
    flat = rearrange(planes, "n c h w -> (n c) 1 h w")
    flat = F.pad(flat, (reach,) * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, weights.reshape(1, 1, 1, -1)), weights.reshape(1, 1, -1, 1))
    return rearrange(flat, "(n c) 1 h w -> n c h w", n=len(planes))


# --------------------------------------------------------------------------------------------------
# Detail.


def spectrum_distance(x: Tensor, y: Tensor) -> float:
    """Mean absolute difference of the log power spectra of two videos, in dB.

    Of every frame: luma without its mean, times a Hann window; the power of its Fourier transform
    per pixel, averaged over rings of frequencies (see `radial_power`); in dB above the noise that
    rounding to 8 bits would add, so that detail nobody can see does not count. The difference is
    averaged over rings and frames.
    """
    _check_alike(x, y)
    return float((_decibels(radial_power(x)) - _decibels(radial_power(y))).abs().mean())


def _decibels(power: Tensor) -> Tensor:
    return 10 * torch.log10(power / ROUNDING_POWER + 1)


def radial_power(video: Tensor) -> Tensor:
    """Power [n rings] of the luma of each frame: white noise of variance v has v in every ring.

    The min(h, w) // 2 rings are equally wide and cover (0, 0.5] cycles per pixel.
    """
    luma = _luma(video.reshape(-1, *video.shape[-3:]).double())[:, 0]
    n, h, w = luma.shape
    there = dict(dtype=luma.dtype, device=luma.device)
    window = torch.outer(torch.hann_window(h, **there), torch.hann_window(w, **there))
    mean = (luma * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2((luma - mean) * window).abs().square() / window.square().sum()
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
