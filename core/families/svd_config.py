"""Configuration of Stable Video Diffusion's U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..networks.layers.residual import TemporalResBlockSpec
from ..networks.layers.video_layers import VideoBlockSpec
from ..networks.sites import UNetLayout, block_sites, diffusers_path, res_sites, width_at
from ..networks.temporal_layers import key
from ..networks.temporal_layers_spec import TemporalLayersSpec, TrainedFor
from .stable_diffusion_specs import unet_config
from .unet_layouts import Shapes

BlendKind = Literal["learned", "learned_with_images", "fixed"]
BLENDS: tuple[BlendKind, ...] = ("learned", "learned_with_images", "fixed")
"""The original's names for how layers are blended; all published models use the second."""

HEAD_WIDTH = 64
TASK = "image to video"
FRAMES = 25
"""The longest published: weights do not reveal whether a model is for 14 or for 25 frames."""


@dataclass(frozen=True, kw_only=True)
class SvdConfig:
    """One U-Net.

    ids_width: of the sinusoids of all numeric conditions together. linear: whether transformers
    project with linear layers. second_over_time: whether temporal blocks have a second attention.
    text_over_time: whether that reads the prompt. widens_first: whether they start with a further
    feed-forward layer. kernel: of the temporal convolutions, in frames and in positions. frames: of
    the training segments, which weights do not reveal.
    """

    layout: UNetLayout
    context_width: int
    ids_width: int
    in_channels: int = 8
    out_channels: int = 4
    head_width: int = HEAD_WIDTH
    linear: bool = True
    second_over_time: bool = True
    text_over_time: bool = True
    widens_first: bool = True
    kernel: tuple[int, int] = (3, 1)
    blend: BlendKind = "learned_with_images"
    norm_groups: int = 32
    frames: int = FRAMES

    def __post_init__(self) -> None:
        if self.blend not in BLENDS:
            raise ValueError(f"blend must be one of {', '.join(BLENDS)}, not {self.blend!r}")

    def heads(self, width: int) -> int:
        return max(width // self.head_width, 1)

    def unet_config(self) -> dict[str, Any]:
        """diffusers' configuration of the image U-Net."""
        layout = self.layout
        depths = [depth or layout.mid_depth or 1 for depth in layout.depths]
        config = unet_config(
            layout,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            attention_head_dim=tuple(map(self.heads, layout.channels)),
            cross_attention_dim=self.context_width,
            use_linear_projection=self.linear,
            norm_num_groups=self.norm_groups,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=self.ids_width,
        )
        return config | dict(transformer_layers_per_block=tuple(depths))

    def layers_spec(self) -> TemporalLayersSpec:
        """A convolution after every residual block, a block after every transformer block."""
        layout = self.layout
        found: dict[str, Any] = {site: self._convolution for site in res_sites(layout)}
        found |= {site: self._block(width_at(site, layout)) for site in block_sites(layout)}
        trained = TrainedFor(task=TASK, frames=self.frames, family="svd")
        return TemporalLayersSpec(layout=layout, layers=found, trained=trained)

    @property
    def _blending(self) -> dict[str, bool]:
        return dict(
            fixed_blend=self.blend == "fixed", spares_images=self.blend == "learned_with_images"
        )

    @property
    def _convolution(self) -> TemporalResBlockSpec:
        return TemporalResBlockSpec(
            kernel=self.kernel[0],
            spatial=self.kernel[1],
            norm_groups=self.norm_groups,
            embedding=4 * self.layout.channels[0],
            pooled_norm=True,
            **self._blending,
        )

    def _block(self, width: int) -> VideoBlockSpec:
        return VideoBlockSpec(
            heads=self.heads(width),
            text=self.context_width if self.second_over_time and self.text_over_time else None,
            second=self.second_over_time,
            widens_first=self.widens_first,
            **self._blending,
        )


def config_of(layout: UNetLayout, shapes: Shapes, **settings: Any) -> SvdConfig | None:
    """The configuration, read off shapes under this project's names (see :mod:`.svd_keys`); None if
    a key is missing that every such U-Net has.

    settings: what shapes do not reveal: head width, how layers are blended, number of frames.
    """
    blocks = list(block_sites(layout))
    first = next(res_sites(layout))
    names = {
        "convolution": f"layers.{key(first)}.conv1.weight",
        "ids": "unet.class_embedding.linear_1.weight",
        "conv_in": "unet.conv_in.weight",
        "conv_out": "unet.conv_out.weight",
    }
    if not blocks or any(name not in shapes for name in names.values()):
        return None
    transformer = f"unet.{diffusers_path(blocks[0])}"
    context = shapes.get(f"{transformer}.attn2.to_k.weight")
    projection = shapes.get(f"{transformer.partition('.transformer_blocks')[0]}.proj_in.weight")
    if context is None or projection is None:
        return None
    kernel = shapes[names["convolution"]][2:4]
    return SvdConfig(
        layout=layout,
        context_width=context[1],
        ids_width=shapes[names["ids"]][1],
        in_channels=shapes[names["conv_in"]][1],
        out_channels=shapes[names["conv_out"]][0],
        linear=len(projection) == 2,
        second_over_time=f"layers.{key(blocks[0])}.block.norm2.weight" in shapes,
        text_over_time=_reads_text(shapes, layout, context[1]),
        widens_first=f"layers.{key(blocks[0])}.block.norm_in.weight" in shapes,
        kernel=tuple(kernel),
        **settings,
    )


def _reads_text(shapes: Shapes, layout: UNetLayout, context: int) -> bool:
    """Whether temporal blocks read the prompt; assumed, as published, if all widths are equal."""
    read = {
        site: shapes.get(f"layers.{key(site)}.block.second_attention.to_k.weight", (0, context))[1]
        for site in block_sites(layout)
    }
    return all(width == context for width in read.values())
