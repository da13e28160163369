"""One forward pass of a video U-Net through the modules of its image U-Net, in their own order."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from .controlnet import Residuals
from .injected_sets import LayerPass
from .opened_modules import OpenedModules
from .sites import ForwardStep, diffusers_path, forward_steps, layout_of


def unet_forward(
    unet: UNet2DConditionModel,
    h: Tensor,
    embedding: Tensor,
    text: Tensor | None,
    layers: LayerPass,
    residuals: Residuals | None = None,
) -> Tensor:
    """The output [(b t), c', h, w] for h [(b t), c, h, w].

    embedding: of the timesteps, [b, e] or [b, t, e]. text: [b, n, d] or [b, t, n, d]. layers: the
    temporal layers. residuals: what ControlNets add to the skip connections and to the middle.
    """
    spatial = OpenedModules(unet, embedding, text, layers)
    h, skips = spatial.enter(h), []
    for step in forward_steps(layout_of(unet.config)):
        h = _take(spatial, unet, step, h, skips, layers)
        if step.site == "mid.out" and residuals is not None:
            h = h + residuals.middle
            skips = [skip + more for skip, more in zip(skips, residuals.skips, strict=True)]
    return spatial.head(h)


def way_down(
    encoder: ControlNetModel, h: Tensor, embedding: Tensor, text: Tensor, layers: LayerPass
) -> tuple[list[Tensor], Tensor]:
    """The skip connections and the middle of a ControlNet's encoder, from the output of its first
    convolution."""
    spatial, skips = OpenedModules(encoder, embedding, text, layers), []
    h = spatial.enter(h)
    for step in forward_steps(layout_of(encoder.config)):
        if step.module == "conv_in":
            h = layers(step.site, h)
            skips.append(h)
            continue
        h = _take(spatial, encoder, step, h, skips, layers)
        if step.site == "mid.out":
            break
    return skips, h


def _take(
    spatial: OpenedModules,
    unet: nn.Module,
    step: ForwardStep,
    h: Tensor,
    skips: list[Tensor],
    layers: LayerPass,
) -> Tensor:
    """One step: the spatial module, then the layers at the site."""
    if step.takes_skip:
        h = torch.cat([h, skips.pop()], dim=1)
    h = _run(spatial, unet, step, h, skips)
    if step.module == "downsample":
        skips.append(h)
    h = layers(step.site, h)
    if step.leaves_skip and step.module != "downsample":
        skips.append(h)
    return h


def _run(
    spatial: OpenedModules,
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
        # After the concatenation with a skip connection, h is not used elsewhere.
        block = unet.get_submodule(diffusers_path(step.site))
        return spatial.res(block, h, inplace=step.takes_skip)
    if step.module == "attn":
        return spatial.attn(step.site, unet.get_submodule(diffusers_path(step.site)), h)
    level = int(step.site.split(".")[1])
    if step.module == "downsample":
        return spatial.downsample(unet.down_blocks[level].downsamplers[0], h)
    # Odd sizes are restored to exactly the size of the next skip connection.
    return spatial.upsample(unet.up_blocks[level].upsamplers[0], h, skips[-1].shape[-2:])
