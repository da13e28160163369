"""Weight names of LVDM and VideoCrafter: tables from the original's module paths to ours, and the
axes of size 1 that only the original's weights have."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..networks.autoencoder_3d import KERNEL, Autoencoder3DConfig, Triple, phases_of, transposed_of
from ..networks.factorised_unet import FactorisedConfig
from ..networks.image_resampler import ResamplerConfig
from ..networks.layers.factorised_transformers import (
    InterleavedTransformerSpec,
    SplitAttentionSpec,
    StackedTransformersSpec,
)
from ..weights.checkpoints import complain
from .stable_diffusion_keys import inverse, rename_all

RES_BLOCK = {
    "in_layers.0": "norm1.norm",
    "in_layers.2": "conv1",
    "emb_layers.1": "embed",
    "out_layers.0": "norm2.norm",
    "out_layers.3": "conv2",
    "skip_connection": "skip",
    # All but the first of the four convolutions come after a dropout.
    **{
        f"temopral_conv.conv{i + 1}.{place}": f"over_time.{name}.{i}{inside}"
        for i in range(4)
        for place, name, inside in ((0, "norms", ".norm"), (3 if i else 2, "convs", ""))
    },
}
RELATIVE = {
    "relative_position_k.embeddings_table": "positions.keys.table.weight",
    "relative_position_v.embeddings_table": "positions.values.table.weight",
}
ATTENTION = {
    "to_q": "to_q",
    "to_k": "to_k",
    "to_v": "to_v",
    "to_out.0": "to_out",
    "to_k_ip": "image_to_k",
    "to_v_ip": "image_to_v",
    **RELATIVE,
}
FEED_FORWARD = {"ff.net.0.proj": "feed_forward.inner", "ff.net.2": "feed_forward.outer"}
SPLIT = {
    "norm_s": "space_norm.norm",
    "qkv_s": "space.to_qkv",
    "proj_out_s": "space.to_out",
    "norm_t": "time_norm",
    "qkv_t": "time.to_qkv",
    "proj_out_t": "time.to_out",
    **{old: f"time.{new}" for old, new in RELATIVE.items()},
}
INTERLEAVED_NORMS = {
    "norm1": "space_norm",
    "norm2": "text_norm",
    "norm3": "feed_forward_norm",
    "norm4": "first_time_norm",
    "norm5": "second_time_norm",
}
INTERLEAVED_ATTENTIONS = {
    "attn1": "space",
    "attn1_tmp": "first_time",
    "attn2": "text",
    "attn2_tmp": "second_time",
}
STACKED_NORMS = {name: name for name in ("norm1", "norm2", "norm3")}
STACKED_ATTENTIONS = {"attn1": "first", "attn2": "second"}

PROJECTION = re.compile(r"\.project_(in|out)\.weight$")

Table = dict[str, str]


def _below(old: str, new: str, table: Mapping[str, str]) -> Table:
    """A table of the inside of a module, for a module at these paths."""
    return {f"{old}.{a}": f"{new}.{b}" for a, b in table.items()}


def _number(old: str, new: str) -> Table:
    """Table of the two layers that embed a number."""
    return {f"{old}.0": f"{new}.linear1", f"{old}.2": f"{new}.linear2"}


def _transformer(depth: int, norms: Mapping[str, str], attentions: Mapping[str, str]) -> Table:
    """Table of a transformer with `depth` blocks."""
    table = {"norm": "norm.norm", "proj_in": "project_in", "proj_out": "project_out"}
    block = dict(norms) | FEED_FORWARD
    for old, new in attentions.items():
        block |= _below(old, new, ATTENTION)
    for k in range(depth):
        table |= _below(f"transformer_blocks.{k}", f"blocks.{k}", block)
    return table


def _attention(config: FactorisedConfig) -> list[tuple[str, Table]]:
    """The modules after a residual block: (path inside the attention, table) of each."""
    spec = config.attention
    if isinstance(spec, SplitAttentionSpec):
        return [("", SPLIT)]
    if isinstance(spec, InterleavedTransformerSpec):
        names = INTERLEAVED_NORMS, INTERLEAVED_ATTENTIONS
        return [("", _transformer(spec.depth, *names))]
    names = STACKED_NORMS, STACKED_ATTENTIONS
    return [
        (".space", _transformer(spec.depth, *names)),
        (".time", _transformer(spec.time_depth, *names)),
    ]


def unet_table(config: FactorisedConfig) -> Table:
    """The original's module path -> the path in :class:`~..factorised_unet.FactorisedUNet`."""
    table = _ends(config)
    attention = _attention(config)

    def block(old: str, new: str, attended: bool) -> None:
        table.update(_below(f"{old}.0", f"{new}.res", RES_BLOCK))
        for k, (inside, names) in enumerate(attention if attended else ()):
            table.update(_below(f"{old}.{k + 1}", f"{new}.attend{inside}", names))

    levels, layers = len(config.channels), config.layers
    for i in range(levels):
        for j in range(layers):
            path = f"input_blocks.{1 + i * (layers + 1) + j}"
            block(path, f"down.{i}.blocks.{j}", config.attended[i])
        table[f"input_blocks.{(i + 1) * (layers + 1)}.0.op"] = f"down.{i}.resample"
        attended = config.attended[levels - 1 - i]
        for j in range(layers + 1):
            block(f"output_blocks.{i * (layers + 1) + j}", f"up.{i}.blocks.{j}", attended)
        place = 1 + (len(attention) if attended else 0)
        last = f"output_blocks.{i * (layers + 1) + layers}.{place}.conv"
        table[last] = f"up.{i}.resample"
    block("middle_block", "mid.0", attended=True)
    last = f"middle_block.{1 + len(attention)}"
    return table | _below(last, "mid.1.res", RES_BLOCK)


def _ends(config: FactorisedConfig) -> Table:
    """Table of everything that belongs to no level."""
    table = {"input_blocks.0.0": "conv_in", "out.0": "norm_out.norm", "out.2": "conv_out"}
    table |= _number("time_embed", "embed_time") | _number("fps_embedding", "embed_rate")
    if config.given is not None:
        rows = {"label_emb": "embed_level"}
        table |= rows if config.given.levels else _number("time_embed_cond", "embed_level")
    if config.first_attention:
        names = _transformer(config.attention.depth, STACKED_NORMS, STACKED_ATTENTIONS)
        table |= _below("init_attn.0", "first_attention", names)
    return table


def unet_from_original(state: Mapping[str, Tensor], config: FactorisedConfig) -> dict[str, Tensor]:
    """Rename the weights to ours, and drop axes of size 1."""
    return _squeezed(rename_all(state, unet_table(config), "the U-Net"), config)


def unet_to_original(state: Mapping[str, Tensor], config: FactorisedConfig) -> dict[str, Tensor]:
    """Inverse of :func:`unet_from_original`."""
    whole = {}
    for key, tensor in state.items():
        for axis in unit_axes(key, tensor.ndim, config):
            tensor = tensor.unsqueeze(axis)
        whole[key] = tensor
    return rename_all(whole, inverse(unet_table(config)), "the U-Net")


def unit_axes(key: str, ndim: int, config: FactorisedConfig) -> tuple[int, ...]:
    """The axes of size 1 in the original's weight, for our name and number of axes: most of LVDM's
    convolutions span one frame, and projections are convolutions of kernel size 1."""
    if not key.endswith(".weight"):
        return ()
    spec, module = config.attention, key.split(".")[-2]
    projection = module in ("project_in", "project_out")
    if key.startswith("first_attention."):
        return (2,) if projection else ()
    if isinstance(spec, SplitAttentionSpec) and module in ("to_qkv", "to_out"):
        return (2,)
    if isinstance(spec, InterleavedTransformerSpec) and projection:
        return (2, 3, 4)
    return (2,) if config.pooled_norm and ndim == 4 else ()


def _squeezed(state: Mapping[str, Tensor], config: FactorisedConfig) -> dict[str, Tensor]:
    """Drop those axes; VideoCrafter's projections are linear layers or convolutions."""
    stacked = isinstance(config.attention, StackedTransformersSpec)
    found, wrong = {}, []
    for key, tensor in state.items():
        axes = unit_axes(key, _ndim_here(key, tensor, config), config)
        if stacked and PROJECTION.search(key):
            axes = tuple(range(2, tensor.ndim))
        if any(axis >= tensor.ndim or tensor.shape[axis] != 1 for axis in axes):
            wrong.append(f"{key} {tuple(tensor.shape)}")
        else:
            found[key] = tensor.squeeze(axes) if axes else tensor
    complain("has misshapen", "the U-Net", wrong)
    return found


def _ndim_here(key: str, tensor: Tensor, config: FactorisedConfig) -> int:
    """How many axes a weight of the original has here."""
    per_frame = config.kernel == 1 or key.endswith("skip.weight")
    return 4 if config.pooled_norm and per_frame and tensor.ndim == 5 else tensor.ndim


# --------------------------------------------------------------------------------------------------
# 3D autoencoder.


UP = {"up.convt.weight": "resample.conv.weight", "up.convt.bias": "resample.bias"}


def autoencoder_table(config: Autoencoder3DConfig) -> Table:
    """The original's module path -> the path in :class:`~..autoencoder_3d.Autoencoder3D`."""
    table = {
        "quant_conv": "mix_moments",
        "post_quant_conv": "mix_latents",
        "encoder.conv_first": "encoder.conv_in",
        "encoder.final_block.0": "encoder.norm_out",
        "encoder.final_block.2": "encoder.conv_out",
        "decoder.conv_out": "decoder.conv_out",
    }
    for i in range(len(config.strides)):
        old = "conv_blocks", "stages"
        for half, resample, blocks in (
            ("encoder", {"down": "resample"}, ("res",)),
            ("decoder", UP, ("res1", "res2")),
        ):
            inside = resample | {name: f"blocks.{j}" for j, name in enumerate(blocks)}
            table |= _below(f"{half}.{old[0]}.{i}", f"{half}.{old[1]}.{i}", inside)
    return table


def autoencoder_from_original(
    state: Mapping[str, Tensor], config: Autoencoder3DConfig
) -> dict[str, Tensor]:
    """Rename the weights to ours; those that the original lists twice are kept once."""
    once = {key: tensor for key, tensor in state.items() if not is_duplicate(key, state)}
    own = rename_all(once, autoencoder_table(config), "the autoencoder")
    wrong = []
    for key, strides in _transposed(config):
        if key in own and tuple(own[key].shape[2:]) == (KERNEL,) * 3:
            own[key] = phases_of(own[key], strides)
        elif key in own:
            wrong.append(f"{key} {tuple(own[key].shape)}")
    complain("has misshapen", "the autoencoder", wrong)
    return own


def _transposed(config: Autoencoder3DConfig) -> list[tuple[str, Triple]]:
    """(our key, strides) of weights that belong to transposed convolutions in the original."""
    return [
        (f"decoder.stages.{i}.resample.conv.weight", strides)
        for i, strides in enumerate(config.strides)
    ]


def is_duplicate(key: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a weight repeats that of the convolution inside it, which is loaded last and so is
    the one in use."""
    module, _, end = key.rpartition(".")
    return end == "weight" and f"{module}.conv.weight" in state


def autoencoder_to_original(
    state: Mapping[str, Tensor], config: Autoencoder3DConfig
) -> dict[str, Tensor]:
    """Inverse of :func:`autoencoder_from_original`, the duplicates included."""
    whole = {key: transposed_of(state[key], strides) for key, strides in _transposed(config)}
    table = inverse(autoencoder_table(config))
    renamed = rename_all({**state, **whole}, table, "the autoencoder")
    duplicates = {
        key.removesuffix("conv.weight") + "weight": tensor
        for key, tensor in renamed.items()
        if key.endswith(".conv.weight")
    }
    return renamed | duplicates


# --------------------------------------------------------------------------------------------------
# Resampler.


def resampler_table(config: ResamplerConfig) -> Table:
    """The original's path -> the path in :class:`~..image_resampler.ImageResampler`."""
    table = {
        "latents": "queries",
        "proj_in": "project_in",
        "proj_out": "project_out",
        "norm_out": "norm_out",
    }
    layer = {
        "0.norm1": "image_norm",
        "0.norm2": "query_norm",
        "0.to_q": "to_q",
        "0.to_kv": "to_kv",
        "0.to_out": "to_out",
        "1.0": "feed_forward_norm",
        "1.1": "feed_in",
        "1.3": "feed_out",
    }
    for i in range(config.depth):
        table |= _below(f"layers.{i}", f"layers.{i}", layer)
    return table


def resampler_from_original(
    state: Mapping[str, Tensor], config: ResamplerConfig
) -> dict[str, Tensor]:
    """Rename the weights to ours."""
    return rename_all(state, resampler_table(config), "the resampler")


def resampler_to_original(
    state: Mapping[str, Tensor], config: ResamplerConfig
) -> dict[str, Tensor]:
    """Inverse of :func:`resampler_from_original`."""
    return rename_all(state, inverse(resampler_table(config)), "the resampler")
