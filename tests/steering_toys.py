"""CameraCtrl's and SparseCtrl's weights at toy size."""

from __future__ import annotations

import torch
from model_toys import fill, normal
from videoldm.core.families import animatediff_camera
from videoldm.core.families.animatediff_config import AnimateDiffConfig
from videoldm.core.networks.camera_encoder import CameraEncoderSpec


def toy_file(widths=(32, 64), **changes) -> dict[str, torch.Tensor]:
    """A CameraCtrl state dict under the original names, for motion modules of these widths."""
    spec = CameraEncoderSpec(widths=widths, heads=4, **changes)
    encoder = fill(spec.build(1), 7).state_dict()
    names = animatediff_camera._table(spec)
    state = {}
    for old, new in names.items():
        state |= {f"{old}{k.removeprefix(new)}": v for k, v in encoder.items()
                  if k.rpartition(".")[0] == new}  # fmt: skip
    assert len(state) == len(encoder)
    for way, level, number in (("down", 0, 0), ("down", 1, 0), ("up", 0, 1), ("up", 1, 1)):
        width = widths[level if way == "down" else -1 - level]
        head = f"{way}_blocks.{level}.motion_modules.{number}.temporal_transformer"
        merge = f"{head}.transformer_blocks.0.attention_blocks.0.processor.qkv_merge"
        weight = normal(width, width, seed=level + 20) / width**0.5
        state |= {f"{merge}.weight": weight, f"{merge}.bias": 0.1 * normal(width, seed=30)}
    return state


def motion_config(layout, **changes) -> AnimateDiffConfig:
    return AnimateDiffConfig(
        variant="v3", spelling="original", layout=layout, positions=32, tables=False,
        way_up=False, attentions=1, **changes,
    )  # fmt: skip
