"""Temporal layers run while their weights are offloaded to the CPU (no ComfyUI needed).

The meta device stands in for the accelerator: mixing it with CPU tensors is an error, as on a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.conditions import FRAME_RATE, Conditions
from videoldm.core.networks.context_frames import no_context
from videoldm.core.networks.sites import UNetLayout, all_sites, level_of, width_at
from videoldm.core.networks.temporal_layers import TemporalLayers

LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
FRAMES, SIDE, TOKENS = 4, 8, 5


def weights_of(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor | None]:
    pair = module.weight, getattr(module, "bias", None)
    return [None if one is None else one.to(x.device) for one in pair]


class Linear(nn.Linear):
    def forward(self, x):
        return F.linear(x, *weights_of(self, x))


class Conv2d(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, *weights_of(self, x))


class Conv3d(nn.Conv3d):
    def forward(self, x):
        return self._conv_forward(x, *weights_of(self, x))


class GroupNorm(nn.GroupNorm):
    def forward(self, x):
        return F.group_norm(x, self.num_groups, *weights_of(self, x), self.eps)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, *weights_of(self, x), self.eps)


class Embedding(nn.Embedding):
    def forward(self, x):
        return F.embedding(x, self.weight.to(x.device))


OPS = SimpleNamespace(Linear=Linear, Conv2d=Conv2d, Conv3d=Conv3d, GroupNorm=GroupNorm,
                      LayerNorm=LayerNorm, Embedding=Embedding)  # fmt: skip
"""Layers that move their weights to the device of their input, as ComfyUI's do."""


@pytest.mark.parametrize(
    "positions, more",
    [("none", {"block_positions": "none"}), ("sinusoidal", {}), ("rotary", {}), ("relative", {}),
     ("sinusoidal", {"motions": 2, "motion_attention": (1,), "clip_attention": (0,)})],
)  # fmt: skip
def test_no_tensor_of_a_layer_stays_behind(positions, more):
    spec = spec_from_table(
        LAYOUT, sites=tuple(all_sites(LAYOUT)), positions=positions, norm_groups=8,
        context_channels=4, text_width=16, rates=3, modules=True, **more,
    )  # fmt: skip
    layers = TemporalLayers(spec, ops=OPS).requires_grad_(False)
    context = no_context((1, FRAMES, 4, SIDE, SIDE), "meta")
    told = layers.prepare(
        torch.zeros(1, spec.embedding, device="meta"), FRAMES,
        Conditions(
            context=context, text=torch.zeros(1, TOKENS, 16, device="meta"),
            ids={FRAME_RATE: torch.zeros(1, dtype=torch.long, device="meta")},
        ),
    )  # fmt: skip
    for site in spec.sites:
        width, side = width_at(site, LAYOUT), SIDE >> level_of(site, LAYOUT)
        shape = (side * side, width) if ".block." in site else (width, side, side)
        h = torch.zeros(FRAMES, *shape, device="meta")
        out = layers.run(site, h, told, 0.5)
        assert out.shape == h.shape and out.device.type == "meta", site
    assert all(one.device.type == "cpu" for one in layers.parameters())
