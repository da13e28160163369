"""Weight names of LaVie: diffusers' for the image U-Net, with the temporal layers' in between."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..networks.layers.block_attention import rotary_frequencies
from ..networks.sites import attn_sites, block_sites, diffusers_path
from ..networks.temporal_layers import key
from ..weights.checkpoints import complain
from .lavie_config import LavieConfig
from .stable_diffusion_keys import inverse, rename, rename_all

# Attention and norm inside a transformer block.
ATTENTION = {"base": "attn_temp", "interpolation": "attn_temp", "vsr": "attn_temporal"}
NORM = {"base": "norm_temp", "interpolation": "norm_temp", "vsr": "norm_temporal"}
BLOCK_ATTENTION = {
    "to_q": "to_q",
    "to_k": "to_k",
    "to_v": "to_v",
    "to_out.0": "to_out",
    "time_rel_pos_bias.relative_attention_bias": "bias.table",
}
CONVOLUTION = {"norm1": "norm1.norm", "conv1": "conv1", "norm2": "norm2.norm", "conv2": "conv2"}
RES_BLOCK = {**CONVOLUTION, "time_emb_proj": "embed"}
MODULE = {
    **{f"resblocks_3d_t.{a}": f"over_time.{b}" for a, b in RES_BLOCK.items()},
    **{f"resblocks_3d_s.{a}": f"over_space.{b}" for a, b in RES_BLOCK.items()},
    "shift_conv": "project_out",
}
# One table of constants, registered with every attention that uses it.
FREQUENCIES = "rotary_emb.freqs"


def table(config: LavieConfig) -> dict[str, str]:
    """The original's module path -> the path in :class:`~..temporal_layers.TemporalLayers`."""
    found: dict[str, str] = {}
    for site in block_sites(config.layout):
        path, own = diffusers_path(site), f"layers.{key(site)}"
        attention = f"{path}.{ATTENTION[config.kind]}"
        found |= {f"{attention}.{a}": f"{own}.{b}" for a, b in BLOCK_ATTENTION.items()}
        found[f"{path}.{NORM[config.kind]}"] = f"{own}.norm"
    for attn in attn_sites(config.layout) if config.convolutions else ():
        path = f"{diffusers_path(attn)}.resblock_temporal"
        own = f"layers.{key(attn.replace('.attn.', '.res.'))}"
        found |= {f"{path}.{a}": f"{own}.{b}" for a, b in CONVOLUTION.items()}
    for site in config.modules:
        path, own = module_path(site), f"layers.{key(site)}"
        found |= {f"{path}.{a}": f"{own}.{b}" for a, b in MODULE.items()}
    return found


def module_path(site: str) -> str:
    """The original's name of the residual blocks at ``site``, between levels."""
    way, *rest = site.split(".")
    return "mid_temporal_block" if way == "mid" else f"{way}_temporal_blocks.{rest[0]}"


def frequency_keys(config: LavieConfig) -> list[str]:
    """Keys under which the original's file repeats the frequencies of its rotary positions."""
    if config.kind == "interpolation":
        return []
    blocks = [
        f"{diffusers_path(site)}.{ATTENTION[config.kind]}.{FREQUENCIES}"
        for site in block_sites(config.layout)
    ]
    return blocks + ([f"temporal_{FREQUENCIES}"] if config.kind == "vsr" else [])


def split(
    state: Mapping[str, Tensor], config: LavieConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(state of the image U-Net, state of the temporal layers), under our names.

    Rotary frequencies are dropped, as they can be recomputed. Every other key that is not a
    temporal layer's goes to the image U-Net, which rejects those it does not know.
    """
    names, constants = table(config), frequency_keys(config)
    complain("lacks", "the file", [k for k in constants if k not in state])
    own = {k: rename(k, names) for k in state if k not in set(constants)}
    image = {k: state[k] for k, new in own.items() if new is None}
    return image, {new: state[k] for k, new in own.items() if new is not None}


def join(
    image: Mapping[str, Tensor], temporal: Mapping[str, Tensor], config: LavieConfig
) -> dict[str, Tensor]:
    """Inverse of :func:`split`."""
    renamed = rename_all(temporal, inverse(table(config)), "the temporal layers")
    constants = {k: rotary_frequencies() for k in frequency_keys(config)}
    return {**image, **renamed, **constants}
