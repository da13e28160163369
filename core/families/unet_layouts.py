"""The layout of a video U-Net, read off the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ..networks.sites import UNetLayout

Shapes = Mapping[str, Sequence[int]]

DOWN = re.compile(r"input_blocks\.(\d+)\.(?:0\.)?op\.weight")


def layout_in(shapes: Shapes, *, first_convolution: str = "conv1") -> UNetLayout | None:
    """The layout of weights under ldm's or diffusers' names; None if they are not a U-Net's.

    first_convolution: its path in a residual block under diffusers' names.
    """
    if "input_blocks.0.0.weight" in shapes:
        return _of_ldm(shapes)
    return _of_diffusers(shapes, first_convolution) if "conv_in.weight" in shapes else None


def _of_ldm(shapes: Shapes) -> UNetLayout | None:
    samplers = [int(found[1]) for found in map(DOWN.fullmatch, shapes) if found]
    blocks, levels = count(shapes, r"input_blocks\.(\d+)\."), len(samplers) + 1
    # One block for the first convolution, one per down-sampler.
    layers, rest = divmod(blocks - levels, levels)
    firsts = [1 + i * (layers + 1) for i in range(levels)]
    if layers < 1 or rest or samplers != [first - 1 for first in firsts[1:]]:
        return None
    return _layout(
        shapes,
        layers,
        [f"input_blocks.{first}.0.out_layers.3.weight" for first in firsts],
        [f"input_blocks.{first}.1" for first in firsts],
        "middle_block.1",
    )


def _of_diffusers(shapes: Shapes, first_convolution: str) -> UNetLayout | None:
    levels = count(shapes, r"down_blocks\.(\d+)\.")
    layers = count(shapes, r"down_blocks\.0\.resnets\.(\d+)\.")
    blocks = [f"down_blocks.{i}" for i in range(levels)]
    if not levels or not layers:
        return None
    return _layout(
        shapes,
        layers,
        [f"{block}.resnets.0.{first_convolution}.weight" for block in blocks],
        [f"{block}.attentions.0" for block in blocks],
        "mid_block.attentions.0",
    )


def _layout(
    shapes: Shapes, layers: int, widths: Iterable[str], transformers: Iterable[str], middle: str
) -> UNetLayout | None:
    """widths: per level, a weight whose first axis has the level's width."""
    channels = tuple(shapes[name][0] if name in shapes else 0 for name in widths)
    if not all(channels):
        return None
    depths = tuple(_depth(shapes, path) for path in transformers)
    return UNetLayout(
        channels=channels, layers=layers, depths=depths, mid_depth=_depth(shapes, middle)
    )


def _depth(shapes: Shapes, transformer: str) -> int:
    return count(shapes, rf"{re.escape(transformer)}\.transformer_blocks\.(\d+)\.")


def count(names: Iterable[str], pattern: str) -> int:
    """One more than the highest index that the pattern matches at the start of a name."""
    found = (match[1] for match in map(re.compile(pattern).match, names) if match)
    return max(map(int, found), default=-1) + 1
