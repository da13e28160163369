"""Specs of the embedded family's temporal layers.

Recipes, and files of the first version, describe a set of layers by one flat table of settings for
all sites, which :func:`spec_from_table` turns into one layer per site.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...networks.context_encoder import ContextEncoderSpec
from ...networks.declared import KINDS
from ...networks.layers.block_attention import BlockAttentionSpec, TemporalModuleSpec
from ...networks.layers.residual import TemporalResBlockSpec, heads_for
from ...networks.layers.specs import LayerSpec
from ...networks.layers.transformer import SpaceTimeTransformerSpec, TemporalTransformerSpec
from ...networks.sites import (
    UNetLayout,
    attn_sites,
    bare_attn_sites,
    is_in_block,
    kind_of,
    level_of,
    res_sites,
    width_at,
)
from ...networks.temporal_layers_spec import (
    Betas,
    HostChanges,
    TemporalLayersSpec,
    TrainedFor,
    layout_from_dict,
)
from ...weights.checkpoints import CheckpointError
from .motion_attention import MotionTransformerSpec
from .prompt_reader import PromptReaderSpec

DEFAULTS: dict[str, Any] = {
    "sites": (),  # empty: after every residual block and transformer
    "bare_attention": False,  # sites empty: also where a level has no transformers
    "positions": "rotary",
    "max_distance": 32,  # of relative positions, frames
    # Levels with attention along motions, and with attention to all positions of all frames.
    "motion_attention": (),
    "clip_attention": (),
    "kernel": 3,  # of the convolutions, frames
    "spatial": (),  # their spatial kernel size, per level; empty: 1
    "pooled_norm": False,
    "learned_blend": True,
    "norm_groups": 32,
    "expansion": 4,
    "context_channels": 0,  # 0: no conditioning on frames
    "context_in_place": False,
    "text_width": 0,  # 0: no attention to text
    "motions": 0,  # 0: no prompt reader
    "rates": 0,
    "task": "",  # one of temporal_layers_spec.TASKS
    "trained_frames": 16,
    "shared_noise": 0.0,
    "eps": 1e-5,
    "told_noise": True,  # whether convolutions read the noise level
    "heads": (),  # per level, of attention in transformer blocks; empty: about 32 channels each
    "block_positions": "rotary_and_bias",
    "block_place": "before_feed_forward",
    "modules": False,  # whether sites between levels get residual blocks over time and space
    "pooled_host_norms": False,
    "sparse_causal": False,
    "family": "",
    "betas": (),
}
"""Defaults of the flat table."""

SPACE_TIME_POSITIONS = {"rotary": "rotary", "none": "rotary", "sinusoidal": "rotary_and_sinusoidal"}
"""Attention to all positions always uses rotary angles; sinusoids come in addition."""


def spec_from_dict(values: Mapping[str, Any]) -> TemporalLayersSpec:
    """The layers that a file's header describes, in the current form or as a flat table.

    Raises CheckpointError for an invalid description.
    """
    try:
        if "layers" in values:
            return TemporalLayersSpec.from_dict(values)
        table = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return spec_from_table(layout_from_dict(table.pop("layout", None)), **table)
    except ValueError as error:
        raise CheckpointError(f"the temporal layers cannot be read: {error}") from None


def spec_from_table(layout: UNetLayout, **values: Any) -> TemporalLayersSpec:
    """The layers that a flat table describes; missing entries are as in :data:`DEFAULTS`."""
    unknown = sorted(values.keys() - DEFAULTS.keys())
    if unknown:
        raise ValueError(f"temporal layers have no {', '.join(unknown[:5])}")
    for name, value in values.items():
        _check_kind(name, value)
    table = DEFAULTS | values
    if table["heads"] and len(table["heads"]) != layout.levels:
        raise ValueError(f"{len(table['heads'])} numbers of heads, but {layout.levels} levels")
    if table["spatial"] and len(table["spatial"]) != layout.levels:
        raise ValueError(f"{len(table['spatial'])} kernel sizes, but {layout.levels} levels")
    bare = bare_attn_sites(layout) if table["bare_attention"] else ()
    sites = table["sites"] or (*res_sites(layout), *attn_sites(layout), *bare)
    motions, text = table["motions"], table["text_width"]
    return TemporalLayersSpec(
        layout=layout,
        layers={site: _layer_at(site, layout, table) for site in sites},
        host=HostChanges(
            pooled_norms=table["pooled_host_norms"],
            sparse_causal=table["sparse_causal"],
            betas=Betas(*table["betas"]) if table["betas"] else None,
        ),
        context=_context(layout, table),
        rates=table["rates"],
        prompt_reader=PromptReaderSpec(text=text, motions=motions) if motions else None,
        trained=TrainedFor(
            task=table["task"],
            frames=table["trained_frames"],
            shared_noise=table["shared_noise"],
            family=table["family"],
        ),
    )


def _check_kind(name: str, value: Any) -> None:
    """Raise ValueError unless an entry of the table has its default's type."""
    kind = type(DEFAULTS[name])
    fits = isinstance(value, (list, tuple)) if kind is tuple else isinstance(value, kind)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not (is_whole if kind is int else fits or (kind is float and is_whole)):
        raise ValueError(f"{name} must be {KINDS[kind]}, not {str(value)[:80]!r}")


def _context(layout: UNetLayout, table: Mapping[str, Any]) -> ContextEncoderSpec | None:
    if not table["context_channels"]:
        return None
    return ContextEncoderSpec(
        channels=table["context_channels"],
        width=layout.channels[0],
        levels=layout.levels,
        in_place=table["context_in_place"],
    )


def _layer_at(site: str, layout: UNetLayout, table: Mapping[str, Any]) -> LayerSpec:
    embedding = 4 * layout.channels[0]
    blend, groups = table["learned_blend"], table["norm_groups"]
    if is_in_block(site):
        heads = table["heads"]
        return BlockAttentionSpec(
            heads=heads[level_of(site, layout)] if heads else heads_for(width_at(site, layout)),
            positions=table["block_positions"],
            block_place=table["block_place"],
            learned_blend=blend,
        )
    if kind_of(site) == "attention":
        return _transformer_at(site, layout, table)
    if table["modules"] and site.endswith(".out"):
        return TemporalModuleSpec(
            embedding=embedding, norm_groups=groups, eps=table["eps"], learned_blend=blend
        )
    return TemporalResBlockSpec(
        kernel=table["kernel"],
        spatial=table["spatial"][level_of(site, layout)] if table["spatial"] else 1,
        norm_groups=groups,
        eps=table["eps"],
        embedding=embedding if table["told_noise"] else None,
        context=layout.channels[0] if table["context_channels"] else None,
        pooled_norm=table["pooled_norm"],
        learned_blend=blend,
    )


def _transformer_at(site: str, layout: UNetLayout, table: Mapping[str, Any]) -> LayerSpec:
    level, positions = level_of(site, layout), table["positions"]
    shared = dict(
        # A table's numbers of heads are for attention inside transformer blocks.
        heads=heads_for(width_at(site, layout)),
        norm_groups=table["norm_groups"],
        expansion=table["expansion"],
        text=table["text_width"] or None,
        embedding=4 * layout.channels[0],
        context=layout.channels[0] if table["context_channels"] else None,
        learned_blend=table["learned_blend"],
    )
    if level in table["motion_attention"]:
        return MotionTransformerSpec(motions=table["motions"], positions=positions, **shared)
    if level in table["clip_attention"]:
        if positions not in SPACE_TIME_POSITIONS:
            raise ValueError(f"attention to all positions cannot have {positions} positions")
        return SpaceTimeTransformerSpec(positions=SPACE_TIME_POSITIONS[positions], **shared)
    return TemporalTransformerSpec(
        positions=positions, max_distance=table["max_distance"], **shared
    )
