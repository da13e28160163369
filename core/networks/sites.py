"""Sites: names of the places in an image U-Net where a temporal layer can act, and the module paths
of these places in a U-Net's layout.

    in                      after the first convolution
    down.I.res.J            after residual block J of level I, finest level first
    down.I.attn.J           after the spatial transformer that follows it, or would follow it
    down.I.attn.J.block.K   inside that transformer, block K
    down.I.out              after the level, its down-sampler included
    mid.res.0  mid.attn.0  mid.res.1  mid.out
    up.I.res.J  up.I.attn.J  up.I.attn.J.block.K  up.I.out      coarsest level first

There are two layouts: that of diffusers (``down_blocks.0.resnets.1``) and that of the latent
diffusion code base and ComfyUI (``input_blocks.2.0``). Paths are computed from a
:class:`UNetLayout`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_SITE = re.compile(
    r"in|(?:down|up)\.\d+\.out|mid\.out"
    r"|(?:down|up)\.\d+\.(?:res\.\d+|attn\.\d+(?:\.block\.\d+)?)"
    r"|mid\.(?:res\.[01]|attn\.0(?:\.block\.\d+)?)"
)


@dataclass(frozen=True, kw_only=True)
class UNetLayout:
    """The numbers of an image U-Net that determine its sites. Levels go from fine to coarse."""

    channels: tuple[int, ...]  # width per level
    layers: int = 2  # residual blocks per level on the way down
    depths: tuple[int, ...]  # transformer blocks per attention, 0 = no attention
    mid_depth: int = 1  # transformer blocks in the middle, 0 = no attention

    def __post_init__(self):
        if len(self.channels) != len(self.depths):
            raise ValueError(
                f"{len(self.channels)} levels of channels but {len(self.depths)} depths"
            )

    @property
    def levels(self) -> int:
        return len(self.channels)


SD1 = UNetLayout(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0))
SD2 = SD1
SDXL = UNetLayout(channels=(320, 640, 1280), depths=(0, 2, 10), mid_depth=10)
X4_UPSCALER = UNetLayout(channels=(256, 512, 512, 1024), depths=(0, 1, 1, 1))


def layout_of(config) -> UNetLayout:
    """Read the layout from the config of a diffusers ``UNet2DConditionModel``.

    Raises ValueError for block types that do not consist of residual blocks and transformers, and
    for levels with different numbers of layers.
    """
    known = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
    blocks = [*config.down_block_types, config.mid_block_type or "no middle block"]
    unknown = [name for name in blocks if name not in (*known, "UNetMidBlock2DCrossAttn")]
    if unknown:
        raise ValueError(f"cannot place temporal layers in blocks of type {', '.join(unknown)}")
    layers = config.layers_per_block
    if not isinstance(layers, int):
        if len(set(layers)) > 1:
            raise ValueError(
                f"levels with different numbers of layers {tuple(layers)} are not supported"
            )
        layers = layers[0]
    depth = config.transformer_layers_per_block
    depth = [depth] * len(config.block_out_channels) if isinstance(depth, int) else list(depth)
    depths = tuple(
        d if known[name] else 0 for d, name in zip(depth, config.down_block_types, strict=True)
    )
    return UNetLayout(
        channels=tuple(config.block_out_channels), layers=layers, depths=depths, mid_depth=depth[-1]
    )


def level_of(site: str, layout: UNetLayout) -> int:
    """The level that the tensor at ``site`` belongs to (0 = finest)."""
    parts = check_site(site).split(".")
    if parts[0] == "in":
        return 0
    if parts[0] == "mid":
        return layout.levels - 1
    return int(parts[1]) if parts[0] == "down" else layout.levels - 1 - int(parts[1])


def width_at(site: str, layout: UNetLayout) -> int:
    """Channels of the tensor at ``site``."""
    return layout.channels[level_of(site, layout)]


def res_sites(layout: UNetLayout) -> Iterator[str]:
    """Every site after a residual block, in the order of the forward pass."""
    for i in range(layout.levels):
        yield from (f"down.{i}.res.{j}" for j in range(layout.layers))
    yield from ("mid.res.0", "mid.res.1")
    for i in range(layout.levels):
        yield from (f"up.{i}.res.{j}" for j in range(layout.layers + 1))


def attn_sites(layout: UNetLayout) -> Iterator[str]:
    """Every site after a spatial transformer, in the order of the forward pass."""
    for i, depth in enumerate(layout.depths):
        yield from (f"down.{i}.attn.{j}" for j in range(layout.layers) if depth)
    if layout.mid_depth:
        yield "mid.attn.0"
    for i, depth in enumerate(reversed(layout.depths)):
        yield from (f"up.{i}.attn.{j}" for j in range(layout.layers + 1) if depth)


def bare_attn_sites(layout: UNetLayout) -> Iterator[str]:
    """Every site where a level without spatial transformers would have one after a residual block:
    temporal attention can act there all the same."""
    for i, depth in enumerate(layout.depths):
        yield from (f"down.{i}.attn.{j}" for j in range(layout.layers) if not depth)
    if not layout.mid_depth:
        yield "mid.attn.0"
    for i, depth in enumerate(reversed(layout.depths)):
        yield from (f"up.{i}.attn.{j}" for j in range(layout.layers + 1) if not depth)


def block_sites(layout: UNetLayout) -> Iterator[str]:
    """Every site inside a spatial transformer, one per transformer block."""
    for site in attn_sites(layout):
        level = level_of(site, layout)
        depth = layout.mid_depth if site.startswith("mid") else layout.depths[level]
        yield from (f"{site}.block.{k}" for k in range(depth))


@dataclass(frozen=True)
class ForwardStep:
    """One step of a U-Net's forward pass: a spatial module, if any, then the layers at the site.

    takes_skip: the last skip connection is concatenated before the module. leaves_skip: one is
    saved after the layers; by a down-sampler, before them.
    """

    site: str
    module: Literal["conv_in", "res", "attn", "downsample", "upsample", "none"]
    takes_skip: bool = False
    leaves_skip: bool = False


@lru_cache(maxsize=32)
def forward_steps(layout: UNetLayout) -> tuple[ForwardStep, ...]:
    """The forward pass in order: every site except those inside transformers, once."""
    last = layout.levels - 1
    steps = [ForwardStep("in", "conv_in", leaves_skip=True)]
    for i, depth in enumerate(layout.depths):
        for j in range(layout.layers):
            steps.append(ForwardStep(f"down.{i}.res.{j}", "res"))
            kind = "attn" if depth else "none"
            steps.append(ForwardStep(f"down.{i}.attn.{j}", kind, leaves_skip=True))
        kind = "downsample" if i < last else "none"
        steps.append(ForwardStep(f"down.{i}.out", kind, leaves_skip=i < last))
    steps.append(ForwardStep("mid.res.0", "res"))
    steps.append(ForwardStep("mid.attn.0", "attn" if layout.mid_depth else "none"))
    steps += [ForwardStep("mid.res.1", "res"), ForwardStep("mid.out", "none")]
    for i, depth in enumerate(reversed(layout.depths)):
        for j in range(layout.layers + 1):
            steps.append(ForwardStep(f"up.{i}.res.{j}", "res", takes_skip=True))
            steps.append(ForwardStep(f"up.{i}.attn.{j}", "attn" if depth else "none"))
        steps.append(ForwardStep(f"up.{i}.out", "upsample" if i < last else "none"))
    return tuple(steps)


def all_sites(layout: UNetLayout) -> list[str]:
    """Every site of the layout."""
    return [*(step.site for step in forward_steps(layout)), *block_sites(layout)]


def module_site(site: str, layout: UNetLayout) -> str:
    """The site named after the module that ``site`` follows: the residual block's if an attention
    site has no transformer to follow, else ``site`` itself."""
    return site.replace(".attn.", ".res.") if site in set(bare_attn_sites(layout)) else site


def check_site(site: str) -> str:
    """Return ``site`` if it is well formed, else raise ValueError."""
    if not _SITE.fullmatch(site):
        raise ValueError(f"{site!r} is not a site such as 'down.0.res.1' or 'mid.attn.0'")
    return site


def is_in_block(site: str) -> bool:
    """Whether the site lies inside a spatial transformer, where tensors are tokens."""
    return ".block." in check_site(site)


def kind_of(site: str) -> str:
    """``"attention"`` for sites in or after a transformer, else ``"convolution"``."""
    return "attention" if ".attn." in check_site(site) else "convolution"


# -------------------------------------------------------------------------------------------------
# Site ↔ module path. (`in` and `*.out` lie between modules and have no path of their own.)


def diffusers_path(site: str) -> str:
    """Module path of the spatial layer that ``site`` follows, in diffusers' layout."""
    way, *rest = check_site(site).split(".")
    names = {"res": "resnets", "attn": "attentions", "block": "transformer_blocks"}
    if way == "in" or rest[-1] == "out":
        raise ValueError(f"site {site!r} lies between modules and has no path")
    block = "mid_block" if way == "mid" else f"{way}_blocks.{rest.pop(0)}"
    return ".".join([block, *(names.get(part, part) for part in rest)])


def site_of_diffusers_path(path: str) -> str:
    """Inverse of :func:`diffusers_path`."""
    names = {
        "resnets": "res",
        "attentions": "attn",
        "transformer_blocks": "block",
        "mid_block": "mid",
        "down_blocks": "down",
        "up_blocks": "up",
    }
    return check_site(".".join(names.get(part, part) for part in path.split(".")))


def ldm_path(site: str, layout: UNetLayout) -> str:
    """Module path of the spatial layer that ``site`` follows, in the ldm / ComfyUI layout.

    Input block 0 is the first convolution; each level adds its layers and, except for the last, a
    down-sampler. Output blocks hold residual block, transformer and up-sampler in one sequence.
    """
    way, *rest = check_site(site).split(".")
    if way == "in" or rest[-1] == "out":
        raise ValueError(f"site {site!r} lies between modules and has no path")
    if way == "mid":
        kind, j, *block = rest
        head = f"middle_block.{2 * int(j) if kind == 'res' else 1}"
    else:
        i, kind, j, *block = rest
        index = (
            1 + int(i) * (layout.layers + 1) + int(j)
            if way == "down"
            else int(i) * (layout.layers + 1) + int(j)
        )
        blocks = "input_blocks" if way == "down" else "output_blocks"
        head = f"{blocks}.{index}.{0 if kind == 'res' else 1}"
    return head + (f".transformer_blocks.{block[1]}" if block else "")
