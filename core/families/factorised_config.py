"""The sizes of LVDM's and VideoCrafter's networks, read off the shapes of their weights.

Everything that they are built from can be told so, but for the strides of the 3D autoencoder.
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
"""Only networks of stacked transformers begin with attention."""

TABLE = "relative_position_k.embeddings_table"
FACTORS = {3: (4, 8, 8)}
"""Of the published autoencoders, by their number of stages."""


class _Found(dict):
    """Shapes of which a missing one is an error in one sentence."""

    def __missing__(self, key: str) -> Sequence[int]:
        raise CheckpointError(f"the network lacks the key {key}")


def is_lvdm(unet: Shapes) -> bool:
    """Whether a U-Net's shapes, by the original's names, are those of an LVDM network."""
    first = unet.get(FIRST, ())
    return len(first) == 5 and LAST in unet and first[2] == 1


def is_videocrafter(unet: Shapes) -> bool:
    """Whether they are those of a VideoCrafter network."""
    return len(unet.get(FIRST, ())) == 4 and LAST in unet and STACKED_MARK in unet


def unet_config(shapes: Shapes) -> FactorisedConfig:
    """The U-Net of these shapes, by the original's names without a prefix.

    Raises CheckpointError for a network that lacks what its sizes are told by.
    """
    found = _Found(shapes)
    channels, layers, attended = _levels(found)
    stacked = STACKED_MARK in found
    told = found["input_blocks.1.0.emb_layers.1.bias"][0]
    return FactorisedConfig(
        channels=channels,
        layers=layers,
        attended=attended,
        attention=_attention(found),
        latent_channels=found[LAST][0],
        pooled_norm=not stacked,
        scale_shift=told == 2 * channels[0],
        time_convolutions="input_blocks.1.0.temopral_conv.conv1.0.weight" in found,
        first_attention=stacked,
        frames_per_second="fps_embedding.0.weight" in found,
        given=_given(found),
    )


def _levels(found: _Found) -> tuple[tuple[int, ...], int, tuple[bool, ...]]:
    """Width of every level, blocks per level, and whether it has attention."""
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
    """One more than the highest number that keys have at a place."""
    matches = (re.match(pattern, key) for key in found)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _attention(found: _Found) -> AttentionSpec:
    """What the network attends with, told by its middle, which always does."""
    middle = "middle_block.1"
    table = found.get(f"{middle}.{TABLE}")
    if table is not None:
        heads = found[f"{middle}.norm_t.weight"][0] // table[1]
        return SplitAttentionSpec(heads=heads, max_distance=table[0] // 2)
    block = f"{middle}.transformer_blocks.0"
    depth = _count(found, rf"{re.escape(middle)}\.transformer_blocks\.(\d+)\.")
    inner, text = found[f"{block}.attn2.to_k.weight"]
    table = found.get(f"{block}.attn1_tmp.{TABLE}")
    if table is not None:
        return InterleavedTransformerSpec(
            heads=inner // table[1], text=text, max_distance=table[0] // 2, depth=depth
        )
    table = found.get(f"middle_block.2.transformer_blocks.0.attn1.{TABLE}")
    image = found.get(f"{block}.attn2.to_k_ip.weight")
    return StackedTransformersSpec(
        head_width=found["init_attn.0.proj_in.weight"][0] // FIRST_HEADS,
        text=text,
        image=image and image[1],
        max_distance=None if table is None else table[0] // 2,
        depth=depth,
    )


def _given(found: _Found) -> GivenFramesSpec | None:
    if "label_emb.weight" in found:
        return GivenFramesSpec(levels=found["label_emb.weight"][0])
    return GivenFramesSpec() if "time_embed_cond.0.weight" in found else None


# --------------------------------------------------------------------------------------------------
# What stands beside the U-Net.


def is_autoencoder_3d(shapes: Shapes) -> bool:
    """Whether shapes, by the original's names without a prefix, are those of the 3D autoencoder."""
    return len(shapes.get("decoder.conv_blocks.0.up.convt.weight", ())) == 5


def autoencoder_config(shapes: Shapes, scale: float, shift: float) -> Autoencoder3DConfig:
    """The 3D autoencoder of these shapes; CheckpointError for one that is not of published depth,
    as the weights do not tell which axes its stages halve."""
    found = _Found(shapes)
    stages = _count(found, r"decoder\.conv_blocks\.(\d+)\.")
    if stages not in FACTORS:
        raise CheckpointError(
            f"an autoencoder of {stages} stages does not tell which axes it halves, as the "
            f"published ones of {', '.join(map(str, FACTORS))} stages do"
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
    """The resampler of these shapes, by the original's names without a prefix."""
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
