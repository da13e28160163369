"""An image U-Net that became a video U-Net: the same spatial modules, with temporal layers between.

The image network is never edited. :class:`VideoUNet` holds it and runs its modules in the order of
its own forward pass (:mod:`.unet_forward`), handing the tensor to the temporal layers at every
site. Ejecting is therefore nothing but taking the image network back out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from .autoencoder import check_video
from .conditions import NOISE_LEVEL, SIZES, Conditions, NetworkSpec
from .controlnet import Control, check_fits, summed
from .injected_sets import InjectedSets, Injection, LayerPass
from .sites import UNetLayout, layout_of
from .temporal_layers import FULL_STRENGTH, Strength, TemporalLayers, for_frames
from .unet_forward import unet_forward


class VideoUNet(nn.Module):
    """An image U-Net with any number of sets of temporal layers; the sets act in order at each
    site. ControlNets, if there are any, add to what the image network has learnt on its way down.

    A network as :mod:`.conditions` describes them.
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
    def injections(self) -> InjectedSets:
        pairs = zip(self.sets, self.strengths, strict=True)
        return InjectedSets([Injection(*pair) for pair in pairs])

    @property
    def spec(self) -> NetworkSpec:
        return self.injections.added_to(self.image_spec)

    @property
    def image_spec(self) -> NetworkSpec:
        """What the image U-Net takes by itself."""
        config, ids = self.image_unet.config, {}
        if self.image_unet.class_embedding is not None:
            ids[NOISE_LEVEL] = config.num_class_embeds
        sized = config.addition_embed_type == "text_time"
        if sized:
            ids[SIZES] = None
        return NetworkSpec(
            name="image U-Net",
            latent_channels=config.out_channels,
            concatenated=config.in_channels - config.out_channels,
            text=config.cross_attention_dim,
            pooled_text=sized,
            ids=ids,
            width=config.block_out_channels[0],
        )

    @property
    def layout(self) -> UNetLayout:
        """Where in the image U-Net temporal layers can sit."""
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
        timesteps = torch.as_tensor(timesteps, device=x.device)
        act = LayerPass(self.injections, conditions, x.shape, x.device)
        residuals = summed(
            one(_joined(x, conditions), timesteps, conditions.text) for one in self.controls
        )
        x, timesteps = act.put_context_in_place(x, timesteps)
        embedding = self._embed(x, timesteps, conditions)
        act.add_embedding(embedding)
        h = rearrange(_joined(x, conditions), "b t c h w -> (b t) c h w")
        h = unet_forward(self.image_unet, h, embedding, conditions.text, act, residuals)
        return rearrange(h, "(b t) c h w -> b t c h w", t=frames)

    def _embed(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The image U-Net's time embedding: [b, e], or [b, t, e] for steps [b, t]."""
        unet = self.image_unet
        steps = timesteps if timesteps.ndim == 2 else timesteps.expand(len(x))
        rows = x.new_empty(steps.numel())  # diffusers reads the batch size and precision off this
        embedding = unet.time_embedding(unet.get_time_embed(rows, steps.flatten()))
        embedding = embedding.unflatten(0, steps.shape)
        labels = unet.get_class_embed(x, conditions.ids.get(NOISE_LEVEL))
        if labels is not None:
            embedding = embedding + for_frames(labels, embedding)
        added = {"text_embeds": conditions.pooled_text, "time_ids": conditions.ids.get(SIZES)}
        aug = unet.get_aug_embed(embedding, conditions.text, added)
        return embedding if aug is None else embedding + for_frames(aug, embedding)

    # Other networks of the same image U-Net. It is shared by all of them, and never changed.

    def with_sets(self, injections: Sequence[Injection]) -> VideoUNet:
        """The same image U-Net with these sets instead of its own."""
        return VideoUNet(self.image_unet, injections, self.controls)

    def with_controls(self, controls: Sequence[Control]) -> VideoUNet:
        """The same with these ControlNets; ValueError for those of another layout."""
        for one in controls:
            self.check_control(one.network)
        return VideoUNet(self.image_unet, self.injections, controls)

    def check_control(self, network: ControlNetModel) -> None:
        """Raise ValueError unless a ControlNet is for U-Nets like this one."""
        check_fits(network, self.image_unet.config)

    def with_strength(self, strength: Strength) -> VideoUNet:
        """The same with all its sets used at `strength`."""
        return self.with_sets([Injection(layers, strength) for layers in self.sets])

    def with_image_unet(self, unet: UNet2DConditionModel) -> VideoUNet:
        """The same sets in another image U-Net of the same layout, one with a LoRA for instance."""
        return VideoUNet(unet, self.injections, self.controls)


def _joined(x: Tensor, conditions: Conditions) -> Tensor:
    """x [b, t, c, h, w] with what is concatenated behind its channels."""
    if conditions.concatenated is None:
        return x
    return torch.cat([x, conditions.concatenated], dim=2)


def inject(
    image_unet: UNet2DConditionModel, layers: TemporalLayers, strength: Strength = FULL_STRENGTH
) -> VideoUNet:
    """Turn an image U-Net into a video U-Net; the image U-Net itself is not touched.

    Raises ValueError when the layers were made for another layout.
    """
    have, made_for = layout_of(image_unet.config), layers.spec.layout
    if not layers.spec.fits(have):
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
    return video_unet.with_sets([*video_unet.injections, *checked.injections])


def eject(video_unet: VideoUNet) -> UNet2DConditionModel:
    """Return the image U-Net, which injection never changed."""
    return video_unet.image_unet
