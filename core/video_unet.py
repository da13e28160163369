"""An image U-Net that became a video U-Net: the same spatial modules, with temporal layers between.

The image network is never edited. :class:`VideoUNet` holds it and walks through its modules in the
order of its own forward pass, handing the tensor to the temporal layers at every site. Ejecting is
therefore nothing but taking the image network back out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from .autoencoder import check_video
from .context_frames import ContextFrames
from .layers import per_frame
from .sites import layout_of
from .temporal_layers import FULL_STRENGTH, Strength, TemporalLayers


@dataclass(frozen=True)
class Injection:
    """One set of temporal layers and how much of it is used."""

    layers: TemporalLayers
    strength: Strength = FULL_STRENGTH


class VideoUNet(nn.Module):
    """An image U-Net with any number of sets of temporal layers; the sets act in order at each
    site.
    """

    def __init__(self, image_unet: UNet2DConditionModel, injections: Sequence[Injection]):
        super().__init__()
        self.image_unet = image_unet
        self.sets = nn.ModuleList([injection.layers for injection in injections])
        self.strengths = [injection.strength for injection in injections]

    @property
    def config(self):
        return self.image_unet.config

    @property
    def injections(self) -> list[Injection]:
        return [Injection(*pair) for pair in zip(self.sets, self.strengths, strict=True)]

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor | None,
        *,
        class_labels: Tensor | None = None,
        added: dict[str, Tensor] | None = None,
        context_frames: ContextFrames | None = None,
        rate: Tensor | None = None,
    ) -> Tensor:
        """Predict for ``x`` [b, t, c, h, w] at ``timesteps`` [b] or a scalar.

        ``text`` is [b, n, d] for all frames of a clip or [b, t, n, d] per frame; ``class_labels``
        [b] is the noise level of an upsampler; ``added`` holds SDXL's extra conditions.
        """
        check_video(x)
        frames = x.shape[1]
        embedding = self._embed(x, timesteps, text, class_labels, added)
        walk = _Walk(self, embedding, frames, context_frames, rate, text)
        h = rearrange(x, "b t c h w -> (b t) c h w")
        return rearrange(walk(h), "(b t) c h w -> b t c h w", t=frames)

    def _embed(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor | None,
        class_labels: Tensor | None,
        added: dict[str, Tensor] | None,
    ) -> Tensor:
        """The time embedding [b, e] as the image U-Net itself computes it."""
        unet = self.image_unet
        timesteps = torch.as_tensor(timesteps, device=x.device).expand(len(x))
        embedding = unet.time_embedding(unet.get_time_embed(x, timesteps))
        labels = unet.get_class_embed(x, class_labels)
        if labels is not None:
            embedding = embedding + labels
        aug = unet.get_aug_embed(embedding, text, added or {})
        return embedding if aug is None else embedding + aug


class _Walk:
    """One forward pass through the modules of the image U-Net, on [(b t), c, h, w]."""

    def __init__(
        self,
        video_unet: VideoUNet,
        embedding: Tensor,
        frames: int,
        context: ContextFrames | None,
        rate: Tensor | None,
        text: Tensor | None,
    ):
        self.unet = video_unet.image_unet
        self.injections = video_unet.injections
        self.told = [
            layers.tell(embedding, frames, context=context, rate=rate, text=clip_text(text))
            for layers in video_unet.sets
        ]
        self.embedding = per_frame(embedding, frames)
        self.text = None if text is None else text_per_frame(text, frames)

    def __call__(self, h: Tensor) -> Tensor:
        unet = self.unet
        h = self.temporal("in", unet.conv_in(h))
        skips = [h]
        for i, block in enumerate(unet.down_blocks):
            h = self.down(i, block, h, skips)
        h = self.middle(unet.mid_block, h)
        for i, block in enumerate(unet.up_blocks):
            h = self.up(i, block, h, skips)
        if unet.conv_norm_out is not None:
            h = unet.conv_act(unet.conv_norm_out(h))
        return unet.conv_out(h)

    def temporal(self, site: str, h: Tensor) -> Tensor:
        """Hand ``h`` to every set's layer at ``site``."""
        for injection, told in zip(self.injections, self.told, strict=True):
            h = injection.layers.run(site, h, told, injection.strength.at(site))
        return h

    def res(self, site: str, block: nn.Module, h: Tensor) -> Tensor:
        return self.temporal(site, block(h, self.embedding))

    def attn(self, site: str, transformer: nn.Module, h: Tensor) -> Tensor:
        h = transformer(h, encoder_hidden_states=self.text, return_dict=False)[0]
        return self.temporal(site, h)

    def layers(self, way: str, j: int, block: nn.Module, h: Tensor) -> Tensor:
        """Residual block ``j`` and the transformer after it, if there is one."""
        h = self.res(f"{way}.res.{j}", block.resnets[j], h)
        attentions = getattr(block, "attentions", None)
        return self.attn(f"{way}.attn.{j}", attentions[j], h) if attentions else h

    def down(self, i: int, block: nn.Module, h: Tensor, skips: list[Tensor]) -> Tensor:
        for j in range(len(block.resnets)):
            h = self.layers(f"down.{i}", j, block, h)
            skips.append(h)
        for sampler in block.downsamplers or ():
            h = sampler(h)
            skips.append(h)
        return self.temporal(f"down.{i}.out", h)

    def middle(self, block: nn.Module, h: Tensor) -> Tensor:
        h = self.res("mid.res.0", block.resnets[0], h)
        if block.attentions and block.attentions[0] is not None:
            h = self.attn("mid.attn.0", block.attentions[0], h)
        h = self.res("mid.res.1", block.resnets[1], h)
        return self.temporal("mid.out", h)

    def up(self, i: int, block: nn.Module, h: Tensor, skips: list[Tensor]) -> Tensor:
        for j in range(len(block.resnets)):
            h = torch.cat([h, skips.pop()], dim=1)
            h = self.layers(f"up.{i}", j, block, h)
        for sampler in block.upsamplers or ():
            # Sizes that do not halve evenly come back to exactly the size of the next skip.
            h = sampler(h, skips[-1].shape[-2:] if skips else None)
        return self.temporal(f"up.{i}.out", h)


def text_per_frame(text: Tensor, frames: int) -> Tensor:
    """Text tokens for every frame: [b, n, d] is repeated, [b, t, n, d] folded, to [(b t), n, d]."""
    if text.ndim == 4:
        return rearrange(text, "b t n d -> (b t) n d")
    return repeat(text, "b n d -> (b t) n d", t=frames)


def clip_text(text: Tensor | None) -> Tensor | None:
    """One prompt per clip [b, n, d]: the first frame's where every frame has its own."""
    return text[:, 0] if text is not None and text.ndim == 4 else text


def inject(
    image_unet: UNet2DConditionModel, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
) -> VideoUNet:
    """Turn an image U-Net into a video U-Net; the image U-Net itself is not touched.

    Raises ValueError when the layers were made for another layout.
    """
    have, made_for = layout_of(image_unet.config), layers.config.layout
    if have != made_for:
        raise ValueError(
            f"temporal layers for channels {made_for.channels} with depths "
            f"{made_for.depths} do not fit a U-Net of channels {have.channels} with "
            f"depths {have.depths}"
        )
    return VideoUNet(image_unet, [Injection(layers, strength)])


def combine(
    video_unet: VideoUNet, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
) -> VideoUNet:
    """Add a further set of temporal layers, acting after those that are there."""
    checked = inject(video_unet.image_unet, layers, strength)
    return VideoUNet(video_unet.image_unet, [*video_unet.injections, *checked.injections])


def eject(video_unet: VideoUNet) -> UNet2DConditionModel:
    """Return the image U-Net, which injection never changed."""
    return video_unet.image_unet
