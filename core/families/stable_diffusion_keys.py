"""Weight names of Stable Diffusion: tables of module paths from the latent diffusion layout ("ldm",
single files) to diffusers' and transformers' layouts (folders).

A table maps prefixes of keys; what follows the prefix is the same in both layouts. So are the
shapes, except of the autoencoder's attention (1x1 convolution or linear) and of OpenCLIP's fused
query, key and value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..networks.sites import (
    UNetLayout,
    attn_sites,
    block_sites,
    diffusers_path,
    ldm_path,
    res_sites,
)
from ..weights.checkpoints import complain

UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
VIDEO_IDS = {
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
}
"""Embedding of a video model's numeric conditions: our (diffusers-like) names -> ldm's."""
UNET_RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
TRANSFORMER = ("norm", "proj_in", "proj_out")
BLOCK = ("norm1", "attn1", "norm2", "attn2", "norm3", "ff")
AUTOENCODER_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
# Alternative names in either layout: of diffusers before 0.14, of converters, and ldm's own.
OLD_AUTOENCODER_ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
    "to_out": "to_out.0",
    **AUTOENCODER_ATTENTION,
}
_ATTENTION = re.compile(
    r"(\.attentions\.\d+|\.attn_1)\."
    rf"({'|'.join((*OLD_AUTOENCODER_ATTENTION.values(), *OLD_AUTOENCODER_ATTENTION))})"
    r"(?=\.(?:weight|bias)$)"
)
OPEN_CLIP_ENDS = {
    "token_embedding": "embeddings.token_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_IN_PROJ = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
_QKV_PROJ = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)")
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


def rename(key: str, table: Mapping[str, str]) -> str | None:
    """Replace the longest prefix of ``key`` that is in ``table``; None if none is."""
    head, tail = key, ""
    while head and head not in table:
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return table[head] + tail if head else None


def inverse(table: Mapping[str, str]) -> dict[str, str]:
    """The table in the other direction."""
    return {new: old for old, new in table.items()}


def rename_all(
    state: Mapping[str, Tensor], table: Mapping[str, str], name: str
) -> dict[str, Tensor]:
    """Rename every key; CheckpointError names the first five that the table lacks."""
    complain("has unknown", name, [key for key in state if rename(key, table) is None])
    return {rename(key, table): tensor for key, tensor in state.items()}


# --------------------------------------------------------------------------------------------------
# U-Net.


def unet_table(layout: UNetLayout) -> dict[str, str]:
    """ldm module path -> diffusers module path for an image U-Net."""
    table = dict(UNET_ENDS)
    for site in res_sites(layout):
        old, new = ldm_path(site, layout), diffusers_path(site)
        table |= {f"{old}.{a}": f"{new}.{b}" for a, b in UNET_RES_BLOCK.items()}
    # Listed although both names are the same: a video model has further modules beside them.
    for sites, inside in ((attn_sites(layout), TRANSFORMER), (block_sites(layout), BLOCK)):
        for site in sites:
            old, new = ldm_path(site, layout), diffusers_path(site)
            table |= {f"{old}.{a}": f"{new}.{a}" for a in inside}
    for i in range(layout.levels - 1):
        last = (i + 1) * (layout.layers + 1)
        place = 2 if layout.depths[layout.levels - 1 - i] else 1
        table[f"input_blocks.{last}.0.op"] = f"down_blocks.{i}.downsamplers.0.conv"
        table[f"output_blocks.{last - 1}.{place}.conv"] = f"up_blocks.{i}.upsamplers.0.conv"
    return table


def unet_from_ldm(state: Mapping[str, Tensor], layout: UNetLayout) -> dict[str, Tensor]:
    """Rename the weights of an ldm U-Net for a diffusers ``UNet2DConditionModel``."""
    return rename_all(state, unet_table(layout), "the U-Net")


def unet_to_ldm(state: Mapping[str, Tensor], layout: UNetLayout) -> dict[str, Tensor]:
    """Inverse of :func:`unet_from_ldm`, also for the further embeddings of video networks."""
    return rename_all(state, inverse(unet_table(layout)) | VIDEO_IDS, "the U-Net")


# --------------------------------------------------------------------------------------------------
# Autoencoder.


def autoencoder_table(levels: int, layers: int) -> dict[str, str]:
    """ldm module path -> diffusers module path for an autoencoder of ``levels`` resolutions with
    ``layers`` residual blocks each in the encoder and one more in the decoder."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, way, blocks in (("encoder", "down", layers), ("decoder", "up", layers + 1)):
        for end, new in (
            ("conv_in", "conv_in"),
            ("norm_out", "conv_norm_out"),
            ("conv_out", "conv_out"),
        ):
            table[f"{half}.{end}"] = f"{half}.{new}"
        for j in range(2):
            new = f"{half}.mid_block.resnets.{j}"
            table |= _autoencoder_block(f"{half}.mid.block_{j + 1}", new)
        table |= {
            f"{half}.mid.attn_1.{a}": f"{half}.mid_block.attentions.0.{b}"
            for a, b in AUTOENCODER_ATTENTION.items()
        }
        for i in range(levels):
            # ldm counts from the finest resolution both ways, diffusers' decoder from the coarsest.
            old = f"{half}.{way}.{i}"
            new = f"{half}.{way}_blocks.{i if way == 'down' else levels - 1 - i}"
            for j in range(blocks):
                table |= _autoencoder_block(f"{old}.block.{j}", f"{new}.resnets.{j}")
            table[f"{old}.{way}sample.conv"] = f"{new}.{way}samplers.0.conv"
    return table


def _autoencoder_block(old: str, new: str) -> dict[str, str]:
    return {old: new, f"{old}.nin_shortcut": f"{new}.conv_shortcut"}


def autoencoder_from_ldm(
    state: Mapping[str, Tensor], levels: int, layers: int
) -> dict[str, Tensor]:
    """Convert the weights of an ldm autoencoder for a diffusers ``AutoencoderKL``."""
    renamed = rename_all(state, autoencoder_table(levels, layers), "the autoencoder")
    return {k: _to_linear(v) if ".attentions." in k else v for k, v in renamed.items()}


def autoencoder_to_ldm(state: Mapping[str, Tensor], levels: int, layers: int) -> dict[str, Tensor]:
    """Inverse of :func:`autoencoder_from_ldm`: the attention's weights are 1x1 convolutions."""
    table = inverse(autoencoder_table(levels, layers))
    renamed = rename_all(state, table, "the autoencoder")
    return {
        k: v[..., None, None] if ".attn_1." in k and v.ndim == 2 else v for k, v in renamed.items()
    }


def modern_autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an autoencoder's weights from any earlier diffusers version to the current names."""
    return {
        _with_attention(k, OLD_AUTOENCODER_ATTENTION): _to_linear(v) if ".attentions." in k else v
        for k, v in state.items()
    }


def plain_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the attention of an autoencoder in ldm's layout to ldm's own names."""
    own = inverse(AUTOENCODER_ATTENTION)
    table = {old: own[new] for old, new in OLD_AUTOENCODER_ATTENTION.items()} | own
    return {_with_attention(k, table): v for k, v in state.items()}


def _with_attention(key: str, table: Mapping[str, str]) -> str:
    return _ATTENTION.sub(lambda found: f"{found[1]}.{table.get(found[2], found[2])}", key)


def _to_linear(weight: Tensor) -> Tensor:
    """[out, in, 1, ...] -> [out, in]; others are unchanged."""
    return weight.flatten(1) if weight.ndim > 2 else weight


# --------------------------------------------------------------------------------------------------
# Text encoders.


def clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP text weights without what depends on the version of transformers, the prefix
    ``text_model.`` and the buffer of position ids, and without the unused projection."""
    names = {k.removeprefix("text_model."): v for k, v in state.items()}
    return {
        k: v
        for k, v in names.items()
        if k != "embeddings.position_ids" and not k.startswith("text_projection")
    }


def first_text_layers(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """CLIP text weights with only the first ``layers`` layers."""
    return {k: v for k, v in state.items() if not _is_above(_LAYER.match(k), layers)}


def open_clip_table(layers: int) -> dict[str, str]:
    """OpenCLIP path -> transformers path of the text encoder, except the fused projections."""
    table = dict(OPEN_CLIP_ENDS)
    for i in range(layers):
        table |= {
            f"transformer.resblocks.{i}.{a}": f"encoder.layers.{i}.{b}"
            for a, b in OPEN_CLIP_LAYER.items()
        }
    return table


def text_from_open_clip(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Weights of a ``CLIPTextModel`` with ``layers`` layers from an OpenCLIP text tower.

    Further layers are dropped: Stable Diffusion 2 uses the penultimate layer's output, after the
    final norm. So are the projection and temperature of CLIP's contrastive loss.
    """
    unused = ("text_projection", "logit_scale", "attn_mask")
    kept = {
        k: v
        for k, v in state.items()
        if k not in unused and not _is_above(_RESBLOCK.match(k), layers)
    }
    fused = {k: v for k, v in kept.items() if _IN_PROJ.fullmatch(k)}
    whole = {k: v for k, v in kept.items() if k not in fused}
    renamed = rename_all(whole, open_clip_table(layers), "the text encoder")
    for key, tensor in fused.items():
        i, kind = _IN_PROJ.fullmatch(key).groups()
        for letter, third in zip("qkv", tensor.chunk(3), strict=True):
            renamed[f"encoder.layers.{i}.self_attn.{letter}_proj.{kind}"] = third
    return renamed


def _is_above(found: re.Match | None, layers: int) -> bool:
    return found is not None and int(found[1]) >= layers


def text_to_open_clip(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Inverse of :func:`text_from_open_clip`, for the layers in use and nothing else."""
    state = clip_names(state)
    whole = {k: v for k, v in state.items() if not _QKV_PROJ.fullmatch(k)}
    renamed = rename_all(whole, inverse(open_clip_table(layers)), "the text encoder")
    for i in range(layers):
        for kind in ("weight", "bias"):
            parts = [state[f"encoder.layers.{i}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            renamed[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(parts)
    return renamed
