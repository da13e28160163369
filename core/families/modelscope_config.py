"""Configuration of ModelScope's text-to-video U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..networks.layers.specs import LayerSpec
from ..networks.layers.video_layers import ConvolutionStackSpec, FrameTransformerSpec
from ..networks.sites import UNetLayout, attn_sites, diffusers_path, res_sites, width_at
from ..networks.temporal_layers import key
from ..networks.temporal_layers_spec import TemporalLayersSpec, TrainedFor
from .stable_diffusion_specs import unet_config
from .unet_layouts import Shapes

INPUT_HEADS = 8
"""Of the transformer after the first convolution, whatever the head width."""
TASK = "text to video"
FRAMES = 16
INPUT = "in"
"""Site of the temporal transformer after the first convolution."""


@dataclass(frozen=True, kw_only=True)
class ModelScopeConfig:
    """One U-Net. head_width: of all attention; the transformer after the first convolution has 8
    such heads. frames: of the training segments, which weights do not reveal."""

    layout: UNetLayout
    context_width: int
    in_channels: int = 4
    out_channels: int = 4
    head_width: int = 64
    norm_groups: int = 32
    frames: int = FRAMES

    def heads(self, width: int) -> int:
        return max(width // self.head_width, 1)

    def unet_config(self) -> dict[str, Any]:
        """diffusers' configuration of the image U-Net: Stable Diffusion 2's."""
        layout = self.layout
        return unet_config(
            layout,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            attention_head_dim=tuple(map(self.heads, layout.channels)),
            cross_attention_dim=self.context_width,
            use_linear_projection=True,
            norm_num_groups=self.norm_groups,
        )

    def layers_spec(self) -> TemporalLayersSpec:
        """Convolutions after every residual block, a transformer after every spatial one and after
        the first convolution."""
        layout, stack = self.layout, ConvolutionStackSpec(norm_groups=self.norm_groups)
        found: dict[str, LayerSpec] = {INPUT: self._transformer(INPUT_HEADS * self.head_width)}
        found |= dict.fromkeys(res_sites(layout), stack)
        found |= {s: self._transformer(width_at(s, layout)) for s in attn_sites(layout)}
        trained = TrainedFor(task=TASK, frames=self.frames, family="modelscope")
        return TemporalLayersSpec(layout=layout, layers=found, trained=trained)

    def _transformer(self, inner: int) -> FrameTransformerSpec:
        heads = self.heads(inner)
        return FrameTransformerSpec(
            heads=heads, head_width=inner // heads, norm_groups=self.norm_groups
        )


def config_of(layout: UNetLayout, shapes: Shapes, **settings: Any) -> ModelScopeConfig | None:
    """The configuration, read off shapes under this project's names (see :mod:`.modelscope_keys`);
    None if a key is missing that every such U-Net has.

    settings: what shapes do not reveal, such as the number of frames.
    """
    first = next(attn_sites(layout), None)
    if first is None:
        return None
    names = {
        "context": f"unet.{diffusers_path(first)}.transformer_blocks.0.attn2.to_k.weight",
        "input": f"layers.{key(INPUT)}.project_in.weight",
        "conv_in": "unet.conv_in.weight",
        "conv_out": "unet.conv_out.weight",
    }
    if any(name not in shapes for name in names.values()):
        return None
    return ModelScopeConfig(
        layout=layout,
        context_width=shapes[names["context"]][1],
        head_width=shapes[names["input"]][0] // INPUT_HEADS,
        in_channels=shapes[names["conv_in"]][1],
        out_channels=shapes[names["conv_out"]][0],
        **settings,
    )
