"""Which motion modules a file holds, AnimateDiff's or a successor's, and their sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..networks.image_conditions import ImageEncoderSpec, InputChannelsSpec, MaskedImageSpec
from ..networks.layers.motion_module import MotionModuleSpec
from ..networks.layers.specs import LayerSpec
from ..networks.sites import SD1, SDXL, UNetLayout, attn_sites, bare_attn_sites
from ..networks.temporal_layers_spec import Betas, HostChanges, TemporalLayersSpec, TrainedFor

Shapes = Mapping[str, Sequence[int]]
Spelling = Literal["original", "hotshot", "diffusers"]

LINEAR = Betas("linear", 8.5e-4, 1.2e-2)
"""Linear in beta, unlike Stable Diffusion's schedule; ComfyUI calls this one sqrt_linear."""
XL_BETAS = Betas("scaled_linear", 8.5e-4, 2e-2)
LATENTS = 4
"""Latent channels of PIA's first convolution; the others are the mask's and the image's."""
LCM_IMAGE_BETAS = Betas("linear", 8.5e-4, 1.4e-2)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of a release. positions: for files without position tables."""

    positions: int = 32
    middle: bool = False
    pooled_norms: bool = False
    betas: Betas | None = LINEAR
    frames: int = 16
    task: str = "text to video"
    acts_on_image: bool = True


VARIANTS = {
    "v1": Variant(positions=24, pooled_norms=True),
    "v2": Variant(middle=True),
    "v3": Variant(),
    "animatelcm": Variant(positions=64, middle=True),
    "animatelcm i2v": Variant(positions=64, middle=True, betas=LCM_IMAGE_BETAS, task=""),
    "pia": Variant(pooled_norms=True, task=""),
    "sdxl": Variant(betas=XL_BETAS),
    "hotshot xl": Variant(
        positions=24, pooled_norms=True, betas=None, frames=8, acts_on_image=False
    ),
}

LIKENESS = {
    "small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "moderate motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large motion": (1.0, 0.8, *(0.7,) * 8, 0.6, 0.5, 0.5),
    "loop small": (1.0, 0.9, 0.85, 0.85, 0.85, *(0.8,) * 7, 0.85, 0.85, 0.9, 1.0),
    "loop moderate": (
        1.0, 0.8, 0.8, 0.8, 0.79, 0.78, *(0.75,) * 5, 0.78, 0.79, 0.8, 0.8, 1.0,
    ),
    "loop large": (
        1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1.0,
    ),
    "style transfer large": (0.5, 0.2),
    "style transfer moderate": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "style transfer small": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
}  # fmt: skip
"""PIA's presets, in its order: similarity to the input image at a distance of 0, 1, ... frames. The
loops return to 1 at a distance of 15."""


@dataclass(frozen=True, kw_only=True)
class AnimateDiffConfig:
    """The motion modules of one file. Levels go from fine to coarse."""

    variant: str
    spelling: Spelling
    layout: UNetLayout
    positions: int
    tables: bool = True  # whether the file holds position tables
    middle: bool = False
    way_down: bool = True
    way_up: bool = True
    blocks: int = 1
    attentions: int = 2
    narrowing: int = 1  # the original's temporal_attention_dim_div
    heads: int = 8
    norm_groups: int = 32
    pooled_norms: bool | None = None  # in the image network; None: as usual for the variant
    lightning: int = 0  # number of steps that the modules were distilled to; not in the weights
    likeness: tuple[float, ...] = LIKENESS["moderate motion"]  # PIA only
    motion: float = 0.8  # AnimateLCM's image-to-video layers only

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"motion modules are one of {', '.join(VARIANTS)}, not {self.variant!r}"
            )

    @property
    def family(self) -> str:
        """The name of the layers, such as "animatediff v3"."""
        return f"animatediff {self.variant}" + (
            f" lightning {self.lightning}" if self.lightning else ""
        )

    @property
    def module(self) -> MotionModuleSpec:
        """The spec of all modules; they differ only in width."""
        return MotionModuleSpec(
            heads=self.heads,
            positions=self.positions,
            blocks=self.blocks,
            attentions=self.attentions,
            narrowing=self.narrowing,
            norm_groups=self.norm_groups,
            acts_on_image=VARIANTS[self.variant].acts_on_image,
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """After every spatial transformer, or where a level without them would have one."""
        every = (*attn_sites(self.layout), *bare_attn_sites(self.layout))
        lacking = [] if self.middle else ["mid."]
        lacking += [] if self.way_down else ["down."]
        lacking += [] if self.way_up else ["up."]
        return tuple(site for site in every if not site.startswith(tuple(lacking)))

    def layers_spec(self) -> TemporalLayersSpec:
        """The temporal layers."""
        variant, pooled = VARIANTS[self.variant], self.pooled_norms
        pooled = variant.pooled_norms if pooled is None else pooled
        return TemporalLayersSpec(
            layout=self.layout,
            layers=self._layers(),
            host=HostChanges(pooled_norms=pooled, betas=variant.betas),
            context=self._context(),
            trained=TrainedFor(task=variant.task, frames=variant.frames, family=self.family),
        )

    def _layers(self) -> dict[str, LayerSpec]:
        found: dict[str, LayerSpec] = dict.fromkeys(self.sites, self.module)
        if self.variant == "animatelcm i2v":
            adding = replace(self.module, adds_context=True)
            last = self.layout.layers - 1
            found |= {f"down.{i}.attn.{last}": adding for i in range(self.layout.levels)}
        return (
            {"in": InputChannelsSpec(latents=LATENTS)} | found if self.variant == "pia" else found
        )

    def _context(self) -> ImageEncoderSpec | MaskedImageSpec | None:
        if self.variant == "animatelcm i2v":
            return ImageEncoderSpec(widths=self.layout.channels, motion=self.motion)
        if self.variant == "pia":
            return MaskedImageSpec(likeness=self.likeness, levels=self.layout.levels)
        return None


# --------------------------------------------------------------------------------------------------
# Detection.

MODULES = {"motion_modules": "original", "temporal_attentions": "hotshot"}
"""Names of the lists of motion modules, and who uses them."""

_PLACE = r"(?:(?:down|up)_blocks\.\d+|mid_block)"
_MODULE = re.compile(rf"^(?P<prefix>.*?){_PLACE}\.(?P<list>{'|'.join(MODULES)})\.\d+\.")
TABLE = re.compile(r"\.(pos_encoder\.(pe|pos_encoding|positional_encoding)|pos_embed\.pe)$")
"""Matches the names of position tables."""


def prefix_of(keys: Iterable[str]) -> str | None:
    """The prefix of motion modules' names ("", "module.", ...); None if there are no motion
    modules."""
    return next((found["prefix"] for found in map(_MODULE.match, keys) if found), None)


def detect(shapes: Shapes, *, norm_groups: int = 32, heads: int = 8) -> AnimateDiffConfig | None:
    """The configuration, read off the names (without a prefix) and shapes of weights; None if there
    are no motion modules among them.

    They do not reveal the number of groups and of heads, nor the depths of the image network's
    transformers: three levels are assumed to be Stable Diffusion XL's.
    """
    kinds = {found["list"] for found in map(_MODULE.match, shapes) if found}
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    spelling = MODULES[kind]
    if spelling == "original" and not any(".temporal_transformer." in key for key in shapes):
        spelling = "diffusers"
    levels, layers = _levels_of(shapes, kind)
    inner = "temporal_transformer." if spelling == "original" else ""
    widths = [shapes.get(f"{level}.0.{inner}norm.weight") for level in levels]
    if not levels or None in widths:
        return None
    first = f"{levels[0]}.0."
    attention = r"attn(\d+)" if spelling == "diffusers" else r"attention_blocks\.(\d+)"
    blocks = _count(shapes, rf"{re.escape(first + inner)}transformer_blocks\.(\d+)\.")
    attentions = _count(shapes, rf"{re.escape(first)}.*\.{attention}\.to_q\.")
    inside = shapes.get(f"{first}{inner}proj_in.weight", widths[0])[0]
    table = next((shape for key, shape in shapes.items() if TABLE.search(key)), None)
    middle = any(key.startswith(f"mid_block.{kind}.") for key in shapes)
    found = dict(levels=len(levels), middle=middle, positions=table[-2] if table else None)
    variant = _variant(shapes, spelling, **found)
    return AnimateDiffConfig(
        variant=variant,
        spelling=spelling,
        layout=_layout(tuple(width[0] for width in widths), layers),
        positions=table[-2] if table else VARIANTS[variant].positions,
        tables=table is not None,
        middle=middle,
        way_down=levels[0].startswith("down"),
        way_up=any(key.startswith(f"up_blocks.0.{kind}.") for key in shapes),
        blocks=blocks,
        # diffusers counts from 1.
        attentions=attentions - (spelling == "diffusers"),
        narrowing=max(widths[0][0] // inside, 1),
        heads=heads,
        norm_groups=norm_groups,
    )


def _levels_of(shapes: Shapes, kind: str) -> tuple[list[str], int]:
    """The path of each level's modules, fine to coarse, and the number of residual blocks per level
    on the way down. A file of the way up alone has one more, and starts at the coarsest level."""
    for way in ("down", "up"):
        count = _count(shapes, rf"{way}_blocks\.(\d+)\.{kind}\.0\.")
        found = [f"{way}_blocks.{i}.{kind}" for i in range(count)]
        if found:
            layers = _count(shapes, rf"{re.escape(found[0])}\.(\d+)\.")
            return (found, layers) if way == "down" else (found[::-1], layers - 1)
    return [], 0


def _variant(
    shapes: Shapes, spelling: Spelling, *, levels: int, middle: bool, positions: int | None
) -> str:
    if spelling == "hotshot":
        return "hotshot xl"
    if takes_image(shapes):
        return "pia"
    if any(key.startswith("img_encoder.") for key in shapes):
        return "animatelcm i2v"
    if levels == 3:
        return "sdxl"
    if middle:
        return "v2" if positions is not None and positions <= 32 else "animatelcm"
    return "v1" if positions is not None and positions <= 24 else "v3"


def takes_image(shapes: Shapes) -> bool:
    """Whether the first convolution also takes a mask and an image's latents, as PIA's does."""
    first = shapes.get("conv_in.weight")
    return first is not None and first[1] == 9


def _layout(channels: tuple[int, ...], layers: int) -> UNetLayout:
    known = SDXL if len(channels) == 3 else SD1
    if len(channels) == known.levels:
        return replace(known, channels=channels, layers=layers)
    return UNetLayout(channels=channels, layers=layers, depths=(1,) * len(channels))


def _count(shapes: Shapes, pattern: str) -> int:
    found = [int(match[1]) for match in map(re.compile(pattern).match, shapes) if match]
    return max(found, default=-1) + 1
