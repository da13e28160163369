"""Toy motion modules and motion LoRAs of every variant, as files and injected."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from model_toys import fill, normal, toy_unet
from videoldm.core.families import animatediff
from videoldm.core.families import animatediff_keys as keys
from videoldm.core.families.animatediff_config import VARIANTS, AnimateDiffConfig
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.sites import UNetLayout, layout_of
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.video_unet import inject

TWO_LEVELS = UNetLayout(channels=(32, 64), layers=1, depths=(1, 1))
"""The layout that loading infers from a file of two levels."""


def toy_config(variant: str, **changes) -> AnimateDiffConfig:
    values = VARIANTS[variant]
    spelling = "hotshot" if variant == "hotshot xl" else "original"
    config = AnimateDiffConfig(
        variant=variant,
        spelling=spelling,
        layout=layout_of(toy_unet().config),
        positions=values.positions,
        tables=not variant.startswith("animatelcm"),
        middle=values.middle,
        heads=4,
        norm_groups=8,
    )
    return replace(config, **changes)


def toy_layers(config: AnimateDiffConfig, seed: int = 0) -> TemporalLayers:
    layers = TemporalLayers(config.layers_spec())
    return fill(layers, seed).eval().requires_grad_(False)


def toy_state(config: AnimateDiffConfig) -> dict[str, torch.Tensor]:
    return animatediff.to_original(toy_layers(config), config)


def same(one: TemporalLayers, two: TemporalLayers) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def toy_lora(config: AnimateDiffConfig, rank: int = 2, seed: int = 5) -> dict[str, torch.Tensor]:
    """A LoRA of all attention projections, under published names."""
    found = {}
    for path, own in keys.table(config).items():
        if ".attentions." not in own:
            continue
        width = toy_layers(config).get_parameter(f"{own}.weight").shape[0]
        head, name = re.fullmatch(r"(.*)\.(to_\w+)(?:\.0)?", path).groups()
        for half, shape in (("down", (rank, width)), ("up", (width, rank))):
            key = f"{head}.processor.{name}_lora.{half}.weight"
            found[key] = 0.3 * normal(*shape, seed=seed + len(found))
    return found


TEXT, VIDEO = normal(2, 5, 16, seed=1), normal(2, 66, 4, 8, 8)


def forward(layers: TemporalLayers, frames: int = 4, strength=None, context=None, unet=None):
    network = inject(unet or toy_unet_of_one_seed(), layers, *([strength] if strength else []))
    given = Conditions(text=TEXT, context=context)
    with torch.no_grad():
        return network(VIDEO[:, :frames], torch.tensor(500), given)


def toy_unet_of_one_seed():
    torch.manual_seed(0)
    return toy_unet()
