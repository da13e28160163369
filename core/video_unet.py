"""An image U-Net that became a video U-Net: the same spatial modules, with temporal layers between.

The image network is never edited. :class:`VideoUNet` holds it and walks through its modules in the
order of its own forward pass, handing the tensor to the temporal layers at every site. Ejecting is
therefore nothing but taking the image network back out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from .autoencoder import check_video
from .clip_walk import ClipWalk
from .context_frames import ContextFrames
from .controlnet import Control, summed
from .sites import layout_of
from .temporal_layers import FULL_STRENGTH, Strength, TemporalLayers, for_frames, in_place
from .unet_walk import Injection, Walk, clip_text, text_per_frame

__all__ = ["Injection", "VideoUNet", "clip_text", "combine", "eject", "inject", "text_per_frame"]


class VideoUNet(nn.Module):
    """An image U-Net with any number of sets of temporal layers; the sets act in order at each
    site. ControlNets, if there are any, add to what the image network has learnt on its way down.
    """

    def __init__(
        self,
        image_unet: UNet2DConditionModel,
        injections: Sequence[Injection],
        controls: Sequence[Control] = (),
    ):
        super().__init__()
        self.image_unet = image_unet
        self.controls = tuple(controls)
        self.sets = nn.ModuleList([injection.layers for injection in injections])
        self.strengths = [injection.strength for injection in injections]

    @property
    def config(self):
        return self.image_unet.config

    @property
    def injections(self) -> list[Injection]:
        return [Injection(*pair) for pair in zip(self.sets, self.strengths, strict=True)]

    @property
    def active(self) -> list[Injection]:
        """Those that are not switched off."""
        return [one for one in self.injections if not one.strength.off]

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
        times: Tensor | None = None,
    ) -> Tensor:
        """Predict for ``x`` [b, t, c, h, w] at ``timesteps`` [b] or a scalar.

        ``text`` is [b, n, d] for all frames of a clip or [b, t, n, d] per frame; ``class_labels``
        [b] is the noise level of an upsampler; ``added`` holds SDXL's extra conditions.
        """
        check_video(x)
        frames = x.shape[1]
        timesteps = torch.as_tensor(timesteps, device=x.device)
        residuals = summed(one(x, timesteps, text) for one in self.controls)
        if context_frames is not None and any(one.puts_context_in_place for one in self.sets):
            x, timesteps = in_place(x, timesteps, context_frames)
        embedding = self._embed(x, timesteps, text, class_labels, added)
        active = self.active
        # Most layers act between the image network's modules; some also act inside of them.
        inside = any(one.layers.spec.inside_modules for one in active)
        walk = (ClipWalk if inside else Walk)(
            self.image_unet, active, embedding, frames, context_frames, rate, text, times
        )
        walk.residuals = residuals
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
        """The image U-Net's time embedding: [b, e], or [b, t, e] for steps [b, t]."""
        unet = self.image_unet
        steps = timesteps if timesteps.ndim == 2 else timesteps.expand(len(x))
        rows = x.new_empty(steps.numel())  # diffusers reads the batch size and precision off this
        embedding = unet.time_embedding(unet.get_time_embed(rows, steps.flatten()))
        embedding = embedding.unflatten(0, steps.shape)
        labels = unet.get_class_embed(x, class_labels)
        if labels is not None:
            embedding = embedding + for_frames(labels, embedding)
        aug = unet.get_aug_embed(embedding, text, added or {})
        return embedding if aug is None else embedding + for_frames(aug, embedding)


def inject(
    image_unet: UNet2DConditionModel, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
) -> VideoUNet:
    """Turn an image U-Net into a video U-Net; the image U-Net itself is not touched.

    Raises ValueError when the layers were made for another layout.
    """
    have, made_for = layout_of(image_unet.config), layers.spec.layout
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
