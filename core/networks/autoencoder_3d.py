"""The 3D autoencoder of LVDM (He et al. 2022, section 3.1): one latent frame for several frames.

It consists of 3D convolutions with replicated borders and of group norms over the whole video. A
decoded frame therefore depends on every latent frame decoded with it, and on how a long video is
cut, see :mod:`..tasks.overlapped_decoding`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .border_convolutions import Buffers, Part, Prepare, buffer_for, convolved, gathered
from .layers.group_norms import affine_of, group_norm, is_affine
from .layers.residual import features_last, zeroed
from .video_shape import check_video

GROUPS, EPS = 32, 1e-6
KERNEL = 4
"""Kernel size of convolutions that change the resolution, also along axes that they keep."""

Triple = tuple[int, int, int]
"""(time, height, width)."""


@dataclass(frozen=True, kw_only=True)
class Autoencoder3DConfig:
    """width: channels at full resolution, doubled by every stage. factors: pixels per latent
    position along each axis, powers of 2. inner_channels: of the decoder's input and half the
    encoder's output, which 1x1x1 convolutions connect to the latents; None = latent_channels.
    Latents here are scale * (raw + shift)."""

    width: int = 32
    factors: Triple = (4, 8, 8)
    latent_channels: int = 4
    inner_channels: int | None = None
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if len(self.factors) != 3 or any(f < 1 or f & (f - 1) for f in self.factors):
            raise ValueError(f"The factors must be three powers of 2, got {self.factors}.")
        if self.inner_channels is None:
            object.__setattr__(self, "inner_channels", self.latent_channels)

    @property
    def strides(self) -> list[Triple]:
        """Of each downsampling stage, finest first. Axes are halved from the first stage on until
        their factor is reached; time, with a smaller factor, is done first."""
        logs = [factor.bit_length() - 1 for factor in self.factors]
        return [tuple(2 if log > i else 1 for log in logs) for i in range(max(logs))]

    def channels(self, stage: int) -> int:
        """Width after so many stages."""
        return self.width * 2**stage


class Posterior(NamedTuple):
    """Mean and log-variance [b t c h w] of a video's encoding, not scaled."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return (self.logvar / 2).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """A sample from standard normal `noise` of the mean's shape."""
        return self.mean + self.std * noise


# --------------------------------------------------------------------------------------------------
# Layers, on videos [b c t h w].


def same_padding(kernel: int, strides: Triple) -> list[int]:
    """Padding for F.pad that turns an axis of n into n / stride, with the larger half in front."""
    pads = []
    for stride in reversed(strides):  # F.pad begins with the last axis.
        total = kernel - stride
        pads += [total - total // 2, total // 2]
    return pads


class SameConv3d(nn.Module):
    """3D convolution with replicated borders that only the stride makes smaller."""

    def __init__(
        self, channels: int, out: int, kernel: int = 3, strides: Triple = (1, 1, 1), ops=nn
    ):
        super().__init__()
        self.conv = ops.Conv3d(channels, out, kernel, stride=strides)
        self.pads = same_padding(kernel, strides)

    def forward(self, h: Tensor) -> Tensor:
        if not any(self.pads):
            return self.conv(h)
        return gathered(self.parts(h), h.shape[2] // self.conv.stride[0])

    def parts(
        self, h: Tensor, prepare: Prepare | None = None, buffers: Buffers | None = None
    ) -> Iterator[Part]:
        """The output in parts, see :func:`.border_convolutions.convolved`."""
        return convolved(self.conv, h, self.pads, prepare, buffers)


class SameConvTranspose3d(nn.Module):
    """Its transposed counterpart: an axis of n becomes one of n * stride.

    A transposed convolution of kernel k equals one convolution of kernel k / stride for each phase,
    that is each position of an output between two inputs. A single convolution computes all phases,
    and each is then cropped from its own start.
    """

    def __init__(self, channels: int, out: int, strides: Triple, ops=nn):
        super().__init__()
        self.strides = strides
        self.phases = list(itertools.product(*map(range, strides)))
        kernel = [KERNEL // stride for stride in strides]
        self.conv = ops.Conv3d(channels, len(self.phases) * out, kernel, bias=False)
        self.bias = nn.Parameter(torch.zeros(out))
        self.pads = same_padding(KERNEL, strides)

    def forward(self, h: Tensor) -> Tensor:
        (rt, ry, rx), (frames, height, width) = self.strides, h.shape[2:]
        out = buffer_for((len(h), len(self.bias), frames * rt, height * ry, width * rx), h)
        bias = self.bias.to(h)[:, None, None, None]
        for at, made in convolved(self.conv, h, self.pads):
            for part, (t, y, x) in zip(made.chunk(len(self.phases), 1), self.phases, strict=True):
                # The phase starts t frames, y rows and x columns into the convolution's output.
                start, stop = max(at.start, t), min(at.stop, t + frames)
                inner = part[..., y : y + height, x : x + width]
                inner = inner[:, :, start - at.start : stop - at.start] + bias
                out[:, :, (start - t) * rt + t : (stop - t) * rt : rt, y::ry, x::rx] = inner
        return out


def phases_of(weight: Tensor, strides: Triple) -> Tensor:
    """The weight of :class:`SameConvTranspose3d`'s convolution from that of a transposed
    convolution [in out k k k]."""
    names = dict(zip(("rt", "ry", "rx"), strides, strict=True))
    pattern = "i o (t rt) (y ry) (x rx) -> (rt ry rx o) i t y x"
    return rearrange(weight.flip(2, 3, 4), pattern, **names)


def transposed_of(phases: Tensor, strides: Triple) -> Tensor:
    """Inverse of :func:`phases_of`."""
    names = dict(zip(("rt", "ry", "rx"), strides, strict=True))
    pattern = "(rt ry rx o) i t y x -> i o (t rt) (y ry) (x rx)"
    return rearrange(phases, pattern, **names).flip(2, 3, 4)


def activated(norm: nn.GroupNorm, h: Tensor) -> Tensor:
    """SiLU of the norm over the whole video [b c t h w]."""
    z = F.silu(group_norm(norm, rearrange(h, "b c t h w -> b c (t h) w")), inplace=True)
    return rearrange(z, "b c (t h) w -> b c t h w", t=h.shape[2])


def activated_parts(
    norm: nn.GroupNorm, conv: SameConv3d, h: Tensor, buffers: Buffers | None = None
) -> Iterator[Part]:
    """conv(activated(norm, h)) in parts."""
    if not is_affine(norm, h):
        return conv.parts(activated(norm, h), buffers=buffers)
    affine = affine_of(norm, h)

    def prepare(frames: Tensor, buffer: Tensor) -> None:
        F.silu(affine(frames, out=buffer), inplace=True)

    return conv.parts(h, prepare, buffers)


class ResBlock3D(nn.Module):
    """Residual block of two 3x3x3 convolutions, each after a norm and SiLU."""

    def __init__(self, channels: int, ops=nn):
        super().__init__()
        self.norm1 = ops.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv1 = SameConv3d(channels, channels, ops=ops)
        self.norm2 = ops.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv2 = SameConv3d(channels, channels, ops=ops)

    def forward(self, h: Tensor, buffers: Buffers | None = None) -> Tensor:
        """[b c t h w] -> the same shape; overwrites ``h`` unless gradients are needed."""
        if torch.is_grad_enabled():
            z = self.conv1(activated(self.norm1, h))
            return h + self.conv2(activated(self.norm2, z))
        buffers = buffers or Buffers()
        made = activated_parts(self.norm1, self.conv1, h, buffers)
        z = gathered(made, h.shape[2], buffers("between", h.shape, h))
        for at, made in activated_parts(self.norm2, self.conv2, z, buffers):
            h[:, :, at] += made
        return h


class Stage(nn.Module):
    """A change of resolution, then residual blocks."""

    def __init__(self, resample: nn.Module, channels: int, blocks: int, ops=nn):
        super().__init__()
        self.resample = resample
        self.blocks = nn.ModuleList([ResBlock3D(channels, ops) for _ in range(blocks)])

    def forward(self, h: Tensor) -> Tensor:
        h = self.resample(h)
        buffers = Buffers()
        for block in self.blocks:
            h = block(h, buffers)
        return h


class Encoder3D(nn.Module):
    """Videos [b 3 t h w] to moments of raw latents [b 2c t/f h/f w/f], before they are mixed."""

    def __init__(self, config: Autoencoder3DConfig, ops=nn):
        super().__init__()
        self.conv_in = SameConv3d(3, config.width, ops=ops)
        self.stages = nn.ModuleList()
        for i, strides in enumerate(config.strides):
            width = config.channels(i + 1)
            down = SameConv3d(config.channels(i), width, KERNEL, strides, ops)
            self.stages.append(Stage(down, width, 1, ops))
        width = config.channels(len(self.stages))
        self.norm_out = ops.GroupNorm(GROUPS, width, eps=EPS)
        self.conv_out = SameConv3d(width, 2 * config.inner_channels, ops=ops)

    def forward(self, h: Tensor) -> Tensor:
        h = self.conv_in(features_last(h))
        for stage in self.stages:
            h = stage(h)
        return gathered(activated_parts(self.norm_out, self.conv_out, h), h.shape[2])


class Decoder3D(nn.Module):
    """Raw latents to videos. Time is upsampled first; no norm precedes the last convolution."""

    def __init__(self, config: Autoencoder3DConfig, ops=nn):
        super().__init__()
        self.stages = nn.ModuleList()
        count = len(config.strides)
        widths = [config.inner_channels, *(config.channels(count - i) for i in range(count))]
        for strides, (width, out) in zip(config.strides, itertools.pairwise(widths), strict=True):
            up = SameConvTranspose3d(width, out, strides, ops)
            self.stages.append(Stage(up, out, 2, ops))
        self.conv_out = SameConv3d(widths[-1], 3, ops=ops)

    def forward(self, h: Tensor) -> Tensor:
        h = features_last(h)
        for stage in self.stages:
            h = stage(h)
        return self.conv_out(h)


# --------------------------------------------------------------------------------------------------
# The autoencoder, on videos [b t c h w].


class Autoencoder3D(nn.Module):
    """Videos [b t 3 h w] in [-1, 1] to scaled latents [b t/f c h/f w/f] and back.

    Calling it decodes, as it does with :class:`.autoencoder.TemporalDecoder`.
    """

    reach = None
    """None: a frame depends on all latent frames that are decoded with it."""

    def __init__(self, config: Autoencoder3DConfig, ops=nn):
        super().__init__()
        self.config = config
        channels, inner = config.latent_channels, config.inner_channels
        self.encoder = Encoder3D(config, ops)
        self.decoder = Decoder3D(config, ops)
        self.mix_moments = SameConv3d(2 * inner, 2 * channels, 1, ops=ops)
        self.mix_latents = SameConv3d(channels, inner, 1, ops=ops)
        for block in self.modules():
            if isinstance(block, ResBlock3D):
                zeroed(block.conv2)

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return self.config.factors[0]

    def frames_of(self, latents: range) -> range:
        """The frames that a range of latent frames decodes to."""
        return range(latents.start * self.temporal_factor, latents.stop * self.temporal_factor)

    def latents_of(self, frames: range) -> range:
        """The smallest range of latent frames that covers all of these frames."""
        factor = self.temporal_factor
        return range(frames.start // factor, -(-frames.stop // factor))

    def scaled(self, raw: Tensor) -> Tensor:
        """Latents of about unit variance: scale * (raw + shift)."""
        return (raw + self.config.shift) * self.config.scale

    def unscaled(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`scaled`."""
        return latents / self.config.scale - self.config.shift

    def posterior(self, video: Tensor) -> Posterior:
        """The posterior of ``video`` [b t 3 h w].

        Raises ValueError for a number of frames or a size that the factors do not divide.
        """
        check_video(video, 3)
        self.check_fits(video)
        video = rearrange(video, "b t c h w -> b c t h w")
        moments = rearrange(self.mix_moments(self.encoder(video)), "b c t h w -> b t c h w")
        mean, logvar = moments.chunk(2, dim=2)
        return Posterior(mean, logvar.clamp(-30, 20))

    def encode(self, video: Tensor, noise: Tensor | None = None, *, pad: bool = False) -> Tensor:
        """Scaled latents of ``video`` [b t 3 h w]: the mean, or a sample from standard normal
        ``noise`` of the latents' shape.

        pad: repeat the last frame until the factor divides the number of frames; the decoded video
        is longer by as many. Raises ValueError as :meth:`posterior` does.
        """
        check_video(video, 3)
        found = self.posterior(self._padded(video) if pad else video)
        return self.scaled(found.mean if noise is None else found.sample(noise))

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels of scaled ``latents`` [b t c h w], all decoded at once."""
        check_video(latents, self.config.latent_channels)
        raw = rearrange(self.unscaled(latents), "b t c h w -> b c t h w")
        return rearrange(self.decoder(self.mix_latents(raw)), "b c t h w -> b t c h w")

    def check_fits(self, video: Tensor) -> None:
        """Raise ValueError unless the factors divide the video [b t 3 h w]."""
        frames, height, width = (video.shape[axis] for axis in (1, 3, 4))
        time, *sides = self.config.factors
        if frames % time:
            below, above = frames - frames % time, frames + time - frames % time
            near = f"{below} and {above}" if below else str(above)
            raise ValueError(
                f"The autoencoder makes one latent frame of {time} frames, which do not divide "
                f"{frames}; the nearest that fit: {near}."
            )
        if height % sides[0] or width % sides[1]:
            raise ValueError(
                f"The frame size {width}x{height} must be divisible by {sides[1]}x{sides[0]}."
            )

    def _padded(self, video: Tensor) -> Tensor:
        missing = -video.shape[1] % self.temporal_factor
        return torch.cat([video, video[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
