"""An image decoder with temporal layers, by site: Stable Video Diffusion's flicker-free decoder for
the latents of the image autoencoder (Blattmann et al. 2023, section 3).

Sites are named as in a U-Net, see :mod:`.sites`, with levels counted from the coarsest:

    mid.res.0   mid.attn.0   mid.res.1   up.I.res.J     after a module, or inside the attention
    out                                                 after the last convolution, on pixels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import AutoencoderKL
from einops import rearrange
from torch import Tensor, nn

from .autoencoder import unscaled
from .decoder_modules import head, residual, upsample
from .layers.residual import features_last, over_time
from .layers.specs import NO_INPUTS, LayerInputs, LayerSpec, module_kind
from .temporal_layers import key
from .video_shape import check_video

OUT = "out"
ATTENTION = "mid.attn.0"


@module_kind("output convolution")
@dataclass(frozen=True, kw_only=True)
class OutputConvolutionSpec(LayerSpec):
    """One convolution [kernel, spatial, spatial] whose output replaces its input."""

    kernel: int = 3
    spatial: int = 1

    @property
    def reach(self) -> int:
        return self.kernel // 2

    def build(self, width: int, ops=nn) -> OutputConvolution:
        return OutputConvolution(width, self, ops)


class OutputConvolution(nn.Module):
    """See :class:`OutputConvolutionSpec`. Untrained, it is the identity."""

    def __init__(self, width: int, spec: OutputConvolutionSpec, ops=nn):
        super().__init__()
        size = (spec.kernel, spec.spatial, spec.spatial)
        padding = tuple(side // 2 for side in size)
        self.conv = ops.Conv3d(width, width, size, padding=padding)
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(
        self, h: Tensor, frames: int, inputs: LayerInputs = NO_INPUTS, strength: float = 1.0
    ) -> Tensor:
        """``h`` [(b t), c, h, w]; the inputs are not read."""
        z = over_time(self.conv, h, frames)
        return z if strength == 1.0 else h + strength * (z - h)


class VideoDecoder(nn.Module):
    """Decodes all frames of scaled latents [b t c h w] together, to pixels [b t 3 f h f w] in about
    [-1, 1], with temporal layers between the decoder's modules.

    autoencoder: the image model; its encoder is not used and may be missing. layers: by site;
    ValueError for sites that it does not have. strength: of the layers; at 0 this is the image
    decoder, frame by frame.
    """

    temporal_factor = 1

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        layers: Mapping[str, LayerSpec],
        *,
        strength: float = 1.0,
        ops=nn,
    ):
        super().__init__()
        widths = dict(decoder_sites(autoencoder))
        unknown = [site for site in layers if site not in widths]
        if unknown:
            raise ValueError(f"no such sites in the decoder: {', '.join(unknown[:5])}")
        self.autoencoder = autoencoder
        self.strength = strength
        self.spec = dict(layers)
        self.layers = nn.ModuleDict(
            {key(site): layer.build(widths[site], ops) for site, layer in layers.items()}
        )

    @property
    def reach(self) -> int | None:
        """Frames on either side that a decoded frame can depend on; None if it depends on all
        frames decoded with it, as with pooled norms or attention."""
        each = [layer.reach for layer in self.spec.values()]
        return None if None in each else sum(each)

    def with_strength(self, strength: float) -> VideoDecoder:
        """The same modules with temporal layers of another strength."""
        other = VideoDecoder(self.autoencoder, {}, strength=strength)
        other.spec, other.layers = self.spec, self.layers
        return other

    def forward(self, latents: Tensor) -> Tensor:
        check_video(latents, self.autoencoder.config.latent_channels)
        frames = latents.shape[1]
        h = rearrange(unscaled(self.autoencoder, latents), "b t c h w -> (b t) c h w")
        if self.autoencoder.post_quant_conv is not None:
            h = self.autoencoder.post_quant_conv(h)
        decoder = self.autoencoder.decoder
        h = self._middle(features_last(decoder.conv_in(h)), frames)
        for i, block in enumerate(decoder.up_blocks):
            for j, resnet in enumerate(block.resnets):
                h = residual(resnet, h)  # frees what it was made from
                h = self._layer(f"up.{i}.res.{j}", h, frames)
            for upsampler in block.upsamplers or ():
                h = upsample(upsampler, h)
        h = head(decoder, h)
        return rearrange(self._layer(OUT, h, frames), "(b t) c h w -> b t c h w", t=frames)

    def _middle(self, h: Tensor, frames: int) -> Tensor:
        block = self.autoencoder.decoder.mid_block
        h = self._layer("mid.res.0", residual(block.resnets[0], h), frames)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                h = self._attention(attention, h, frames)
            h = self._layer("mid.res.1", residual(resnet, h), frames)
        return h

    def _layer(self, site: str, h: Tensor, frames: int) -> Tensor:
        name = key(site)
        if name not in self.layers or self.strength == 0.0:
            return h
        return self.layers[name](h, frames, NO_INPUTS, self.strength)

    def _attention(self, attention: nn.Module, h: Tensor, frames: int) -> Tensor:
        """The image decoder's attention; a layer acts before its last projection."""
        if key(ATTENTION) not in self.layers or self.strength == 0.0:
            return attention(h)
        tokens = rearrange(attention.group_norm(h), "n c h w -> n (h w) c")
        q, k, v = (
            rearrange(project(tokens), "n s (k d) -> n k s d", k=attention.heads)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        out = F.scaled_dot_product_attention(q, k, v)
        out = self._layer(ATTENTION, rearrange(out, "n k s d -> n s (k d)"), frames)
        out = rearrange(attention.to_out[0](out), "n (h w) c -> n c h w", h=h.shape[-2])
        return h + out


def decoder_sites(autoencoder: AutoencoderKL) -> Iterator[tuple[str, int]]:
    """Every site with its width, in the order of the forward pass."""
    decoder = autoencoder.decoder
    middle = decoder.mid_block
    yield "mid.res.0", middle.resnets[0].out_channels
    if any(attention is not None for attention in middle.attentions):
        yield ATTENTION, middle.resnets[0].out_channels
    yield "mid.res.1", middle.resnets[0].out_channels
    for i, block in enumerate(decoder.up_blocks):
        for j, resnet in enumerate(block.resnets):
            yield f"up.{i}.res.{j}", resnet.out_channels
    yield OUT, decoder.conv_out.out_channels
