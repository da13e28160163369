"""Weight names of Stable Video Diffusion's U-Net: the original's, diffusers', and this project's,
which start with ``unet.`` for the image U-Net and ``layers.`` for the temporal layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from torch import Tensor

from ..networks.sites import (
    UNetLayout,
    attn_sites,
    block_sites,
    diffusers_path,
    ldm_path,
    res_sites,
)
from ..networks.temporal_layers import key
from ..weights.checkpoints import complain
from .stable_diffusion_keys import inverse, rename, unet_table

Names = Literal["ldm", "diffusers"]
Value = TypeVar("Value")

IDS = {
    "label_emb.0.0": "class_embedding.linear_1",
    "label_emb.0.2": "class_embedding.linear_2",
}
"""Embedding of the numeric conditions: ldm's names -> ours."""
IDS_OF_DIFFUSERS = {f"class_embedding.{end}": f"add_embedding.{end}" for end in
                    ("linear_1", "linear_2")}  # fmt: skip

CONVOLUTION: dict[Names, dict[str, str]] = {
    "ldm": {
        "time_stack.in_layers.0": "norm1.norm",
        "time_stack.in_layers.2": "conv1",
        "time_stack.emb_layers.1": "embed",
        "time_stack.out_layers.0": "norm2.norm",
        "time_stack.out_layers.3": "conv2",
        "time_mixer": "blend",
    },
    "diffusers": {
        "temporal_res_block.norm1": "norm1.norm",
        "temporal_res_block.conv1": "conv1",
        "temporal_res_block.time_emb_proj": "embed",
        "temporal_res_block.norm2": "norm2.norm",
        "temporal_res_block.conv2": "conv2",
        "time_mixer": "blend",
    },
}
BLOCK = {
    "norm_in": "norm_in",
    "ff_in.net.0.proj": "feed_forward_in.inner",
    "ff_in.net.2": "feed_forward_in.outer",
    "norm1": "norm1",
    **{f"attn1.to_{x}": f"attention.to_{x}" for x in "qkv"},
    "attn1.to_out.0": "attention.to_out",
    "norm2": "norm2",
    **{f"attn2.to_{x}": f"second_attention.to_{x}" for x in "qkv"},
    "attn2.to_out.0": "second_attention.to_out",
    "norm3": "norm3",
    "ff.net.0.proj": "feed_forward.inner",
    "ff.net.2": "feed_forward.outer",
}
BLOCKS: dict[Names, str] = {"ldm": "time_stack", "diffusers": "temporal_transformer_blocks"}
SHARED: dict[Names, dict[str, str]] = {
    "ldm": {
        "time_pos_embed.0": "embed_times.0",
        "time_pos_embed.2": "embed_times.2",
        "time_mixer": "blend",
    },
    "diffusers": {
        "time_pos_embed.linear_1": "embed_times.0",
        "time_pos_embed.linear_2": "embed_times.2",
        "time_mixer": "blend",
    },
}
"""Modules that all blocks of a transformer share."""


def names_in(keys: Iterable[str]) -> Names:
    """Which naming the keys have."""
    return "ldm" if any(k.startswith(("input_blocks.", "output_blocks.")) for k in keys) else (
        "diffusers"
    )  # fmt: skip


def table(layout: UNetLayout, names: Names) -> dict[str, str]:
    """Foreign module path -> the path here."""
    image = {old: new for old, new in unet_table(layout).items() if not old.startswith("label_emb")}
    image |= IDS
    if names == "ldm":
        found = {old: f"unet.{new}" for old, new in image.items()}
    else:
        found = {_with_spatial(new, layout): f"unet.{new}" for new in image.values()}
    for site in res_sites(layout):
        path, own = _path(site, layout, names), f"layers.{key(site)}"
        found |= {f"{path}.{a}": f"{own}.{b}" for a, b in CONVOLUTION[names].items()}
    for site in block_sites(layout):
        attn, _, k = site.rpartition(".block.")
        path, own = _path(attn, layout, names), f"layers.{key(site)}"
        found |= {f"{path}.{BLOCKS[names]}.{k}.{a}": f"{own}.block.{b}" for a, b in BLOCK.items()}
        if k == "0":
            found |= {f"{path}.{a}": f"{own}.{b}" for a, b in SHARED[names].items()}
    return found


def _path(site: str, layout: UNetLayout, names: Names) -> str:
    return ldm_path(site, layout) if names == "ldm" else diffusers_path(site)


def _with_spatial(path: str, layout: UNetLayout) -> str:
    """diffusers' name, in a video U-Net, of the module that an image U-Net calls ``path``."""
    for block in map(diffusers_path, res_sites(layout)):
        if path.startswith(f"{block}."):
            return f"{block}.spatial_res_block{path[len(block) :]}"
    return rename(path, IDS_OF_DIFFUSERS) or path


def to_own(
    values: Mapping[str, Value], layout: UNetLayout, names: Names, name: str = "the U-Net"
) -> dict[str, Value]:
    """Rename tensors or shapes to our names; CheckpointError for unknown keys."""
    known = table(layout, names)
    renamed = {old: rename(old, known) for old in values}
    complain("has unknown", name, [old for old, new in renamed.items() if new is None])
    found = {renamed[old]: value for old, value in values.items()}
    for first, other in _copies(layout):
        found |= {other + k[len(first) :]: v for k, v in list(found.items()) if k.startswith(first)}
    return found


def to_foreign(state: Mapping[str, Tensor], layout: UNetLayout, names: Names) -> dict[str, Tensor]:
    """Inverse of :func:`to_own`."""
    known = inverse(table(layout, names))
    copies = tuple(other for _, other in _copies(layout))
    return {rename(k, known): v for k, v in state.items() if not k.startswith(copies)}


def _copies(layout: UNetLayout) -> list[tuple[str, str]]:
    """Prefixes of modules shared by a transformer's blocks: (in its first block, in another)."""
    return [
        (f"layers.{key(f'{attn}.block.0')}.{end}.", f"layers.{key(site)}.{end}.")
        for attn in attn_sites(layout)
        for site in block_sites(layout)
        if site.startswith(f"{attn}.block.") and not site.endswith(".block.0")
        for end in ("embed_times", "blend")
    ]
