"""Temporal layers in ComfyUI's U-Net, by forward hooks for one pass.

The sites are those of core's forward pass through diffusers' U-Net: after modules and, for layers
that act inside of them, in transformer blocks, group norms and self-attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from einops import rearrange
from torch import Tensor, nn

from ....core.networks.injected_sets import LayerPass
from ....core.networks.opened_modules import first_and_previous
from ....core.networks.sites import (
    UNetLayout,
    block_sites,
    forward_steps,
    ldm_path,
    module_site,
    res_sites,
)

BEFORE, AFTER = "before_feed_forward", "after_feed_forward"


@contextmanager
def hooked(unet: UNetModel, layout: UNetLayout, act: LayerPass) -> Iterator[None]:
    """Hook the pass into the U-Net within this context."""
    with act.updated(), ExitStack() as stack:
        for handle in _handles(unet, layout, act):
            stack.callback(handle.remove)
        yield


def _handles(unet: UNetModel, layout: UNetLayout, act: LayerPass) -> Iterator[Any]:
    def add_embedding(module: nn.Module, args: tuple, output: Tensor) -> None:
        act.add_embedding(output.unflatten(0, (act.videos, act.frames)))

    yield unet.time_embed.register_forward_hook(add_embedding)
    if unet.num_classes is not None:
        yield unet.label_emb.register_forward_hook(add_embedding)
    if act.sets.pooled_norms:
        for norm in _norms(unet, layout):
            yield from _pooled(norm, act.frames)
    if act.sets.sparse_causal:
        for block in _blocks(unet, layout):
            yield from _sparse_causal(block, act.frames)
    for site in block_sites(layout):
        if site in act.sites:
            yield from _in_block(unet.get_submodule(ldm_path(site, layout)), site, act)
    # Hooks on the same module are registered, and so called, in the order of the forward pass.
    for step in forward_steps(layout):
        if step.site in act.sites:
            yield _at(unet, layout, act, step.site)


# --------------------------------------------------------------------------------------------------
# Layers at their sites.


def _at(unet: UNetModel, layout: UNetLayout, act: LayerPass, site: str) -> Any:
    def after(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return act(site, output)

    def before(module: nn.Module, args: tuple) -> tuple:
        return (act(site, args[0]), *args[1:])

    if site.startswith("down.") and site.endswith(".out"):
        # The skip connection branches off before this site: act on the next level's input instead.
        following = _after_level(unet, int(site.split(".")[1]), layout)
        return following.register_forward_pre_hook(before)
    return _module_at(unet, site, layout).register_forward_hook(after)


def _in_block(block: BasicTransformerBlock, site: str, act: LayerPass) -> Iterator[Any]:
    """Before the feed-forward the residual feeds the norm and bypasses it; a layer there changes
    the norm's input, and the bypass at the block's output."""
    past: list[Tensor] = []

    def into(norm: nn.Module, args: tuple) -> tuple:
        tokens = act(site, args[0], BEFORE)
        past.append(tokens - args[0])
        return (tokens,)

    def out_of(block: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return act(site, output + past.pop(), AFTER)

    yield block.norm3.register_forward_pre_hook(into)
    yield block.register_forward_hook(out_of)


def _module_at(unet: UNetModel, site: str, layout: UNetLayout) -> nn.Module:
    """The module whose output is the tensor at the site."""
    way, *rest = site.split(".")
    if way == "in":
        return unet.input_blocks[0][0]
    if rest[-1] != "out":
        return unet.get_submodule(ldm_path(module_site(site, layout), layout))
    if way == "mid":
        return unet.middle_block[-1]
    return unet.output_blocks[(int(rest[0]) + 1) * (layout.layers + 1) - 1][-1]


def _after_level(unet: UNetModel, level: int, layout: UNetLayout) -> nn.Module:
    """The first module after a level of the down path and its downsampler."""
    if level == layout.levels - 1:
        return unet.middle_block[0]
    return unet.input_blocks[(level + 1) * (layout.layers + 1) + 1][0]


# --------------------------------------------------------------------------------------------------
# Changes to the image network's own layers while temporal layers are in it.


def _norms(unet: UNetModel, layout: UNetLayout) -> Iterator[nn.Module]:
    """All group norms except those of transformers."""
    for site in res_sites(layout):
        block = unet.get_submodule(ldm_path(site, layout))
        yield from (block.in_layers[0], block.out_layers[0])
    yield unet.out[0]


def _pooled(norm: nn.Module, frames: int) -> Iterator[Any]:
    """Let a norm compute its statistics over all frames of a video."""

    def to_clips(norm: nn.Module, args: tuple) -> tuple:
        return (rearrange(args[0], "(b t) c h w -> b c t h w", t=frames),)

    def to_frames(norm: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return rearrange(output, "b c t h w -> (b t) c h w")

    yield norm.register_forward_pre_hook(to_clips)
    yield norm.register_forward_hook(to_frames)


def _blocks(unet: UNetModel, layout: UNetLayout) -> Iterator[BasicTransformerBlock]:
    """Transformer blocks with self-attention."""
    for site in block_sites(layout):
        block = unet.get_submodule(ldm_path(site, layout))
        if not block.disable_self_attn:
            yield block


def _sparse_causal(block: BasicTransformerBlock, frames: int) -> Iterator[Any]:
    """Let self-attention read the first and the previous frame."""
    select = partial(_selected, frames=frames)
    yield block.attn1.to_k.register_forward_hook(select)
    yield block.attn1.to_v.register_forward_hook(select)


def _selected(module: nn.Module, args: tuple, output: Tensor, *, frames: int) -> Tensor:
    return first_and_previous(output, frames)
