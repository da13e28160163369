"""Weight names of motion modules: the originals', Hotshot-XL's and diffusers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.layers.positions import interleaved_sinusoid
from ..networks.sites import diffusers_path, width_at
from ..networks.temporal_layers import key
from ..weights.checkpoints import CheckpointError, complain
from .animatediff_config import LATENTS, TABLE, AnimateDiffConfig, Spelling
from .stable_diffusion_keys import inverse, rename, rename_all

_SPATIAL = re.compile(
    r"((down|up)_blocks\.\d+\.(resnets|attentions|downsamplers|upsamplers)"
    r"|mid_block\.(resnets|attentions)|conv_in|conv_norm_out|conv_out|time_embedding"
    r"|add_embedding)\."
)
"""Modules of the image network, which training checkpoints also hold."""

_INPUT = ("conv_in.weight", "conv_in.bias")
_OWN = ("layers.in.own.weight", "layers.in.own.bias")
_CHANNELS = "layers.in.conv.weight"
"""PIA's first convolution, and its two parts in our layers: for the latents, and for the mask and
the image."""

TABLE_TOLERANCE = 0.07
"""For position tables in half precision or less."""


def module_path(site: str, spelling: Spelling) -> str:
    """The path of the motion module at ``site`` in a file."""
    kind = "temporal_attentions" if spelling == "hotshot" else "motion_modules"
    inner = ".temporal_transformer" if spelling == "original" else ""
    return diffusers_path(site).replace("attentions", kind) + inner


def tails(blocks: int, attentions: int, spelling: Spelling) -> dict[str, str]:
    """Module paths inside a motion module: the file's -> :class:`~..motion_module.MotionModule`'s,
    without the ``base`` of projections."""
    found = {"norm": "norm", "proj_in": "project_in", "proj_out": "project_out"}
    diffusers = spelling == "diffusers"
    for k in range(blocks):
        block, own = f"transformer_blocks.{k}", f"blocks.{k}"
        for a in range(attentions):
            attention = f"attn{a + 1}" if diffusers else f"attention_blocks.{a}"
            norm = f"norm{a + 1}" if diffusers else f"norms.{a}"
            found[f"{block}.{norm}"] = f"{own}.norms.{a}"
            found |= {
                f"{block}.{attention}.{name}": f"{own}.attentions.{a}.{name.removesuffix('.0')}"
                for name in ("to_q", "to_k", "to_v", "to_out.0")
            }
        last = f"norm{attentions + 1}" if diffusers else "ff_norm"
        found[f"{block}.{last}"] = f"{own}.norm"
        found[f"{block}.ff.net.0.proj"] = f"{own}.feed_forward.inner"
        found[f"{block}.ff.net.2"] = f"{own}.feed_forward.outer"
    return found


def table(config: AnimateDiffConfig) -> dict[str, str]:
    """The file's module path -> the path in :class:`~..temporal_layers.TemporalLayers`."""
    inside = tails(config.blocks, config.attentions, config.spelling)
    modules = {
        f"{module_path(site, config.spelling)}.{old}": f"layers.{key(site)}.{_with_base(new)}"
        for site in config.sites
        for old, new in inside.items()
    }
    return modules | ({"img_encoder": "context"} if config.variant == "animatelcm i2v" else {})


def _with_base(path: str) -> str:
    return path if "norm" in path else f"{path}.base"


def position_tables(config: AnimateDiffConfig) -> dict[str, int]:
    """Keys of the position tables in the file, with the width of each."""
    if not config.tables:
        return {}
    if config.spelling == "diffusers":
        ends = ["pos_embed.pe"]
    else:
        name = "positional_encoding" if config.spelling == "hotshot" else "pe"
        ends = [f"attention_blocks.{a}.pos_encoder.{name}" for a in range(config.attentions)]
    return {
        f"{module_path(site, config.spelling)}.transformer_blocks.{k}.{end}": config.module.inner(
            width_at(site, config.layout)
        )
        for site in config.sites
        for k in range(config.blocks)
        for end in ends
    }


@dataclass(frozen=True)
class Split:
    """A state dict, split up. layers: under our names. left_out: known keys that are not used."""

    layers: dict[str, Tensor]
    left_out: list[str]


def split(state: Mapping[str, Tensor], config: AnimateDiffConfig, name: str = "the file") -> Split:
    """Split a state dict; CheckpointError for unknown keys.

    Position tables are only checked: they can be recomputed.
    """
    names = table(config)
    found, unknown, first = Split({}, []), [], {}
    for old, tensor in state.items():
        new = rename(old, names)
        if new is not None:
            found.layers[new] = tensor
        elif TABLE.search(old):
            _check_table(old, tensor, config, name)
        elif config.variant == "pia" and old in _INPUT:
            first[old] = tensor
        elif _SPATIAL.match(old):
            found.left_out.append(old)
        else:
            unknown.append(old)
    complain("has unknown", name, unknown)
    if config.variant == "pia":
        complain("lacks", name, [k for k in _INPUT if k not in first])
        weight, bias = (first[k] for k in _INPUT)
        parts = weight[:, :LATENTS], bias, weight[:, LATENTS:]
        named = zip((*_OWN, _CHANNELS), parts, strict=True)
        found.layers.update({new: part.contiguous() for new, part in named})
    return found


def _check_table(old: str, given: Tensor, config: AnimateDiffConfig, name: str) -> None:
    if given.ndim != 3 or given.shape[1] != config.positions:
        raise CheckpointError(
            f"{name} has {config.positions} positions, but {old} has the shape {tuple(given.shape)}"
        )
    if given.is_meta:
        return
    expected = interleaved_sinusoid(torch.arange(config.positions), given.shape[2])
    error = (given[0].float() - expected).abs().max().item()
    if error > TABLE_TOLERANCE:
        raise CheckpointError(
            f"{name} has positions of its own: {old} differs from the sinusoids by {error:.2g}, "
            f"more than the {TABLE_TOLERANCE} that rounding explains"
        )


def join(found: Split, config: AnimateDiffConfig) -> dict[str, Tensor]:
    """Inverse of :func:`split` for layers without low-rank updates, without the keys left out."""
    own, first = dict(found.layers), {}
    if _CHANNELS in own:
        weight, bias, channels = (own.pop(k) for k in (*_OWN, _CHANNELS))
        first = dict(zip(_INPUT, (torch.cat([weight, channels], dim=1), bias), strict=True))
    places = torch.arange(config.positions)
    tables = {
        old: interleaved_sinusoid(places, width)[None]
        for old, width in position_tables(config).items()
    }
    renamed = rename_all(own, inverse(table(config)), "the motion modules")
    return {**first, **renamed, **tables}
