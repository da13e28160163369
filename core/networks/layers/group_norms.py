"""Group normalisation of frames, with statistics per frame or over all frames of a video."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

POSITIONS = 2**14
"""Positions whose sums are taken in float32, which would lose digits over many more; these partial
sums are combined in float64."""


class Affine(NamedTuple):
    """A norm with known statistics: scale x + offset, each [b c]."""

    scale: Tensor
    offset: Tensor

    def __call__(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Apply it to ``x`` [b c ...], writing to ``out`` if given."""
        scale, offset = (one.reshape(*one.shape, *[1] * (x.ndim - 2)) for one in self)
        return torch.addcmul(offset, x, scale, out=out)


def group_norm(norm: nn.GroupNorm, h: Tensor, frames: int = 1, *, inplace: bool = False) -> Tensor:
    """norm(h) for ``h`` [(b t), c, h, w], with statistics over each `frames` frames together.

    inplace: ``h`` may be overwritten.
    """
    video = rearrange(h, "(b t) c h w -> b c (t h) w", t=frames)
    if is_affine(norm, video):
        out = affine_of(norm, video)(video, out=video if inplace else None)
    else:
        out = norm(_centred(norm, video, inplace) if video.stride(1) == 1 else video)
    return rearrange(out, "b c (t h) w -> (b t) c h w", t=frames)


def is_affine(norm: nn.Module, x: Tensor) -> bool:
    """Whether :func:`affine_of` can replace the norm: it is torch's own, in float32, has no hooks,
    needs no gradients, and ``x`` is in channels-last memory on the CPU. (On a GPU, a single kernel
    for the norm is faster.)"""
    return (
        type(norm) is nn.GroupNorm
        and norm.affine
        and x.device.type == norm.weight.device.type == "cpu"
        and x.dtype == norm.weight.dtype == torch.float32
        and x.stride(1) == 1
        and not (norm._forward_hooks or norm._forward_pre_hooks or torch.is_grad_enabled())
    )


def affine_of(norm: nn.GroupNorm, x: Tensor) -> Affine:
    """The norm of ``x`` [b c ...], which is in channels-last memory, as an affine map."""
    each = [torch.stack(one) for one in zip(*map(_channel_moments, x), strict=True)]
    mean, variance = _together(*(one.unflatten(1, (norm.num_groups, -1)) for one in each))
    mean, variance = (one.repeat_interleave(x.shape[1] // norm.num_groups, 1)
                      for one in (mean, variance))  # fmt: skip
    scale = norm.weight.double() / (variance + norm.eps).sqrt()
    return Affine(scale.to(x.dtype), (norm.bias.double() - mean * scale).to(x.dtype))


def _channel_moments(video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of a video [c ...], each [c] in float64."""
    parts = video.movedim(0, -1).reshape(-1, len(video)).split(POSITIONS)
    # As images [1 c n 1], of which torch computes both moments in two passes.
    images = [part[None, :, None].movedim(-1, 1) for part in parts]
    found = [torch.batch_norm_update_stats(image, None, None, 0.0) for image in images]
    mean, variance = (torch.stack(one, dim=-1).double() for one in zip(*found, strict=True))
    return _together(mean, variance, mean.new_tensor([len(part) for part in parts]))


def _together(
    mean: Tensor, variance: Tensor, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance over all parts [... p] from those of each, which has `counts` [p] values:
    the variance within parts plus the variance of their means."""
    share = 1 / mean.shape[-1] if counts is None else counts / counts.sum()
    middle = (mean * share).sum(-1)
    within = (variance + (mean - middle[..., None]).square()) * share
    return middle, within.sum(-1)


def _centred(norm: nn.GroupNorm, video: Tensor, inplace: bool) -> Tensor:
    """The video [b c p w] in channels-last memory minus the means of its groups: torch computes
    variances there as the difference of two squares, imprecise where the mean is far from 0."""
    mean = video.mean((2, 3)).unflatten(1, (norm.num_groups, -1)).mean(2, keepdim=True)
    mean = mean.expand(-1, -1, video.shape[1] // norm.num_groups).flatten(1)[:, :, None, None]
    video = _channels_last(video)
    return video.sub_(mean) if inplace and not torch.is_grad_enabled() else video - mean


def _channels_last(h: Tensor) -> Tensor:
    """The same memory with strides that torch's norm recognises as channels-last for a single
    image, too, whose own batch stride is arbitrary."""
    h = h.contiguous(memory_format=torch.channels_last)
    _, c, height, width = h.shape
    return h.as_strided(h.shape, (c * height * width, 1, width * c, c))


class FrameGroupNorm(nn.Module):
    """GroupNorm of [(b t), c, h, w] with statistics per frame, or pooled over all frames."""

    def __init__(self, groups: int, channels: int, *, eps: float, pooled: bool = False, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(groups, channels, eps=eps)
        self.pooled = pooled

    def forward(self, h: Tensor, frames: int, *, inplace: bool = False) -> Tensor:
        return group_norm(self.norm, h, frames if self.pooled else 1, inplace=inplace)
