"""Weight names of ModelScope's U-Net: the original's, diffusers', and this project's, which start
with ``unet.`` for the image U-Net and ``layers.`` for the temporal layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from ..networks.sites import UNetLayout, attn_sites, diffusers_path, ldm_path, res_sites
from ..networks.temporal_layers import key
from ..weights.checkpoints import complain
from .modelscope_config import INPUT
from .stable_diffusion_keys import inverse, rename, unet_table
from .svd_keys import BLOCK, Names

Value = TypeVar("Value")

STACK = {
    f"conv{n}.{place}": ours
    for n in range(1, 5)
    for place, ours in (
        (0, f"norms.{n - 1}.norm"),
        (2 if n == 1 else 3, f"convolutions.{n - 1}"),
    )
}
"""The first convolution has no dropout before it."""
TRANSFORMER = {
    "norm": "norm.norm",
    "proj_in": "project_in",
    "proj_out": "project_out",
    **{f"transformer_blocks.0.{a}": f"blocks.0.{b}" for a, b in BLOCK.items() if "_in" not in a},
}
PROJECTIONS = (".project_in.weight", ".project_out.weight")
"""Temporal convolutions of kernel size 1 in the original."""


def table(layout: UNetLayout, names: Names) -> dict[str, str]:
    """Foreign module path -> the path here."""
    image = {old: new for old, new in unet_table(layout).items() if not old.startswith("label_emb")}
    if names == "ldm":
        found = {_original(old): f"unet.{new}" for old, new in image.items()}
    else:
        found = {new: f"unet.{new}" for new in image.values()}
    paths = {INPUT: "input_blocks.0.1" if names == "ldm" else "transformer_in"}
    paths |= {site: transformer_path(site, layout, names) for site in attn_sites(layout)}
    for site, path in paths.items():
        found |= {f"{path}.{a}": f"layers.{key(site)}.{b}" for a, b in TRANSFORMER.items()}
    for site in res_sites(layout):
        path, own = stack_path(site, layout, names), f"layers.{key(site)}"
        found |= {f"{path}.{a}": f"{own}.{b}" for a, b in STACK.items()}
    return found


def _original(path: str) -> str:
    """The original's name of a module of the image U-Net: down-samplers are in no sequence, and
    what follows a spatial transformer is one place further back, after the temporal one."""
    if path.startswith("middle_block.2"):
        return path.replace("middle_block.2", "middle_block.3")
    if path.startswith("output_blocks.") and path.endswith(".2.conv"):
        return path.replace(".2.conv", ".3.conv")
    return path.replace(".0.op", ".op")


def stack_path(site: str, layout: UNetLayout, names: Names) -> str:
    """The path of the temporal convolutions after a residual block."""
    if names == "ldm":
        return f"{_original(ldm_path(site, layout))}.temopral_conv"  # As published.
    return diffusers_path(site).replace(".resnets.", ".temp_convs.")


def transformer_path(site: str, layout: UNetLayout, names: Names) -> str:
    """The path of the temporal transformer after a spatial one."""
    if names == "diffusers":
        return diffusers_path(site).replace(".attentions.", ".temp_attentions.")
    block, _, place = ldm_path(site, layout).rpartition(".")
    return f"{block}.{int(place) + 1}"


def to_own(
    values: Mapping[str, Value], layout: UNetLayout, names: Names, name: str = "the U-Net"
) -> dict[str, Value]:
    """Rename tensors or shapes to our names; CheckpointError for unknown keys."""
    known = table(layout, names)
    renamed = {old: rename(old, known) for old in values}
    complain("has unknown", name, [old for old, new in renamed.items() if new is None])
    return {renamed[old]: value for old, value in values.items()}


def as_linear(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the kernel axis of projections, which are convolutions in the original."""
    return {
        k: v.squeeze(-1) if k.startswith("layers.") and k.endswith(PROJECTIONS) and v.ndim == 3
        else v
        for k, v in state.items()
    }  # fmt: skip


def to_foreign(state: Mapping[str, Tensor], layout: UNetLayout, names: Names) -> dict[str, Tensor]:
    """Inverse of :func:`to_own` and :func:`as_linear`."""
    known, found = inverse(table(layout, names)), {}
    for k, v in state.items():
        of_convolution = names == "ldm" and k.startswith("layers.") and k.endswith(PROJECTIONS)
        found[rename(k, known)] = v[..., None] if of_convolution else v
    return found
