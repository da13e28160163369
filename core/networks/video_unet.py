"""An image U-Net turned into a video U-Net: the same spatial modules with temporal layers between.

The image network is never modified. :class:`VideoUNet` runs its modules in the order of its own
forward pass (:mod:`.unet_forward`) and passes the features to the temporal layers at every site.
Ejecting is nothing but taking the image network back out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from .conditions import NOISE_LEVEL, SIZES, VIDEO_IDS, Conditions, NetworkSpec
from .controlnet import Added, Control, check_fits, summed
from .injected_sets import InjectedSets, Injection, LayerPass
from .layers.positions import sinusoid
from .sites import UNetLayout, layout_of
from .temporal_layers import FULL_STRENGTH, Strength, TemporalLayers, for_frames
from .unet_forward import unet_forward
from .video_shape import check_video
from .weight_updates import Frames, Scheduled, updated

Prompt = Literal["text", "image"]
"""What the image U-Net's cross-attention was trained to read."""


class VideoUNet(nn.Module):
    """An image U-Net with any number of sets of temporal layers, which act in order at each site.
    ControlNets add to its skip connections and middle, weight updates to outputs of its modules.

    A network as :mod:`.conditions` describes them.
    """

    def __init__(
        self,
        image_unet: UNet2DConditionModel,
        injections: Sequence[Injection],
        controls: Sequence[Control] = (),
        *,
        prompt: Prompt = "text",
        updates: Sequence[Scheduled] = (),
    ):
        super().__init__()
        self.prompt, self.updates = prompt, tuple(updates)
        self.image_unet = image_unet
        self.controls = tuple(controls)
        self.sets = nn.ModuleList([injection.layers for injection in injections])
        self._uses = tuple(injections)

    @property
    def injections(self) -> InjectedSets:
        # Moving may have replaced the modules in `sets`; how they are used stays the same.
        pairs = zip(self.sets, self._uses, strict=True)
        return InjectedSets([replace(use, layers=layers) for layers, use in pairs])

    @property
    def spec(self) -> NetworkSpec:
        return self.injections.added_to(self.image_spec)

    @property
    def image_spec(self) -> NetworkSpec:
        """What the image U-Net takes by itself."""
        config, ids = self.image_unet.config, {}
        if self._reads_video_ids:
            ids |= dict.fromkeys(VIDEO_IDS)
        elif self.image_unet.class_embedding is not None:
            ids[NOISE_LEVEL] = config.num_class_embeds
        sized = config.addition_embed_type == "text_time"
        if sized:
            ids[SIZES] = None
        return NetworkSpec(
            name="image U-Net",
            latent_channels=config.out_channels,
            concatenated=config.in_channels - config.out_channels,
            text=config.cross_attention_dim if self.prompt == "text" else None,
            image=config.cross_attention_dim if self.prompt == "image" else None,
            pooled_text=sized,
            ids=ids,
            reference=True,
            width=config.block_out_channels[0],
        )

    @property
    def layout(self) -> UNetLayout:
        """Where temporal layers can act in the image U-Net."""
        return layout_of(self.image_unet.config)

    @property
    def dtype(self) -> torch.dtype:
        return self.image_unet.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.image_unet.conv_in.weight.device

    def forward(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Predict for ``x`` [b, t, c, h, w] at ``timesteps`` [], [b] or [b, t]."""
        check_video(x)
        frames = x.shape[1]
        if self.prompt == "image":
            conditions = replace(conditions, text=conditions.image)
        timesteps = torch.as_tensor(timesteps, device=x.device)
        layers = LayerPass(self.injections, conditions, x.shape, x.device)
        seen, added = _joined(x, conditions), self._added(conditions)
        residuals = summed(one(seen, timesteps, conditions.text, added) for one in self.controls)
        x, timesteps = layers.put_context_in_place(x, timesteps)
        text = conditions.text
        if any(one.by_frame for one in self.updates):
            # Modules whose output all frames of a video share are run for every frame.
            steps = timesteps if timesteps.ndim == 2 else timesteps.expand(len(x))
            timesteps, text = _for_every_frame(steps, 1, frames), _for_every_frame(text, 3, frames)
        frames_of_all = Frames(layers.numbers, len(x), layers.step)
        with layers.updated(), updated(self.image_unet, self.updates, frames_of_all):
            embedding = self._embed(x, timesteps, conditions)
            layers.add_embedding(embedding)
            h = rearrange(_joined(x, conditions), "b t c h w -> (b t) c h w")
            h = unet_forward(self.image_unet, h, embedding, text, layers, residuals)
        return rearrange(h, "(b t) c h w -> b t c h w", t=frames)

    def _embed(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The image U-Net's time embedding: [b, e], or [b, t, e] for steps [b, t]."""
        unet = self.image_unet
        steps = timesteps if timesteps.ndim == 2 else timesteps.expand(len(x))
        rows = x.new_empty(steps.numel())  # diffusers takes batch size and dtype from this
        embedding = unet.time_embedding(unet.get_time_embed(rows, steps.flatten()))
        embedding = embedding.unflatten(0, steps.shape)
        labels = unet.get_class_embed(x, self._class_labels(x, conditions))
        if labels is not None:
            embedding = embedding + for_frames(labels, embedding)
        aug = self._embed_pooled(embedding, conditions)
        if aug is None or aug.ndim == embedding.ndim:
            return embedding if aug is None else embedding + aug
        return embedding[:, None] + aug if aug.ndim == 3 else embedding + for_frames(aug, embedding)

    def _embed_pooled(self, embedding: Tensor, conditions: Conditions) -> Tensor | None:
        """The embedding of pooled text and sizes, if the image U-Net reads them: [b, e], or
        [b, t, e] for pooled text per frame."""
        added = dict(self._added(conditions))
        pooled, sizes = added.get("text_embeds"), added.get("time_ids")
        frames = pooled.shape[1] if pooled is not None and pooled.ndim == 3 else None
        if frames is not None:
            added["text_embeds"] = pooled.flatten(0, 1)
            if sizes is not None:
                added["time_ids"] = sizes.repeat_interleave(frames, dim=0)
        aug = self.image_unet.get_aug_embed(embedding, conditions.text, added)
        return aug if aug is None or frames is None else aug.unflatten(0, (-1, frames))

    def _added(self, conditions: Conditions) -> Added:
        """Pooled text and sizes by diffusers' names, if they are given."""
        given = {"text_embeds": conditions.pooled_text, "time_ids": conditions.ids.get(SIZES)}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def _reads_video_ids(self) -> bool:
        """Whether the image U-Net reads sinusoidal embeddings of VIDEO_IDS."""
        return self.image_unet.config.class_embed_type == "projection"

    def _class_labels(self, x: Tensor, conditions: Conditions) -> Tensor | None:
        if not self._reads_video_ids:
            return conditions.ids.get(NOISE_LEVEL)
        missing = [name for name in VIDEO_IDS if name not in conditions.ids]
        if missing:
            raise ValueError(f"the network needs {', '.join(VIDEO_IDS)}, but lacks {missing[0]}")
        width = self.image_unet.config.projection_class_embeddings_input_dim // len(VIDEO_IDS)
        embedded = (sinusoid(conditions.ids[name].to(x.device), width) for name in VIDEO_IDS)
        return torch.cat(list(embedded), dim=-1).to(x.dtype).expand(len(x), -1)

    # Other networks over the same image U-Net, which they share and never modify.

    def with_sets(self, injections: Sequence[Injection]) -> VideoUNet:
        """The same image U-Net with these sets instead of its own."""
        return VideoUNet(self.image_unet, injections, self.controls, **self._rest)

    def with_controls(self, controls: Sequence[Control]) -> VideoUNet:
        """The same with these ControlNets; ValueError for those of another layout."""
        for one in controls:
            self.check_control(one.network)
        return VideoUNet(self.image_unet, self.injections, controls, **self._rest)

    def check_control(self, network: ControlNetModel) -> None:
        """Raise ValueError unless a ControlNet is for U-Nets like this one."""
        check_fits(network, self.image_unet.config)

    def with_strength(self, strength: Strength) -> VideoUNet:
        """The same with all its sets at this strength."""
        return self.with_sets([replace(one, strength=strength) for one in self.injections])

    def with_image_unet(self, unet: UNet2DConditionModel) -> VideoUNet:
        """The same sets in another image U-Net of the same layout, for instance one with a LoRA."""
        return VideoUNet(unet, self.injections, self.controls, **self._rest)

    def with_updates(self, updates: Sequence[Scheduled]) -> VideoUNet:
        """The same with these updates of the image U-Net's weights instead of its own."""
        rest = {**self._rest, "updates": updates}
        return VideoUNet(self.image_unet, self.injections, self.controls, **rest)

    @property
    def _rest(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "updates": self.updates}


def _for_every_frame(value: Tensor | None, axes: int, frames: int) -> Tensor | None:
    """A tensor per video, of `axes` axes, repeated for its frames: [b, ...] -> [b, t, ...]."""
    if value is None or value.ndim != axes:
        return value
    return value[:, None].expand(-1, frames, *value.shape[1:])


def _joined(x: Tensor, conditions: Conditions) -> Tensor:
    """x [b, t, c, h, w] with the concatenated condition as extra channels."""
    if conditions.concatenated is None:
        return x
    return torch.cat([x, conditions.concatenated], dim=2)


def inject(
    image_unet: UNet2DConditionModel,
    layers: TemporalLayers,
    strength: Strength = FULL_STRENGTH,
    *,
    prompt: Prompt = "text",
) -> VideoUNet:
    """Turn an image U-Net into a video U-Net; the image U-Net itself is not modified.

    prompt: what the image U-Net's cross-attention reads. Raises ValueError if the layouts differ.
    """
    have, made_for = layout_of(image_unet.config), layers.spec.layout
    if not layers.spec.fits(have):
        raise ValueError(
            f"temporal layers for channels {made_for.channels} with depths "
            f"{made_for.depths} do not fit a U-Net of channels {have.channels} with "
            f"depths {have.depths}"
        )
    return VideoUNet(image_unet, [Injection(layers, strength)], prompt=prompt)


def combine(
    video_unet: VideoUNet, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
) -> VideoUNet:
    """Add one more set of temporal layers, which acts after those that are there."""
    checked = inject(video_unet.image_unet, layers, strength)
    return video_unet.with_sets([*video_unet.injections, *checked.injections])


def eject(video_unet: VideoUNet) -> UNet2DConditionModel:
    """Return the image U-Net, which injection has not modified."""
    return video_unet.image_unet
