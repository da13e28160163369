"""The first stage: an image autoencoder applied per frame, and its temporally fine-tuned decoder.

Video LDM, section 3.1.1: the encoder is not changed, so that latents keep their meaning for every
image model trained on them; only the decoder learns temporal consistency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange
from torch import Tensor, nn

from .decoder_modules import head, residual, upsample
from .latent_scale import LatentScale
from .layers.residual import TemporalResBlockSpec, features_last, zeroed
from .video_shape import check_video


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    channels: tuple[int, ...] = (32, 64, 128)  # one entry per resolution, finest first
    latent_channels: int = 8
    layers_per_block: int = 1  # residual blocks per level of the encoder
    norm_groups: int = 8
    scale: float = 1.0  # latent = scale * (mean - shift)
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("shift", self.shift)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {str(value)[:40]}")
        if self.scale == 0:
            raise ValueError("scale must be another number than 0, by which latents are divided")

    @property
    def factor(self) -> int:
        """Pixels per latent position along one side."""
        return 2 ** (len(self.channels) - 1)


def build_autoencoder(config: AutoencoderConfig) -> AutoencoderKL:
    """Build a fully convolutional image autoencoder; it takes any size that its factor divides."""
    levels = len(config.channels)
    autoencoder = AutoencoderKL(
        block_out_channels=config.channels,
        latent_channels=config.latent_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=False,
        scaling_factor=config.scale,
        shift_factor=config.shift,
    )
    for module in autoencoder.modules():
        if isinstance(module, ResnetBlock2D):
            # Residual blocks start as the identity: the almost linear path through up- and
            # down-samplers is learned first, which halves the steps to a given error.
            zeroed(module.conv2)
    return autoencoder


def encode_moments(autoencoder: AutoencoderKL, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of the posterior of ``frames`` [n, 3, h, w], unscaled."""
    moments = autoencoder.encoder(frames)
    if autoencoder.quant_conv is not None:
        moments = autoencoder.quant_conv(moments)
    mean, logvar = moments.chunk(2, dim=1)
    return mean, logvar.clamp(-30, 20)


def encode(
    autoencoder: AutoencoderKL,
    video: Tensor,
    *,
    chunk: int = 16,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode ``video`` [b, t, 3, h, w] in [-1, 1] to scaled latents [b, t, c, h/f, w/f].

    Returns the mode of the posterior, or with a generator a sample from it, as latent diffusion
    models are trained on (Rombach et al. 2022). Frames are independent of each other, so ``chunk``
    affects memory only.
    """
    check_video(video, 3)
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    if video.shape[-2] % factor or video.shape[-1] % factor:
        raise ValueError(
            f"frame size {video.shape[-1]}x{video.shape[-2]} must be divisible by {factor}"
        )
    frames = rearrange(video, "b t c h w -> (b t) c h w")
    moments = [encode_moments(autoencoder, part) for part in frames.split(chunk)]
    raw, logvar = (torch.cat(parts) for parts in zip(*moments, strict=True))
    if generator is not None:
        noise = torch.randn(raw.shape, generator=generator, device=raw.device, dtype=raw.dtype)
        raw = raw + torch.exp(0.5 * logvar) * noise
    return rearrange(scaled(autoencoder, raw), "(b t) c h w -> b t c h w", b=len(video))


def scaled(autoencoder: AutoencoderKL, raw: Tensor) -> Tensor:
    """Scale raw latents to about unit variance, which all diffusion models here work on."""
    return _scale_of(autoencoder).scaled(raw)


def unscaled(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Inverse of :func:`scaled`."""
    return _scale_of(autoencoder).unscaled(latents)


def _scale_of(autoencoder: AutoencoderKL) -> LatentScale:
    return LatentScale(autoencoder.config.scaling_factor, autoencoder.config.shift_factor or 0.0)


class TemporalDecoder(nn.Module):
    """The autoencoder's decoder with a temporal residual block at the end of each resolution.

    Maps latents [b, t, c, h, w], scaled, to pixels [b, t, 3, f h, f w] in about [-1, 1]. The
    temporal convolutions are centred and zero-padded and their norms are per frame, so a frame
    depends on at most :attr:`reach` frames on either side, which chunked decoding relies on.

    kernel: of the temporal convolutions, in frames. spatial: their spatial kernel size, one number
    per block, coarsest first; None = 1 for all.
    """

    def __init__(
        self, autoencoder: AutoencoderKL, *, kernel: int = 3, spatial: Sequence[int] | None = None
    ):
        super().__init__()
        self.autoencoder = autoencoder
        self.kernel = kernel
        blocks = self._blocks()
        self.spatial = tuple(spatial or [1] * len(blocks))
        groups = autoencoder.config.norm_num_groups
        self.temporal = nn.ModuleList(
            [
                TemporalResBlockSpec(kernel=kernel, spatial=side, norm_groups=groups).build(
                    block.resnets[-1].out_channels
                )
                for block, side in zip(blocks, self.spatial, strict=True)
            ]
        )

    def _blocks(self) -> list[nn.Module]:
        return [self.autoencoder.decoder.mid_block, *self.autoencoder.decoder.up_blocks]

    temporal_factor = 1  # frames per latent frame

    @property
    def reach(self) -> int:
        """Frames on either side that one decoded frame can depend on."""
        return len(self.temporal) * 2 * (self.kernel // 2)

    def forward(self, latents: Tensor) -> Tensor:
        check_video(latents)
        frames = latents.shape[1]
        h = rearrange(unscaled(self.autoencoder, latents), "b t c h w -> (b t) c h w")
        if self.autoencoder.post_quant_conv is not None:
            h = self.autoencoder.post_quant_conv(h)
        decoder = self.autoencoder.decoder
        h = features_last(decoder.conv_in(h))
        for block, temporal in zip(self._blocks(), self.temporal, strict=True):
            for resnet in block.resnets:
                h = residual(resnet, h)
            h = temporal(h, frames)
            for upsampler in getattr(block, "upsamplers", None) or ():
                h = upsample(upsampler, h)
        return rearrange(head(decoder, h), "(b t) c h w -> b t c h w", t=frames)


def decode_frames(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode scaled latents [b, t, c, h, w] frame by frame with the image decoder."""
    check_video(latents)
    frames = rearrange(unscaled(autoencoder, latents), "b t c h w -> (b t) c h w")
    # Few on a CPU: a layer on 8 frames of 256x256 takes seconds and cannot be interrupted.
    parts = frames.split(2 if frames.device.type == "cpu" else 8)
    pixels = torch.cat([autoencoder.decode(part).sample for part in parts])
    return rearrange(pixels, "(b t) c h w -> b t c h w", b=len(latents))


def config_dict(config: AutoencoderConfig) -> dict:
    """The configuration as JSON values, for a file's header."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
