"""SparseCtrl (Guo et al. 2023, arXiv 2311.16933): a ControlNet whose frames see each other, which
follows images that are given for some of the frames.

What it is given is a video of zeros but for these images, and a mask of them as the last channel.
The noisy latents are zeros to it, so that its first convolution adds its bias alone.
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
"""Powers of ten between which guess mode weighs the answers, first to last."""


class SparseControlNet(nn.Module):
    """A ControlNet with temporal layers on its way down.

    takes_latents: whether the images are latents, of the network's own size, instead of pixels.
    sees_noise: whether the noisy latents are more than zeros to it. latent_scale: of the latents
    that it takes over those of the autoencoder.
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
        """diffusers' configuration, that of the U-Net it belongs to."""
        return self.encoder.config

    @property
    def reduction(self) -> int:
        """Positions of what it follows per latent position along one side."""
        return 1 if self.takes_latents else 8

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.dtype

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, condition: Tensor) -> Residuals:
        """What is added to the skip connections and the middle for x [b t c h w], timesteps [b] or
        [b t], text [b n d] or [b t n d] and a condition [t k H W], which all videos share. A
        network that was trained without the mask, its last channel, does not read it."""
        encoder, videos = self.encoder, len(x)
        act = LayerPass(InjectedSets([Injection(self.layers)]), Conditions(), x.shape, x.device)
        embedding = encoder.time_embedding(encoder.time_proj(timesteps.flatten()).to(x.dtype))
        embedding = embedding.unflatten(0, timesteps.shape)
        act.add_embedding(embedding)
        condition = condition[:, : self.config.conditioning_channels]
        hints = encoder.controlnet_cond_embedding(condition)
        noisy = rearrange(x, "b t c h w -> (b t) c h w")
        h = encoder.conv_in(noisy if self.sees_noise else torch.zeros_like(noisy))
        h = h + repeat(hints, "t c h w -> (b t) c h w", b=videos)
        skips, middle = way_down(encoder, h, embedding, text, act)
        ends = zip(encoder.controlnet_down_blocks, skips, strict=True)
        return Residuals([end(skip) for end, skip in ends], encoder.controlnet_mid_block(middle))


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseControl:
    """A SparseCtrl with the images that it follows: a control as :class:`.controlnet.Control` is.

    condition: [t, k + 1, H, W] of the frames of the segment, see :func:`sparse_condition`. guess:
    early answers count less, for prompts that say nothing. curve: what the strength is multiplied
    with, by the absolute numbers of the frames and by the step.
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
        """For the U-Net's input x [b, t, c, h, w] at timesteps [], [b] or [b, t]; no SparseCtrl
        reads what is `added`."""
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
    """images [n c H W] of the absolute frames `at` -> [t, c + 1, H, W] for a segment of `frames`:
    zeros where none is given, the mask behind."""
    count, channels, *size = images.shape
    video = images.new_zeros(len(frames), channels + 1, *size)
    where = dict(zip(at, range(count), strict=True))
    for k, frame in enumerate(frames):
        if frame in where:
            video[k, :-1] = images[where[frame]]
            video[k, -1] = 1
    return video
