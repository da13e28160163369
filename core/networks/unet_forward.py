"""One forward pass of a video U-Net through the modules of its image U-Net, in their own order."""

from __future__ import annotations

from typing import Protocol

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from .controlnet import Residuals
from .injected_sets import LayerPass
from .layers.residual import per_frame
from .opened_modules import OpenedModules
from .sites import ForwardStep, diffusers_path, forward_steps, layout_of


class SpatialModules(Protocol):
    """How the image U-Net's own modules are run on [(b t), c, h, w]."""

    def enter(self, h: Tensor) -> Tensor: ...
    def res(self, block: nn.Module, h: Tensor) -> Tensor: ...
    def attn(self, site: str, transformer: nn.Module, h: Tensor) -> Tensor: ...
    def downsample(self, sampler: nn.Module, h: Tensor) -> Tensor: ...
    def upsample(self, sampler: nn.Module, h: Tensor, size: torch.Size | None) -> Tensor: ...
    def head(self, h: Tensor) -> Tensor: ...


def unet_forward(
    unet: UNet2DConditionModel,
    h: Tensor,
    embedding: Tensor,
    text: Tensor | None,
    act: LayerPass,
    residuals: Residuals | None = None,
) -> Tensor:
    """The answer [(b t), c', h, w] for h [(b t), c, h, w].

    embedding: of the time, [b, e] or [b, t, e]. text: [b, n, d] or [b, t, n, d]. act: the layers at
    every site. residuals: what ControlNets add to the skip connections and to the middle.
    """
    spatial: SpatialModules
    # Most layers act between the image network's modules; some also act inside of them.
    if act.sets.inside_modules or act.conditions.reference is not None:
        spatial = OpenedModules(unet, embedding, text, act)
    else:
        spatial = WholeModules(unet, embedding, text, act)
    h, skips = spatial.enter(h), []
    for step in forward_steps(layout_of(unet.config)):
        h = _take(spatial, unet, step, h, skips, act)
        if step.site == "mid.out" and residuals is not None:
            h = h + residuals.middle
            skips = [skip + more for skip, more in zip(skips, residuals.skips, strict=True)]
    return spatial.head(h)


def way_down(
    encoder: ControlNetModel, h: Tensor, embedding: Tensor, text: Tensor, act: LayerPass
) -> tuple[list[Tensor], Tensor]:
    """The skip connections and the middle of a ControlNet's copy of the way down, from what its
    first convolution gave."""
    spatial, skips = WholeModules(encoder, embedding, text, act), []
    for step in forward_steps(layout_of(encoder.config)):
        if step.module == "conv_in":
            h = act(step.site, h)
            skips.append(h)
            continue
        h = _take(spatial, encoder, step, h, skips, act)
        if step.site == "mid.out":
            break
    return skips, h


def _take(
    spatial: SpatialModules,
    unet: nn.Module,
    step: ForwardStep,
    h: Tensor,
    skips: list[Tensor],
    act: LayerPass,
) -> Tensor:
    """One step: the spatial module, then the layers at the site."""
    if step.takes_skip:
        h = torch.cat([h, skips.pop()], dim=1)
    h = _run(spatial, unet, step, h, skips)
    if step.module == "downsample":
        skips.append(h)
    h = act(step.site, h)
    if step.leaves_skip and step.module != "downsample":
        skips.append(h)
    return h


def _run(
    spatial: SpatialModules,
    unet: nn.Module,
    step: ForwardStep,
    h: Tensor,
    skips: list[Tensor],
) -> Tensor:
    """The spatial module of a step."""
    if step.module == "none":
        return h
    if step.module == "conv_in":
        return unet.conv_in(h)
    if step.module == "res":
        return spatial.res(unet.get_submodule(diffusers_path(step.site)), h)
    if step.module == "attn":
        return spatial.attn(step.site, unet.get_submodule(diffusers_path(step.site)), h)
    level = int(step.site.split(".")[1])
    if step.module == "downsample":
        return spatial.downsample(unet.down_blocks[level].downsamplers[0], h)
    # Sizes that do not halve evenly come back to exactly the size of the next skip.
    return spatial.upsample(unet.up_blocks[level].upsamplers[0], h, skips[-1].shape[-2:])


class WholeModules:
    """The image U-Net's modules as they are."""

    def __init__(
        self,
        unet: UNet2DConditionModel | ControlNetModel,
        embedding: Tensor,
        text: Tensor | None,
        act: LayerPass,
    ):
        self.unet = unet
        self.embedding = per_frame(embedding, act.frames)
        self.text = None if text is None else text_per_frame(text, act.frames)

    def enter(self, h: Tensor) -> Tensor:
        return h

    def res(self, block: nn.Module, h: Tensor) -> Tensor:
        return block(h, self.embedding)

    def attn(self, site: str, transformer: nn.Module, h: Tensor) -> Tensor:
        return transformer(h, encoder_hidden_states=self.text, return_dict=False)[0]

    def downsample(self, sampler: nn.Module, h: Tensor) -> Tensor:
        return sampler(h)

    def upsample(self, sampler: nn.Module, h: Tensor, size: torch.Size | None) -> Tensor:
        return sampler(h, size)

    def head(self, h: Tensor) -> Tensor:
        """Norm, activation and convolution from the last features to the answer."""
        unet = self.unet
        if unet.conv_norm_out is not None:
            h = unet.conv_act(unet.conv_norm_out(h))
        return unet.conv_out(h)


def text_per_frame(text: Tensor, frames: int) -> Tensor:
    """Text tokens for every frame: [b, n, d] is repeated, [b, t, n, d] folded, to [(b t), n, d]."""
    if text.ndim == 4:
        return rearrange(text, "b t n d -> (b t) n d")
    return repeat(text, "b n d -> (b t) n d", t=frames)
