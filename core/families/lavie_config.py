"""Which of LaVie's three networks a checkpoint holds, and its sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..networks.layers.block_attention import BlockAttentionSpec, TemporalModuleSpec
from ..networks.layers.residual import TemporalResBlockSpec
from ..networks.sites import UNetLayout, attn_sites, block_sites, level_of
from ..networks.temporal_layers_spec import Betas, HostChanges, TemporalLayersSpec, TrainedFor

Kind = Literal["base", "interpolation", "vsr"]
KINDS: tuple[Kind, ...] = ("base", "interpolation", "vsr")
TASKS = {"base": "text to video", "interpolation": "interpolation", "vsr": "upsampling"}
"""The task that each network's temporal layers are trained for."""
Shapes = Mapping[str, Sequence[int]]

MODULE_GROUPS, MODULE_EPS = 32, 1e-6
"""Of the norms in the upsampler's temporal convolutions, whatever the U-Net's are."""

CONVOLUTION = TemporalResBlockSpec(
    norm_groups=MODULE_GROUPS, eps=MODULE_EPS, pooled_norm=True, learned_blend=False
)
"""The upsampler's temporal convolution; it does not read the noise level."""

BETAS = Betas("linear", 1e-4, 2e-2)
"""Of all three networks, unlike Stable Diffusion's."""

FRAMES: dict[Kind, int] = {"base": 16, "interpolation": 61, "vsr": 8}
"""Length of the training segments."""


@dataclass(frozen=True, kw_only=True)
class LavieConfig:
    """One network. Levels go from fine to coarse."""

    kind: Kind
    layout: UNetLayout
    heads: tuple[int, ...]  # per level; the original calls it attention_head_dim
    context_width: int  # of text tokens
    in_channels: int = 4
    out_channels: int = 4
    norm_groups: int = 32
    norm_eps: float = 1e-5
    only_cross_attention: tuple[bool, ...] = ()  # per level; empty: self-attention everywhere
    noise_levels: int = 0  # rows of the noise level embedding
    modules: tuple[str, ...] = ()  # sites of residual blocks between levels

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a LaVie network is one of {', '.join(KINDS)}, not {self.kind!r}")
        if len(self.heads) != self.layout.levels:
            raise ValueError(f"{len(self.heads)} numbers of heads, but {self.layout.levels} levels")

    # ----------------------------------------------------------------------------------------------
    # Configurations of the two networks.

    def unet_config(self) -> dict[str, Any]:
        """diffusers' configuration of the image U-Net."""
        depths = self.layout.depths
        more = {"num_class_embeds": self.noise_levels} if self.noise_levels else {}
        return dict(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            block_out_channels=self.layout.channels,
            layers_per_block=self.layout.layers,
            down_block_types=tuple(f"{'CrossAttn' * bool(d)}DownBlock2D" for d in depths),
            up_block_types=tuple(f"{'CrossAttn' * bool(d)}UpBlock2D" for d in depths[::-1]),
            attention_head_dim=self.heads,
            cross_attention_dim=self.context_width,
            norm_num_groups=self.norm_groups,
            norm_eps=self.norm_eps,
            use_linear_projection=self.kind == "vsr",
            only_cross_attention=self.only_cross_attention or False,
            **more,
        )

    def layers_spec(self) -> TemporalLayersSpec:
        """The temporal layers."""
        interpolates = self.kind == "interpolation"
        placed = [
            *((site, self._attention_at(site)) for site in block_sites(self.layout)),
            *((site, CONVOLUTION) for site in self.convolutions),
            *((site, self._module) for site in self.modules),
        ]
        return TemporalLayersSpec(
            layout=self.layout,
            layers=dict(placed),
            host=HostChanges(pooled_norms=True, sparse_causal=interpolates, betas=BETAS),
            trained=TrainedFor(
                frames=FRAMES[self.kind], task=TASKS[self.kind], family=f"lavie {self.kind}"
            ),
        )

    def _attention_at(self, site: str) -> BlockAttentionSpec:
        interpolates = self.kind == "interpolation"
        return BlockAttentionSpec(
            heads=self.heads[level_of(site, self.layout)],
            positions="none" if interpolates else "rotary_and_bias",
            block_place="after_feed_forward" if interpolates else "before_feed_forward",
        )

    @property
    def _module(self) -> TemporalModuleSpec:
        embedding = 4 * self.layout.channels[0]
        return TemporalModuleSpec(embedding=embedding, norm_groups=MODULE_GROUPS, eps=MODULE_EPS)

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Sites of the upsampler's temporal convolutions. The original runs each at the start of a
        transformer, with a residual of its own: the same as after the preceding residual block."""
        if self.kind != "vsr":
            return ()
        return tuple(site.replace(".attn.", ".res.") for site in attn_sites(self.layout))

    # ----------------------------------------------------------------------------------------------
    # Headers of files, and the original's configuration.

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for a file's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LavieConfig:
        """Inverse of :meth:`as_dict`, also after JSON."""

        def tuples(found: Mapping[str, Any]) -> dict[str, Any]:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}

        return cls(**tuples(values) | {"layout": UNetLayout(**tuples(values["layout"]))})

    @classmethod
    def from_original(cls, config: Mapping[str, Any]) -> LavieConfig:
        """From the configuration that the original networks are built with."""
        upsampler = config.get("num_class_embeds") is not None
        kind = "vsr" if upsampler else "base"
        depths = tuple(int(name.startswith("CrossAttn")) for name in config["down_block_types"])
        channels = tuple(config["block_out_channels"])
        only = config.get("only_cross_attention") or ()
        return cls(
            kind="interpolation" if config.get("use_first_frame") else kind,
            layout=UNetLayout(channels=channels, layers=config["layers_per_block"], depths=depths),
            heads=_per_level(config["attention_head_dim"], len(channels)),
            context_width=config["cross_attention_dim"],
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            norm_groups=config["norm_num_groups"],
            norm_eps=config.get("norm_eps", 1e-5),
            only_cross_attention=_per_level(only, len(channels)) if only else (),
            noise_levels=config["num_class_embeds"] if upsampler else 0,
            modules=_modules(config) if upsampler else (),
        )


def _per_level(value: Any, levels: int) -> tuple:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * levels


def _modules(config: Mapping[str, Any]) -> tuple[str, ...]:
    middle = ("mid.out",) if config.get("mid_temporal") else ()
    down, up = config.get("down_temporal_idx") or (), config.get("up_temporal_idx") or ()
    return (*(f"down.{i}.out" for i in down), *middle, *(f"up.{i}.out" for i in up))


# --------------------------------------------------------------------------------------------------
# Detection.


def kind_in(shapes: Shapes) -> Kind | None:
    """Which of the networks has such weights; None for anything else."""
    names = "\n".join(shapes)
    if "conv_in.weight" not in shapes or len(shapes["conv_in.weight"]) != 4:
        return None
    if ".attn_temporal." in names and "class_embedding.weight" in shapes:
        return "vsr"
    if ".attn_temp." not in names:
        return None
    return "base" if ".attn_temp.time_rel_pos_bias." in names else "interpolation"


def detect(shapes: Shapes, *, norm_groups: int = 32) -> LavieConfig | None:
    """The configuration, read off the names and shapes of weights; None if they are not LaVie's.

    They do not reveal the number of heads where there are no position biases, nor the levels where
    the upsampler attends to text only. Both are as published: 8, and all but the coarsest.
    """
    kind = kind_in(shapes)
    try:
        return None if kind is None else _detected(kind, shapes, norm_groups)
    except (IndexError, KeyError):  # LaVie's names, but not its shapes.
        return None


def _detected(kind: Kind, shapes: Shapes, norm_groups: int) -> LavieConfig | None:
    levels = _count(shapes, r"down_blocks\.(\d+)\.resnets\.0\.conv1\.weight")
    layers = _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\.conv1\.weight")
    down = [f"down_blocks.{i}" for i in range(levels)]
    if not levels or not layers or f"{_attention('mid_block')}.attn2.to_k.weight" not in shapes:
        return None
    channels = tuple(shapes[f"{block}.resnets.0.conv1.weight"][0] for block in down)
    depths = tuple(int(f"{_attention(block)}.norm1.weight" in shapes) for block in down)
    upsampler = kind == "vsr"
    return LavieConfig(
        kind=kind,
        layout=UNetLayout(channels=channels, layers=layers, depths=depths),
        heads=tuple(_heads(shapes, block) for block in (*down[:-1], "mid_block")),
        context_width=shapes[f"{_attention('mid_block')}.attn2.to_k.weight"][1],
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes["conv_out.weight"][0] if "conv_out.weight" in shapes else 4,
        norm_groups=norm_groups,
        only_cross_attention=(True,) * (levels - 1) + (False,) if upsampler else (),
        noise_levels=shapes["class_embedding.weight"][0] if upsampler else 0,
        modules=_modules_in(shapes, levels) if upsampler else (),
    )


def _attention(block: str) -> str:
    return f"{block}.attentions.0.transformer_blocks.0"


def _heads(shapes: Shapes, block: str, published: int = 8) -> int:
    for name in ("attn_temp", "attn_temporal"):
        table = f"{_attention(block)}.{name}.time_rel_pos_bias.relative_attention_bias.weight"
        if table in shapes:
            return shapes[table][1]
    return published


def _count(shapes: Shapes, pattern: str) -> int:
    found = [int(match[1]) for match in map(re.compile(pattern).fullmatch, shapes) if match]
    return max(found, default=-1) + 1


def _modules_in(shapes: Shapes, levels: int) -> tuple[str, ...]:
    config = {
        f"{way}_temporal_idx": [
            i for i in range(levels) if f"{way}_temporal_blocks.{i}.shift_conv.weight" in shapes
        ]
        for way in ("down", "up")
    }
    return _modules(config | {"mid_temporal": "mid_temporal_block.shift_conv.weight" in shapes})
