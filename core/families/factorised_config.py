"""Configurations of LVDM's and VideoCrafter's networks, read off the shapes of their weights.

The shapes reveal everything but the strides of the 3D autoencoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..networks.autoencoder_3d import Autoencoder3DConfig
from ..networks.factorised_unet import FIRST_HEADS, FactorisedConfig, GivenFramesSpec
from ..networks.image_resampler import ResamplerConfig
from ..networks.layers.factorised_transformers import (
    AttentionSpec,
    InterleavedTransformerSpec,
    SplitAttentionSpec,
    StackedTransformersSpec,
)
from ..weights.checkpoints import CheckpointError

Shapes = Mapping[str, Sequence[int]]

FIRST, LAST = "input_blocks.0.0.weight", "out.2.weight"
STACKED_MARK = "init_attn.0.norm.weight"
"""Only networks of stacked transformers start with attention."""

TABLE = "relative_position_k.embeddings_table"
FACTORS = {3: (4, 8, 8)}
"""Downsampling in time, height and width of the published autoencoders, by number of stages."""


class _Found(dict):
    """Shapes by key; a missing key raises CheckpointError."""

    def __missing__(self, key: str) -> Sequence[int]:
        raise CheckpointError(f"the network lacks the key {key}")


def is_lvdm(unet: Shapes) -> bool:
    """Whether a U-Net's shapes, under the original's names, are LVDM's."""
    return len(unet.get(FIRST, ())) == 5 and LAST in unet


def is_videocrafter(unet: Shapes) -> bool:
    """Whether a U-Net's shapes, under the original's names, are VideoCrafter's."""
    return len(unet.get(FIRST, ())) == 4 and LAST in unet and STACKED_MARK in unet


def unet_config(shapes: Shapes) -> FactorisedConfig:
    """The U-Net's configuration, from shapes under the original's names without a prefix.

    Raises CheckpointError if a key is missing that determines a size.
    """
    found = _Found(shapes)
    channels, layers, attended = _levels(found)
    stacked = STACKED_MARK in found
    embedding = found["input_blocks.1.0.emb_layers.1.bias"][0]
    return FactorisedConfig(
        channels=channels,
        layers=layers,
        attended=attended,
        attention=_attention(found),
        latent_channels=found[LAST][0],
        pooled_norm=not stacked,
        scale_shift=embedding == 2 * channels[0],
        kernel=1 if stacked else found[FIRST][2],
        time_convolutions=_time_convolutions(found),
        first_attention=stacked,
        frames_per_second="fps_embedding.0.weight" in found,
        given=_given(found),
    )


def _levels(found: _Found) -> tuple[tuple[int, ...], int, tuple[bool, ...]]:
    """Widths per level, number of blocks per level, and which levels have attention."""
    levels: list[list[str]] = [[]]
    for index in range(1, _count(found, r"input_blocks\.(\d+)\.")):
        block = f"input_blocks.{index}"
        if f"{block}.0.op.weight" in found:
            levels.append([])
        else:
            levels[-1].append(block)
    firsts = [blocks[0] for blocks in levels if blocks]
    channels = tuple(found[f"{block}.0.out_layers.0.weight"][0] for block in firsts)
    attended = tuple(any(k.startswith(f"{block}.1.") for k in found) for block in firsts)
    return channels, len(levels[0]), attended


def _count(found: Shapes, pattern: str) -> int:
    """One more than the highest index that the pattern matches; 0 if there is none."""
    matches = (re.match(pattern, key) for key in found)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _time_convolutions(found: _Found) -> tuple[int, ...]:
    """Spatial kernel sizes of the temporal convolutions in a residual block, the same in all."""
    block = "input_blocks.1.0.temopral_conv"
    names = sorted(k for k in found if k.startswith(f"{block}.") and len(found[k]) == 5)
    return tuple(found[name][3] for name in names)


def _attention(found: _Found) -> AttentionSpec:
    """The kind of attention, read off the middle block, which always has it."""
    if STACKED_MARK in found:
        return _stacked(found)
    block = "middle_block.1.transformer_blocks.0"
    if f"{block}.attn1_tmp.to_q.weight" not in found:
        return SplitAttentionSpec(**_heads(found, ""))
    return InterleavedTransformerSpec(
        **_heads(found, "transformer_blocks.0.attn1_tmp."),
        text=found[f"{block}.attn2.to_k.weight"][1],
        depth=_depth(found, "middle_block.1"),
    )


def _heads(found: _Found, inside: str) -> dict[str, int | None]:
    """Heads of LVDM's temporal attention, equal in number or in width at all levels, and the reach
    of their relative positions. `inside`: the path of the table in the module."""
    sites = {
        key.removesuffix(inside + TABLE): found[key]
        for key in found
        if key.endswith(f".1.{inside}{TABLE}")
    }
    if not sites:
        raise CheckpointError(
            "temporal attention without relative positions does not reveal its number of heads"
        )
    distance, width = next(iter(sites.values()))
    norm = "norm.weight" if inside else "norm_t.weight"
    heads = {found[site + norm][0] // table[1] for site, table in sites.items()}
    same = len(heads) == 1
    return dict(
        heads=heads.pop() if same else None,
        head_width=None if same else width,
        max_distance=distance // 2,
    )


def _stacked(found: _Found) -> StackedTransformersSpec:
    space, time = "middle_block.1", "middle_block.2"
    table = found.get(f"{time}.transformer_blocks.0.attn1.{TABLE}")
    image = found.get(f"{space}.transformer_blocks.0.attn2.to_k_ip.weight")
    return StackedTransformersSpec(
        head_width=found["init_attn.0.proj_in.weight"][0] // FIRST_HEADS,
        text=found[f"{space}.transformer_blocks.0.attn2.to_k.weight"][1],
        image=image and image[1],
        max_distance=None if table is None else table[0] // 2,
        depth=_depth(found, space),
        time_depth=_depth(found, time),
    )


def _depth(found: _Found, transformer: str) -> int:
    """Number of blocks in a transformer."""
    return _count(found, rf"{re.escape(transformer)}\.transformer_blocks\.(\d+)\.")


def _given(found: _Found) -> GivenFramesSpec | None:
    if "label_emb.weight" in found:
        return GivenFramesSpec(levels=found["label_emb.weight"][0])
    return GivenFramesSpec() if "time_embed_cond.0.weight" in found else None


# --------------------------------------------------------------------------------------------------
# Autoencoder and resampler.


def is_autoencoder_3d(shapes: Shapes) -> bool:
    """Whether shapes, under the original's names without a prefix, are the 3D autoencoder's."""
    return len(shapes.get("decoder.conv_blocks.0.up.convt.weight", ())) == 5


def autoencoder_config(shapes: Shapes, scale: float, shift: float) -> Autoencoder3DConfig:
    """The 3D autoencoder's configuration; CheckpointError for an unpublished number of stages, as
    the weights do not reveal which axes these halve."""
    found = _Found(shapes)
    stages = _count(found, r"decoder\.conv_blocks\.(\d+)\.")
    if stages not in FACTORS:
        raise CheckpointError(
            f"the weights of an autoencoder of {stages} stages do not reveal which axes it halves; "
            f"that is known only for {', '.join(map(str, FACTORS))} stages, as published"
        )
    inner, latents = found["post_quant_conv.conv.weight"][:2]
    return Autoencoder3DConfig(
        width=found["encoder.conv_first.conv.weight"][0],
        factors=FACTORS[stages],
        latent_channels=latents,
        inner_channels=inner,
        scale=scale,
        shift=shift,
    )


def resampler_config(shapes: Shapes, head_width: int = 64) -> ResamplerConfig:
    """The resampler's configuration, from shapes under the original's names without a prefix."""
    found = _Found(shapes)
    width, embedding = found["proj_in.weight"]
    return ResamplerConfig(
        width=width,
        depth=_count(found, r"layers\.(\d+)\."),
        heads=found["layers.0.0.to_q.weight"][0] // head_width,
        head_width=head_width,
        queries=found["latents"][1],
        embedding=embedding,
        out=found["proj_out.weight"][0],
        expansion=found["layers.0.1.1.weight"][0] // width,
    )
