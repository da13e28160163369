"""SparseCtrl (Guo et al. 2023, arXiv 2311.16933): a ControlNet with temporal layers, which follows
images given for some of the frames.

Its condition is a video of these images, zero elsewhere, with their mask as the last channel. The
noisy latents are replaced by zeros, so that its first convolution contributes only its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ControlNetModel
from einops import rearrange, repeat
from torch import Tensor, nn

from ..diffusion.curves import FULL, Curve, StepAt
from .conditions import Conditions
from .controlnet import Added, Residuals, along
from .injected_sets import InjectedSets, Injection, LayerPass
from .temporal_layers import TemporalLayers
from .unet_forward import way_down

GUESS = (-1.0, 0.0)
"""Powers of ten that guess mode weights the residuals by, first to last."""


class SparseControlNet(nn.Module):
    """A ControlNet with temporal layers.

    takes_latents: whether the images are latents, at the network's own resolution, instead of
    pixels. sees_noise: whether it reads the noisy latents instead of zeros. latent_scale: scaling
    factor of the latents that it takes.
    """

    def __init__(
        self,
        encoder: ControlNetModel,
        layers: TemporalLayers,
        *,
        takes_latents: bool = False,
        sees_noise: bool = False,
        latent_scale: float = 0.18215,
    ):
        super().__init__()
        self.encoder, self.layers = encoder, layers
        self.takes_latents, self.sees_noise = takes_latents, sees_noise
        self.latent_scale = latent_scale

    @property
    def config(self):
        """The diffusers configuration, of the U-Net it was made for."""
        return self.encoder.config

    @property
    def reduction(self) -> int:
        """Positions of the condition per latent position along one side."""
        return 1 if self.takes_latents else 8

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.dtype

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, condition: Tensor) -> Residuals:
        """The residuals for x [b t c h w], timesteps [b] or [b t], text [b n d] or [b t n d] and a
        condition [t k H W], which all videos share. The mask, its last channel, is dropped for a
        network that was trained without it."""
        encoder, videos = self.encoder, len(x)
        layers = LayerPass(InjectedSets([Injection(self.layers)]), Conditions(), x.shape, x.device)
        embedding = encoder.time_embedding(encoder.time_proj(timesteps.flatten()).to(x.dtype))
        embedding = embedding.unflatten(0, timesteps.shape)
        layers.add_embedding(embedding)
        condition = condition[:, : self.config.conditioning_channels]
        hints = encoder.controlnet_cond_embedding(condition)
        noisy = rearrange(x, "b t c h w -> (b t) c h w")
        h = encoder.conv_in(noisy if self.sees_noise else torch.zeros_like(noisy))
        h = h + repeat(hints, "t c h w -> (b t) c h w", b=videos)
        skips, middle = way_down(encoder, h, embedding, text, layers)
        ends = zip(encoder.controlnet_down_blocks, skips, strict=True)
        return Residuals([end(skip) for end, skip in ends], encoder.controlnet_mid_block(middle))


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseControl:
    """A SparseCtrl with the images that it follows; used like :class:`.controlnet.Control`.

    condition: [t, k + 1, H, W] of the frames of the segment, see :func:`sparse_condition`. guess:
    give early residuals less weight, for prompts that say little. curve: factor of the strength by
    absolute frame number and step.
    """

    network: SparseControlNet
    condition: Tensor
    strength: float = 1.0
    guess: bool = False
    curve: Curve = FULL
    frames: Sequence[int] = ()
    step: StepAt | None = None

    def __call__(
        self, x: Tensor, timesteps: Tensor, text: Tensor | None, added: Added | None = None
    ) -> Residuals:
        """For the U-Net's input x [b, t, c, h, w] at timesteps [], [b] or [b, t]."""
        if text is None:
            raise ValueError("a ControlNet reads the prompt, but the model was given none")
        there = dict(device=self.network.device, dtype=self.network.dtype)
        steps = timesteps if timesteps.ndim == 2 else timesteps.expand(len(x))
        text = text.expand(len(x), *text.shape[1:])
        with torch.no_grad():
            skips, middle = self.network(
                x.to(**there), steps.to(there["device"]), text.to(**there),
                self.condition.to(**there),
            )  # fmt: skip
        *weights, last = self._weights(len(skips) + 1)
        weighted = [self._weighted(*both, x) for both in zip(skips, weights, strict=True)]
        return Residuals(weighted, self._weighted(middle, last, x))

    def _weighted(self, answer: Tensor, weight: float, x: Tensor) -> Tensor:
        return along(self.curve * weight, answer, self.frames, self.step, len(x)).to(x)

    def _weights(self, count: int) -> list[float]:
        if not self.guess:
            return [self.strength] * count
        return (torch.logspace(*GUESS, count, dtype=torch.float64) * self.strength).tolist()


def sparse_condition(images: Tensor, at: Sequence[int], frames: Sequence[int]) -> Tensor:
    """images [n c H W] for the absolute frames `at` -> [t, c + 1, H, W] for a segment of `frames`:
    zeros where none is given, then their mask."""
    count, channels, *size = images.shape
    video = images.new_zeros(len(frames), channels + 1, *size)
    where = dict(zip(at, range(count), strict=True))
    for k, frame in enumerate(frames):
        if frame in where:
            video[k, :-1] = images[where[frame]]
            video[k, -1] = 1
    return video
