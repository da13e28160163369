"""Temporal fine-tuning of the decoder of any image autoencoder (Video LDM, section 3.1.1).

Temporal layers are inserted into the decoder and trained on videos. The encoder is frozen, so that
the latents stay valid, and so by default is the image decoder. The loss is

    reconstruction + w_p LPIPS + f w_d a mean(-D(y)) + w_f flicker,    a: see `adaptive_weight`

with D a patch discriminator of videos made of 3D convolutions, and f = 0 before step `disc_start`,
then 1. The last term, on differences of consecutive frames, is not in the paper and off by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..families import image_models
from ..families.embedded import loading as embedded
from ..networks.autoencoder import encode
from ..networks.layers.residual import TemporalResBlockSpec
from ..networks.layers.specs import LayerSpec
from ..networks.temporal_decoder import ATTENTION, OUT, VideoDecoder, decoder_sites
from ..weights.weight_files import read_weights
from .autoencoder_tasks import FrameMixture, psnr, reconstruction
from .clips import Clips
from .discriminator import LOSSES, VideoDiscriminator, adaptive_weight
from .perceptual import PerceptualDistance, encoder_distance, lpips_from
from .recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DecoderLosses:
    """Weights of the terms; disc_loss: a key of `discriminator.LOSSES`. perceptual: a training
    checkpoint with the weights of LPIPS; "" = the features of the pack's autoencoder instead."""

    flicker_weight: float = 0.0
    perceptual_weight: float = 0.0
    perceptual: str = ""
    disc_weight: float = 0.5
    disc_start: int = 0
    disc_loss: str = "hinge"

    def __post_init__(self) -> None:
        if self.disc_loss not in LOSSES:
            raise ValueError(
                f"disc_loss must be one of {', '.join(LOSSES)}, not {self.disc_loss!r}"
            )


class TrainVideoDecoder:
    """A decoder and its discriminator, updated by one optimiser, each by its own loss.

    ``start_from.autoencoder``: a published file or folder, or a file of this project.
    ``model``: `kernel` of the temporal convolutions in frames; `spatial`: their height and width in
    the middle and at each level, coarsest first; `pooled_norm`: group norms over all frames of a
    chunk, as in Stable Video Diffusion, without which a frame depends on few others;
    `image_decoder`: the image decoder is trained as well.
    ``data``: `sampled`: latents are samples of the encoder's posterior, independent for each frame,
    as in the training of image models, else its mode; `losses` and `discriminator`: tables of their
    settings; the rest selects videos, by :class:`.FrameMixture` or with `videos` :class:`.Clips`.
    """

    def __init__(self, recipe: Recipe, cache: Path, image: AutoencoderKL | None = None):
        """image: used instead of the recipe's file."""
        self.recipe, data = recipe, recipe.data
        image = image or load_autoencoder(recipe.start_from.get("autoencoder", ""))
        specs = decoder_layers(image, recipe.model)
        own = deepcopy(image).requires_grad_(recipe.model.get("image_decoder", False))
        self.decoder = embedded.without_encoder(VideoDecoder(own, specs))
        for parameter in own.parameters():
            parameter.data = parameter.data.contiguous()
        for module in own.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(contiguous)
        self.losses = DecoderLosses(**data.get("losses", {}))
        parts: dict[str, nn.Module] = {
            "decoder": self.decoder,
            "image": image.requires_grad_(False),
        }
        if self.losses.disc_weight:
            parts["discriminator"] = VideoDiscriminator(**data.get("discriminator", {}))
        if self.losses.perceptual_weight:
            parts["distance"] = _distance(self.losses.perceptual)
        self.module = nn.ModuleDict(parts)
        self.source = _source(data)

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        videos = [self.source(random) for _ in range(self.recipe.batch)]
        return {"video": torch.stack(videos), "step": step}

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        video = batch["video"]
        with torch.no_grad():
            drawn = generator if self.recipe.data.get("sampled", True) else None
            latents = encode(self.module["image"], video, generator=drawn)
        made = self.decoder(latents).float()
        quality, flicker = self._quality(made, video)
        logs = {"flicker": flicker, "psnr": psnr(made, video)}
        if batch["step"] < self.losses.disc_start or not self.losses.disc_weight:
            return {"loss": quality, "discriminator": quality.new_zeros(()), **logs}
        discriminator: VideoDiscriminator = self.module["discriminator"]
        generated = -discriminator.frozen(made).mean()
        weight = adaptive_weight(quality, generated, self._last_weight)
        own = LOSSES[self.losses.disc_loss](discriminator(video), discriminator(made.detach()))
        loss = quality + self.losses.disc_weight * weight * generated + own
        return {"loss": loss, "discriminator": own, **logs}

    def _quality(self, made: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """(loss without the discriminator, flicker)."""
        pixel, edge = reconstruction(made, video)
        flicker = F.l1_loss(made.diff(dim=1), video.diff(dim=1))
        quality = pixel + edge + self.losses.flicker_weight * flicker
        if self.losses.perceptual_weight:
            distance = self.module["distance"](made.flatten(0, 1), video.flatten(0, 1)).mean()
            quality = quality + self.losses.perceptual_weight * distance
        return quality, flicker

    @property
    def _last_weight(self) -> Tensor:
        """The last trained weight, at which `adaptive_weight` compares gradients."""
        weight = self.decoder.autoencoder.decoder.conv_out.weight
        return weight if weight.requires_grad else [*self.decoder.layers.values()][-1].conv2.weight

    def save(self, path: Path, notes: dict) -> None:
        embedded.save_video_decoder(path, self.decoder, notes)


def contiguous(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook: on the CPU, torch 2.13 crashes in the backward pass of a frozen norm of
    channels-last inputs, which weights and attention produce."""
    return tuple(one.contiguous() for one in inputs)


def load_autoencoder(name: str) -> AutoencoderKL:
    """Load an image autoencoder: a file, a diffusers folder, or one of the pack by name."""
    if not name:
        raise ValueError(
            "the recipe names no autoencoder to fine-tune: --set start_from.autoencoder=FILE"
        )
    path = Path(name).expanduser()
    if path.is_dir():
        return image_models.load_folder_autoencoder(path)
    if not path.exists() and embedded.path_of(name).is_file():
        path = embedded.path_of(name)
    return image_models.load_autoencoder(path)


def decoder_layers(image: AutoencoderKL, table: Mapping[str, Any]) -> dict[str, LayerSpec]:
    """A temporal residual block after each residual block of the decoder, by site."""
    levels = len(image.config.block_out_channels)
    spatial = tuple(table.get("spatial", ())) or (1,) * (levels + 1)
    if len(spatial) != levels + 1:
        raise ValueError(
            f"spatial needs a side for the middle and each of the {levels} levels, not {spatial}"
        )
    found: dict[str, LayerSpec] = {}
    for site, _ in decoder_sites(image):
        if site in (ATTENTION, OUT):
            continue
        way, level = site.split(".")[:2]
        found[site] = TemporalResBlockSpec(
            kernel=table.get("kernel", 3),
            spatial=spatial[0 if way == "mid" else int(level) + 1],
            norm_groups=image.config.norm_num_groups,
            pooled_norm=table.get("pooled_norm", False),
        )
    return found


def _distance(path: str) -> PerceptualDistance:
    if not path:
        return encoder_distance(embedded.load_autoencoder())
    return lpips_from(read_weights(Path(path).expanduser()), Path(path).name)


def _source(data: Mapping[str, Any]):
    """A function random -> video [t 3 h w]."""
    frames, size = data["frames"], data["size"]
    if data.get("videos"):
        whole = tuple(data.get("cover", (2 * size, 2 * size)))
        clips = Clips(frames=frames, size=whole, patch=(size, size), videos=data["videos"])
        return lambda random: clips.draw(random).frames
    mixture = FrameMixture(
        size=size, frames=frames, real_share=data.get("real_share", 0.0),
        max_size=data.get("max_size", 2 * size),
    )  # fmt: skip
    return lambda random: torch.from_numpy(mixture.draw(random))
