"""One forward pass of a video U-Net through the modules of its image U-Net, in their own order."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from .controlnet import Residuals
from .injected_sets import LayerPass
from .layers import per_frame


class Walk:
    """One forward pass through the modules of the image U-Net, on [(b t), c, h, w]."""

    def __init__(
        self, unet: UNet2DConditionModel, embedding: Tensor, text: Tensor | None, act: LayerPass
    ):
        self.unet, self.temporal = unet, act
        self.embedding = per_frame(embedding, act.frames)
        self.text = None if text is None else text_per_frame(text, act.frames)
        self.residuals: Residuals | None = None  # of ControlNets

    def __call__(self, h: Tensor) -> Tensor:
        unet = self.unet
        h = self.temporal("in", unet.conv_in(h))
        skips = [h]
        for i, block in enumerate(unet.down_blocks):
            h = self.down(i, block, h, skips)
        h = self.middle(unet.mid_block, h)
        if self.residuals is not None:
            h = h + self.residuals.middle
            skips = [skip + more for skip, more in zip(skips, self.residuals.skips, strict=True)]
        for i, block in enumerate(unet.up_blocks):
            h = self.up(i, block, h, skips)
        return self.head(h)

    def head(self, h: Tensor) -> Tensor:
        """Norm, activation and convolution from the last features to the answer."""
        unet = self.unet
        if unet.conv_norm_out is not None:
            h = unet.conv_act(unet.conv_norm_out(h))
        return unet.conv_out(h)

    def res(self, site: str, block: nn.Module, h: Tensor) -> Tensor:
        return self.temporal(site, block(h, self.embedding))

    def attn(self, site: str, transformer: nn.Module | None, h: Tensor) -> Tensor:
        if transformer is not None:
            h = transformer(h, encoder_hidden_states=self.text, return_dict=False)[0]
        return self.temporal(site, h)

    def layers(self, way: str, j: int, block: nn.Module, h: Tensor) -> Tensor:
        """Residual block ``j`` and the transformer after it, if there is one."""
        h = self.res(f"{way}.res.{j}", block.resnets[j], h)
        attentions = getattr(block, "attentions", None)
        return self.attn(f"{way}.attn.{j}", attentions[j] if attentions else None, h)

    def down(self, i: int, block: nn.Module, h: Tensor, skips: list[Tensor]) -> Tensor:
        for j in range(len(block.resnets)):
            h = self.layers(f"down.{i}", j, block, h)
            skips.append(h)
        for sampler in block.downsamplers or ():
            h = self.downsample(sampler, h)
            skips.append(h)
        return self.temporal(f"down.{i}.out", h)

    def middle(self, block: nn.Module, h: Tensor) -> Tensor:
        h = self.res("mid.res.0", block.resnets[0], h)
        h = self.attn("mid.attn.0", block.attentions[0] if block.attentions else None, h)
        h = self.res("mid.res.1", block.resnets[1], h)
        return self.temporal("mid.out", h)

    def up(self, i: int, block: nn.Module, h: Tensor, skips: list[Tensor]) -> Tensor:
        for j in range(len(block.resnets)):
            h = torch.cat([h, skips.pop()], dim=1)
            h = self.layers(f"up.{i}", j, block, h)
        for sampler in block.upsamplers or ():
            # Sizes that do not halve evenly come back to exactly the size of the next skip.
            h = self.upsample(sampler, h, skips[-1].shape[-2:] if skips else None)
        return self.temporal(f"up.{i}.out", h)

    def downsample(self, sampler: nn.Module, h: Tensor) -> Tensor:
        return sampler(h)

    def upsample(self, sampler: nn.Module, h: Tensor, size: torch.Size | None) -> Tensor:
        return sampler(h, size)


def text_per_frame(text: Tensor, frames: int) -> Tensor:
    """Text tokens for every frame: [b, n, d] is repeated, [b, t, n, d] folded, to [(b t), n, d]."""
    if text.ndim == 4:
        return rearrange(text, "b t n d -> (b t) n d")
    return repeat(text, "b n d -> (b t) n d", t=frames)
