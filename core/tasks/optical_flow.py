"""Optical flow estimated from image gradients, and warping along it.

Pixels lie in [-1, 1]. A flow [n 2 h w] holds, for each pixel, the offset (dx, dy) in pixels to
where it is found in another frame.
"""

from __future__ import annotations

from collections.abc import Callable

import kornia
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Flow = Callable[[Tensor, Tensor], Tensor]
"""flow(frames [n 3 h w], others) -> the flow from frames to others."""

LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames [n c h w] sampled at their own pixels plus flow [n 2 h w] (dx, dy in pixels).

    Bilinear; outside of the frame, the nearest border pixel is used.
    """
    h, w = frames.shape[-2:]
    x = torch.arange(w, device=frames.device) + 0.5 + flow[:, 0]
    y = torch.arange(h, device=frames.device)[:, None] + 0.5 + flow[:, 1]
    grid = torch.stack([2 * x / w - 1, 2 * y / h - 1], dim=-1).to(frames)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def pairs(frames: Tensor) -> tuple[Tensor, Tensor]:
    """All frames but the last, and their successors, both [n c h w]."""
    video = frames.reshape(-1, *frames.shape[-4:]).float()
    now, after = video[:, :-1], video[:, 1:]
    return now.flatten(0, 1), after.flatten(0, 1)


def estimated_flow(frames: Tensor, *, radius: float = 2, rounds: int = 4) -> Tensor:
    """Motion [... t-1 2 h w] from each frame to the next, in pixels; see :func:`gradient_flow`."""
    flow = gradient_flow(*pairs(frames), radius=radius, rounds=rounds)
    return flow.reshape(*frames.shape[:-4], frames.shape[-4] - 1, *flow.shape[1:])


def gradient_flow(frames: Tensor, others: Tensor, *, radius: float = 2, rounds: int = 4) -> Tensor:
    """The flow [n 2 h w] from frames [n 3 h w] to others, estimated from luma.

    Lucas-Kanade least squares over Gaussian windows, coarse to fine over a pyramid (Bouguet 2001),
    at every pixel; a 3 x 3 median per level removes outliers. radius: standard deviation of the
    window, in pixels of each level. rounds: refinements per level. Suited to motions of a few
    pixels; without texture, the flow of the coarser level is kept.
    """
    now, after = luma(frames), luma(others)
    levels = _pyramid(now), _pyramid(after)
    flow = now.new_zeros(len(now), 2, *levels[0][-1].shape[-2:])
    for first, second in zip(reversed(levels[0]), reversed(levels[1]), strict=True):
        flow = enlarged_flow(flow, first.shape[-2:])
        for _ in range(rounds):
            flow = flow + _lucas_kanade(first, warp(second, flow), radius)
        flow = kornia.filters.median_blur(flow, 3)
    return flow


class GradientFlow(nn.Module):
    """:func:`gradient_flow` with the call signature of torchvision's RAFT: two batches of frames
    [n 3 h w] to a list whose last entry is the flow. It has no trained weights."""

    def __init__(self, radius: float = 2.0):
        super().__init__()
        self.register_buffer("radius", torch.tensor(radius))

    def forward(self, image1: Tensor, image2: Tensor, num_flow_updates: int = 4) -> list[Tensor]:
        return [gradient_flow(image1, image2, radius=float(self.radius), rounds=num_flow_updates)]


def luma(frames: Tensor) -> Tensor:
    """BT.709 luma [n 1 h w] of frames [n 3 h w]; for other numbers of channels, their mean."""
    if frames.shape[1] != 3:
        return frames.mean(dim=1, keepdim=True)
    return (frames * frames.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def _pyramid(image: Tensor) -> list[Tensor]:
    """The image and successive halves of it, down to about 8 pixels."""
    levels = [image]
    while min(levels[-1].shape[-2:]) >= 16 and len(levels) < 6:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def enlarged_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """A flow resized to `size` [h, w], in pixels of that size."""
    if flow.shape[-2:] == size:
        return flow
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    larger = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    return larger * scale[:, None, None]


def _lucas_kanade(first: Tensor, second: Tensor, radius: float) -> Tensor:
    """The motion [n 2 h w], of at most a pixel, from first to second [n 1 h w]."""
    gx, gy = _gradient((first + second) / 2)
    dt = second - first
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * dt, gy * dt], dim=1)
    xx, xy, yy, xt, yt = _smoothed(products, radius).split(1, dim=1)
    # Regularised: without texture the answer is no motion instead of noise.
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
    """Every plane of [n c h w] convolved with a Gaussian; the border is replicated."""
    reach = max(1, round(2 * sigma))
    at = torch.arange(-reach, reach + 1, device=planes.device, dtype=planes.dtype)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    weights = weights / weights.sum()
    flat = rearrange(planes, "n c h w -> (n c) 1 h w")
    flat = F.pad(flat, (reach,) * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, weights.reshape(1, 1, 1, -1)), weights.reshape(1, 1, -1, 1))
    return rearrange(flat, "(n c) 1 h w -> n c h w", n=len(planes))
