"""Temporal layers by site: the part of a video model that is trained, saved and shared.

A :class:`TemporalLayers` is a dict from site (see :mod:`.sites`) to layer, plus what these layers
are told: an encoder of given frames (Video LDM, section 3.2) and a frame-rate flag (section 3.3).
It knows nothing of the image U-Net it will be used with but its layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .block_layers import BLOCK_POSITIONS, BlockAttention, BlockPositions, TemporalModule
from .context_frames import ContextFrames
from .layers import (
    Reach,
    TemporalResBlock,
    TemporalTransformer,
    Told,
    heads_for,
    per_frame,
)
from .positions import POSITIONS, Positions, sinusoid
from .sites import (
    UNetLayout,
    all_sites,
    attn_sites,
    check_site,
    kind_of,
    level_of,
    res_sites,
    width_at,
)

BlockPlace = Literal["before_feed_forward", "after_feed_forward"]
BLOCK_PLACES: tuple[BlockPlace, ...] = ("before_feed_forward", "after_feed_forward")


@dataclass(frozen=True, kw_only=True)
class TemporalLayersConfig:
    layout: UNetLayout
    sites: tuple[str, ...] = ()  # empty: after every residual block and transformer
    positions: Positions = "rotary"  # how attention knows the order of frames
    max_distance: int = 32  # of relative positions, frames
    # Levels at which attention does not stay at one position: half of its heads follow the motions
    # that the prompt tells of, or it sees all positions of the clip.
    motion_attention: tuple[int, ...] = ()
    clip_attention: tuple[int, ...] = ()
    kernel: int = 3  # of the convolutions, frames
    pooled_norm: bool = False  # group norm of the convolutions over all frames
    learned_blend: bool = True  # Video LDM's factor; False adds the residual whole
    norm_groups: int = 32
    expansion: int = 4  # of the feed-forward in attention layers
    context_channels: int = 0  # latent channels of given frames, 0 = never given
    # Given frames also stand in the network's own input, each at its own step (LVDM's mixed input):
    # the image network then reads them as the nearly clean frames that they are.
    context_in_place: bool = False
    text_width: int = 0  # of the prompt's tokens, 0 = attention sees no text
    motions: int = 0  # told to every layer, as read off the prompt, 0 = the prompt is not read
    rates: int = 0  # number of frame-rate classes, 0 = not told
    trained_frames: int = 16  # clip length in training, for defaults and warnings
    # Of the noise: alpha of the part that all frames share (see `noise.mixed_noise`), 0 = none.
    shared_noise: float = 0.0
    eps: float = 1e-5  # of the convolutions' norms
    told_noise: bool = True  # whether layers after residual blocks are told the noise level
    # Layers inside transformer blocks and, for `modules`, residual blocks between the levels.
    heads: tuple[int, ...] = ()  # per level; empty: heads of about 32 channels
    block_positions: BlockPositions = "rotary_and_bias"
    block_place: BlockPlace = "before_feed_forward"
    modules: bool = False
    # What the image network's own layers do while these are in it, as they did in training.
    pooled_host_norms: bool = False  # group norms, but those of transformers, over all frames
    sparse_causal: bool = False  # self-attention sees the first and the previous frame instead
    # What they were trained with: a published family, which has settings of its own, and betas that
    # are not the image model's, as (schedules' name, first, last).
    family: str = ""
    betas: tuple[str, float, float] | tuple[()] = ()

    def __post_init__(self):
        if self.positions not in POSITIONS:
            raise ValueError(
                f"positions must be one of {', '.join(POSITIONS)}, not {self.positions!r}"
            )
        if self.block_positions not in BLOCK_POSITIONS or self.block_place not in BLOCK_PLACES:
            raise ValueError(
                f"layers in transformer blocks are {' or '.join(BLOCK_POSITIONS)} and "
                f"{' or '.join(BLOCK_PLACES)}, not {self.block_positions} and {self.block_place}"
            )
        if self.heads and len(self.heads) != self.layout.levels:
            raise ValueError(f"{len(self.heads)} numbers of heads, but {self.layout.levels} levels")
        unknown = sorted(set(map(check_site, self.sites)) - set(all_sites(self.layout)))
        if unknown:
            raise ValueError(
                f"no such sites in a U-Net of {self.layout.levels} levels: {', '.join(unknown[:5])}"
            )

    @property
    def placed(self) -> tuple[str, ...]:
        """The sites that carry a layer."""
        return self.sites or (*res_sites(self.layout), *attn_sites(self.layout))

    @property
    def embedding(self) -> int:
        """Width of the time embedding of the host U-Net."""
        return 4 * self.layout.channels[0]

    @property
    def reaches_inside(self) -> bool:
        """Whether something changes inside the image network's modules, not only between them."""
        inside_blocks = any(".block." in site for site in self.placed)
        return self.pooled_host_norms or self.sparse_causal or inside_blocks

    def reach(self, level: int) -> Reach:
        """What attention after transformers sees at ``level``."""
        if level in self.motion_attention:
            return "motion"
        return "clip" if level in self.clip_attention else "place"

    def as_dict(self) -> dict:
        """Plain JSON values, for a file's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> TemporalLayersConfig:
        layout = {k: tuple(v) if isinstance(v, list) else v for k, v in values["layout"].items()}
        rest = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**rest | {"layout": UNetLayout(**layout)})


class ContextEncoder(nn.Module):
    """Learned down-sampling of given frames: one feature map of ``width`` channels per level."""

    def __init__(self, latent_channels: int, width: int, levels: int, embedding: int, ops=nn):
        super().__init__()
        self.first = ops.Conv2d(latent_channels + 1, width, 3, padding=1)
        self.levels = nn.ModuleList([ops.Conv2d(width, width, 3, padding=1) for _ in range(levels)])
        self.downs = nn.ModuleList(
            [ops.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(levels - 1)]
        )
        self.noise_level = nn.Sequential(
            ops.Linear(width, embedding), nn.SiLU(), ops.Linear(embedding, embedding)
        )
        self.width = width

    def forward(self, context: ContextFrames, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
        """Return feature maps [(b t), width, h_l, w_l], finest first, and an embedding [b, e]."""
        h = self.first(rearrange(context.masked, "b t c h w -> (b t) c h w").to(dtype))
        features = []
        for i, level in enumerate(self.levels):
            h = h if i == 0 else self.downs[i - 1](F.silu(h))
            h = level(F.silu(h))
            features.append(h)
        return features, self.noise_level(sinusoid(context.noise_level, self.width).to(dtype))


class PromptReader(nn.Module):
    """What temporal layers are told of the prompt: its tokens, a summary that joins the time
    embedding, and the motions that it tells of.

    What an image model has little use for, such as the direction of a motion, is faint in the
    tokens of its text encoder. ``whiten`` is to start as what gives such tokens the same weight in
    every direction (:meth:`start_whitening`).
    """

    LENGTH = 48  # tokens that the summary is made of: longer prompts are cut, shorter ones filled
    WIDTH = 32  # of a token in the summary

    def __init__(self, width: int, embedding: int, motions: int, ops=nn):
        super().__init__()
        # Subtracted in float32: what is left is a hundredth of the tokens in some directions.
        self.center = nn.Parameter(torch.zeros(width))
        self.whiten = ops.Linear(width, width)
        self.read = nn.Sequential(
            ops.Linear(width, self.WIDTH),
            nn.SiLU(),
            nn.Flatten(),
            ops.Linear(self.LENGTH * self.WIDTH, embedding),
            nn.SiLU(),
        )
        self.embed = ops.Linear(embedding, embedding)
        self.move = ops.Linear(embedding, 2 * motions)
        self.count = motions

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [b, n, d], summary [b, e] and motions [b, m, 2] of the prompts [b, n, d]; motions
        (x, y) are in parts of the image's sides per frame."""
        centered = text.float() - self.center.to(text.device).float()
        tokens = self.whiten(centered.to(text.dtype))
        first = F.pad(tokens[:, : self.LENGTH], (0, 0, 0, max(0, self.LENGTH - text.shape[1])))
        summary = self.read(first)
        percents = self.move(summary).unflatten(1, (-1, 2))
        return tokens, self.embed(summary), percents / 100

    def start_whitening(self, tokens: Tensor) -> None:
        """Whiten as ``tokens`` [n, d] require."""
        self.center.data.copy_(tokens.mean(0))
        whiten(self.whiten, tokens - self.center.data)


@torch.no_grad()
def whiten(layer: nn.Linear, centered: Tensor, least: float = 1e-3) -> None:
    """Set ``layer`` to what gives ``centered`` samples [n, d] the identity as covariance;
    directions with less than ``least`` times the largest variance are not raised further."""
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(centered))
    matrix = axes @ torch.diag((variances + least * variances.max()).rsqrt()) @ axes.T
    layer.weight.copy_(matrix)
    layer.bias.zero_()


@dataclass(frozen=True)
class ToldLayers:
    """What the layers of one set are told in one forward pass, by level."""

    frames: int
    levels: tuple[Told, ...]


class TemporalLayers(nn.Module):
    """See the module's docstring. Untrained, it changes nothing: every layer is the identity."""

    def __init__(self, config: TemporalLayersConfig, ops=nn):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleDict({key(site): self._layer(site, ops) for site in config.placed})
        self.context = (
            ContextEncoder(
                config.context_channels,
                config.layout.channels[0],
                config.layout.levels,
                config.embedding,
                ops,
            )
            if config.context_channels
            else None
        )
        self.rate = ops.Embedding(config.rates, config.embedding) if config.rates else None
        self.prompt = (
            PromptReader(config.text_width, config.embedding, config.motions, ops)
            if config.motions
            else None
        )

    def _layer(self, site: str, ops) -> nn.Module:
        config, width = self.config, width_at(site, self.config.layout)
        if ".block." in site:
            return self._block_attention(site, width, ops)
        if site.endswith(".out") and config.modules:
            return TemporalModule(
                width,
                norm_groups=config.norm_groups,
                eps=config.eps,
                embedding=config.embedding,
                learned_blend=config.learned_blend,
                ops=ops,
            )
        context = config.layout.channels[0] if config.context_channels else None
        shared = dict(
            norm_groups=config.norm_groups,
            embedding=config.embedding,
            context=context,
            learned_blend=config.learned_blend,
            ops=ops,
        )
        if kind_of(site) == "convolution":
            shared["embedding"] = config.embedding if config.told_noise else None
            return TemporalResBlock(
                width, kernel=config.kernel, pooled=config.pooled_norm, eps=config.eps, **shared
            )
        return TemporalTransformer(
            width,
            heads=heads_for(width),
            positions=config.positions,
            max_distance=config.max_distance,
            text=config.text_width or None,
            expansion=config.expansion,
            reach=config.reach(level_of(site, config.layout)),
            motions=config.motions,
            **shared,
        )

    def _block_attention(self, site: str, width: int, ops) -> BlockAttention:
        config = self.config
        level = level_of(site, config.layout)
        return BlockAttention(
            width,
            config.heads[level] if config.heads else heads_for(width),
            positions=config.block_positions,
            learned_blend=config.learned_blend,
            ops=ops,
        )

    def __contains__(self, site: str) -> bool:
        return key(site) in self.layers

    def at(self, site: str) -> nn.Module | None:
        """The layer at ``site``, or None."""
        return self.layers[key(site)] if site in self else None

    def tell(
        self,
        embedding: Tensor,
        frames: int,
        *,
        context: ContextFrames | None = None,
        rate: Tensor | None = None,
        text: Tensor | None = None,
        times: Tensor | None = None,
    ) -> ToldLayers:
        """Prepare what the layers are told: the host's time ``embedding`` [b, e], given frames, the
        frame-rate class [b] and the prompt [b, n, d]."""
        features = [None] * self.config.layout.levels
        if self.context is not None and context is not None:
            features, level = self.context(context, embedding.dtype)
            embedding = embedding + for_frames(level, embedding)
        if self.rate is not None and rate is not None:
            embedding = embedding + for_frames(self.rate(rate), embedding)
        motions = None
        if self.prompt is not None and text is not None:
            text, summary, motions = self.prompt(text)
            embedding = embedding + for_frames(summary, embedding)
        told = Told(embedding=per_frame(embedding, frames), text=text, motions=motions, times=times)
        return ToldLayers(frames, tuple(replace(told, context=found) for found in features))

    def run(self, site: str, h: Tensor, told: ToldLayers, strength: float = 1.0) -> Tensor:
        """Run the layer at ``site`` on ``h`` [(b t), c, h, w], or on tokens [(b t), n, c] inside a
        transformer block; with none, or at strength 0, return it.
        """
        layer = self.at(site)
        if layer is None or strength == 0.0:
            return h
        level = level_of(site, self.config.layout)
        return layer(h, told.frames, told.levels[level], strength)


def for_frames(per_clip: Tensor, embedding: Tensor) -> Tensor:
    """An embedding [b, e] shaped to be added to one per clip [b, e] or per frame [b, t, e]."""
    return per_clip if embedding.ndim == 2 else per_clip[:, None]


def in_place(x: Tensor, timesteps: Tensor, context: ContextFrames) -> tuple[Tensor, Tensor]:
    """Put given frames into ``x`` [b, t, c, h, w] and give every frame its own step [b, t].

    The latents of ``context`` are those of the forward process at its ``noise_level``.
    """
    given = context.mask.bool()
    x = torch.where(given[:, :, None, None, None], context.latents.to(x.dtype), x)
    levels = context.noise_level.to(timesteps.dtype)
    return x, torch.where(given, levels[:, None], timesteps.expand(len(x))[:, None])


def key(site: str) -> str:
    """The site as a key of a state dict, where dots separate modules: underscores instead."""
    return site.replace(".", "_")


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much of a layer is used: the product of the three that concern it; 0 switches it off."""

    overall: float = 1.0
    kinds: Mapping[str, float] = field(default_factory=dict)  # "attention", "convolution"
    sites: Mapping[str, float] = field(default_factory=dict)  # a site or a prefix such as "down.0"

    @property
    def off(self) -> bool:
        """Whether the layers are switched off as a whole."""
        return self.overall == 0.0

    def at(self, site: str) -> float:
        strength = self.overall * self.kinds.get(kind_of(site), 1.0)
        for prefix, value in self.sites.items():
            if site == prefix or site.startswith(prefix + "."):
                strength *= value
        return strength


FULL_STRENGTH = Strength()
