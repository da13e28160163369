"""U-Nets built for video, with separate layers for space and for time: LVDM's and VideoCrafter's.
They share one structure and differ in their attention and conditions.

They are networks as :mod:`.conditions` describes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .conditions import Conditions, NetworkSpec
from .layers.factorised import (
    GROUPS,
    ResBlock,
    ResBlockSpec,
    VideoInputs,
    convolution_3x3,
    convolved,
)
from .layers.factorised_transformers import AttentionSpec, StackedTransformersSpec, TimeTransformer
from .layers.group_norms import FrameGroupNorm
from .layers.positions import sinusoid
from .layers.residual import zeroed
from .video_shape import check_video

FRAMES_PER_SECOND = "frames_per_second"
"""Name among the ids of VideoCrafter's frame rate [b]."""

USUAL_FRAMES_PER_SECOND = 16
USUAL_FRAMES = 16
"""Length of the windows that networks without relative positions were trained on."""

FIRST_HEADS = 8
"""Heads of VideoCrafter's attention after the first convolution, whatever its width."""


@dataclass(frozen=True, kw_only=True)
class GivenFramesSpec:
    """Context frames replace noisy ones in the input, and an extra channel marks them.

    levels: rows of an embedding table for the step that they were noised to, added for the whole
    video. 0: the step is embedded like the noise level and replaces it for noised context frames.
    """

    levels: int = 0


@dataclass(frozen=True, kw_only=True)
class FactorisedConfig:
    """channels: width per level, finest first. layers: residual blocks per level of the encoder.
    attended: whether each level has attention. Other differences are in the specs of the layers.

    pooled_norm, scale_shift: see :class:`.layers.factorised.ResBlockSpec`. kernel: frames that
    every 3x3 convolution sees. time_convolutions: spatial kernel sizes of the temporal convolutions
    after every residual block; empty = none. first_attention: temporal attention before anything
    else. frames_per_second: whether the network reads the frame rate. given: None = it takes no
    context frames.
    """

    channels: tuple[int, ...]
    layers: int
    attended: tuple[bool, ...]
    attention: AttentionSpec
    latent_channels: int = 4
    pooled_norm: bool = True
    scale_shift: bool = False
    kernel: int = 1
    time_convolutions: tuple[int, ...] = ()
    first_attention: bool = False
    frames_per_second: bool = False
    given: GivenFramesSpec | None = None

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.attended):
            raise ValueError(
                f"{len(self.channels)} levels of channels but {len(self.attended)} of attention"
            )
        if self.first_attention and not isinstance(self.attention, StackedTransformersSpec):
            raise ValueError("only networks of stacked transformers have a first attention")

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]

    @property
    def res_block(self) -> ResBlockSpec:
        return ResBlockSpec(
            embedding=self.embedding,
            scale_shift=self.scale_shift,
            pooled_norm=self.pooled_norm,
            kernel=self.kernel,
            over_time=self.time_convolutions,
        )


# --------------------------------------------------------------------------------------------------
# Modules.


class NumberEmbedding(nn.Module):
    """Embeds real numbers [...] as [... e]: sinusoids, then two linear layers."""

    def __init__(self, width: int, embedding: int, ops=nn):
        super().__init__()
        self.width = width
        self.linear1 = ops.Linear(width, embedding)
        self.linear2 = ops.Linear(embedding, embedding)

    def forward(self, number: Tensor, dtype: torch.dtype) -> Tensor:
        return self.linear2(F.silu(self.linear1(sinusoid(number, self.width).to(dtype))))


class Block(nn.Module):
    """A residual block, and attention if the level has it."""

    def __init__(self, channels: int, out: int, config: FactorisedConfig, attended: bool, ops=nn):
        super().__init__()
        self.res = ResBlock(channels, out, config.res_block, ops)
        self.attend = config.attention.build(out, ops) if attended else None

    def forward(self, h: Tensor, inputs: VideoInputs, *, inplace: bool = False) -> Tensor:
        """inplace: ``h`` may be overwritten."""
        h = self.res(h, inputs, inplace=inplace)
        return h if self.attend is None else self.attend(h, inputs)


class Level(nn.Module):
    """The blocks of one resolution and the convolution to the next; None at the end."""

    def __init__(self, blocks: list[Block], resample: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample


def _way_down(config: FactorisedConfig, ops) -> tuple[nn.ModuleList, list[int]]:
    """The levels of the encoder, and the widths of its skip connections."""
    levels, width = nn.ModuleList(), config.channels[0]
    skips = [width]
    for out, attended in zip(config.channels, config.attended, strict=True):
        blocks = []
        for _ in range(config.layers):
            blocks.append(Block(width, out, config, attended, ops))
            width = out
            skips.append(width)
        is_last = len(levels) == len(config.channels) - 1
        half = dict(kernel=config.kernel, stride=2, ops=ops)
        down = None if is_last else convolution_3x3(width, width, **half)
        skips += [] if is_last else [width]
        levels.append(Level(blocks, down))
    return levels, skips


def _way_up(config: FactorisedConfig, skips: list[int], ops) -> nn.ModuleList:
    levels, width = nn.ModuleList(), config.channels[-1]
    for out, attended in zip(reversed(config.channels), reversed(config.attended), strict=True):
        blocks = []
        for _ in range(config.layers + 1):
            blocks.append(Block(width + skips.pop(), out, config, attended, ops))
            width = out
        same = dict(kernel=config.kernel, ops=ops)
        levels.append(Level(blocks, convolution_3x3(width, width, **same) if skips else None))
    return levels


class FactorisedUNet(nn.Module):
    """See :class:`FactorisedConfig`. Inside, frames are [(b t) c h w] in channels-last memory."""

    def __init__(self, config: FactorisedConfig, ops=nn):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        self.embed_time = NumberEmbedding(first, config.embedding, ops)
        rate = config.frames_per_second
        self.embed_rate = NumberEmbedding(first, config.embedding, ops) if rate else None
        self.embed_level = self._level_embedding(ops)
        channels = config.latent_channels + (config.given is not None)
        same = dict(kernel=config.kernel, ops=ops)
        self.conv_in = convolution_3x3(channels, first, **same)
        self.first_attention = (
            TimeTransformer(first, FIRST_HEADS, config.attention, config.attention.depth, ops)
            if config.first_attention
            else None
        )
        self.down, skips = _way_down(config, ops)
        self.mid = nn.ModuleList(
            [Block(last, last, config, True, ops), Block(last, last, config, False, ops)]
        )
        self.up = _way_up(config, skips, ops)
        self.norm_out = FrameGroupNorm(GROUPS, first, eps=1e-5, pooled=config.pooled_norm, ops=ops)
        self.conv_out = zeroed(convolution_3x3(first, config.latent_channels, **same))

    def _level_embedding(self, ops) -> nn.Module | None:
        config = self.config
        if config.given is None:
            return None
        if config.given.levels:
            return ops.Embedding(config.given.levels, config.embedding)
        return NumberEmbedding(config.channels[0], config.embedding, ops)

    @property
    def spec(self) -> NetworkSpec:
        config = self.config
        return NetworkSpec(
            name="space-time factorised U-Net",
            latent_channels=config.latent_channels,
            text=config.attention.text,
            image=config.attention.image,
            ids={FRAMES_PER_SECOND: None} if config.frames_per_second else {},
            context=config.latent_channels if config.given is not None else 0,
            in_place=config.given is not None,
            frames=config.attention.max_distance or USUAL_FRAMES,
            made_for_video=True,
            width=config.channels[0],
        )

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.conv_in.weight.device

    def forward(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Predict for ``x`` [b t c h w] at ``timesteps`` [], [b] or [b t].

        Without context frames, all frames are generated. Raises ValueError for a noise level of
        context frames that the embedding table does not have.
        """
        check_video(x, self.config.latent_channels)
        frames = x.shape[1]
        inputs = VideoInputs(
            frames=frames,
            embedding=F.silu(
                self._embed(x, torch.as_tensor(timesteps, device=x.device), conditions)
            ),
            text=conditions.text,
            image=conditions.image,
        )
        if self.config.given is not None:
            x = with_given(x, conditions)
        h = rearrange(x, "b t c h w -> (b t) c h w")
        h = self._blocks(h.contiguous(memory_format=torch.channels_last), inputs)
        return rearrange(h.contiguous(), "(b t) c h w -> b t c h w", t=frames)

    def _blocks(self, h: Tensor, inputs: VideoInputs) -> Tensor:
        h = convolved(self.conv_in, h, inputs.frames)
        if self.first_attention is not None:
            h = self.first_attention(h, inputs)
        skips = [h]
        for level in self.down:
            for block in level.blocks:
                h = block(h, inputs)
                skips.append(h)
            if level.resample is not None:
                h = convolved(level.resample, h, inputs.frames)
                skips.append(h)
        for block in self.mid:
            h = block(h, inputs)
        for level in self.up:
            for block in level.blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), inputs, inplace=True)
            if level.resample is not None:
                # To the size of the skip connection, as odd sizes are not halved evenly.
                h = F.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
                h = convolved(level.resample, h, inputs.frames)
        return convolved(self.conv_out, F.silu(self.norm_out(h, inputs.frames)), inputs.frames)

    # ----------------------------------------------------------------------------------------------
    # Embeddings of the timestep and of the other numbers.

    def _embed(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """[b e], or [b t e] where frames differ."""
        steps = timesteps if timesteps.ndim else timesteps.expand(len(x))
        embedding = self.embed_time(steps, x.dtype)
        if self.embed_rate is not None:
            rate = conditions.ids.get(FRAMES_PER_SECOND)
            rate = steps.new_tensor([USUAL_FRAMES_PER_SECOND]) if rate is None else rate
            embedded = self.embed_rate(rate.to(x.device).expand(len(x)), x.dtype)
            embedding = embedding + (embedded if embedding.ndim == 2 else embedded[:, None])
        if self.config.given is None or conditions.context is None:
            return embedding
        level = conditions.context.noise_level.to(x.device)
        if not self.config.given.levels:
            own = self.embed_level(level, x.dtype)[:, None]
            each = embedding if embedding.ndim == 3 else embedding[:, None]
            noised = conditions.context.mask.bool().to(x.device) & (level >= 0)[:, None]
            return torch.where(noised[:, :, None], own, each)
        embedded = self._level_rows(level).to(x.dtype)
        return embedding + (embedded if embedding.ndim == 2 else embedded[:, None])

    def _level_rows(self, level: Tensor) -> Tensor:
        """[b e] for the noise levels of context frames; zeros for clean ones, which have no row."""
        highest, rows = int(level.max()), self.config.given.levels
        if highest >= rows:
            raise ValueError(
                f"The given frames are noised to step {highest}, but the network knows "
                f"steps 0 to {rows - 1}."
            )
        return self.embed_level(level.long().clamp(min=0)) * (level >= 0)[:, None]


def with_given(x: Tensor, conditions: Conditions) -> Tensor:
    """x [b t c h w] with context frames in their places and their mask as an extra channel."""
    context = conditions.context
    if context is None:
        return F.pad(x, (0, 0, 0, 0, 0, 1))
    mask = context.expanded_mask.to(x)
    x = torch.where(mask.bool(), context.latents.to(x), x)
    return torch.cat([x, mask.expand(*x.shape[:2], 1, *x.shape[-2:])], dim=2)
