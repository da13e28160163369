"""Fine-tuning the decoder of any image autoencoder in time (Video LDM, section 3.1.1).

Temporal layers are put into the decoder and trained on videos; the image decoder around them and
the encoder stay as they are, so that latents keep their meaning. The loss is

    |x - y| terms + w_p LPIPS + f w_d a mean(-D(y)) + w_f |flicker|,    a: see `adaptive_weight`

with D a discriminator of patches of the video made of 3D convolutions, f = 0 before step
`disc_start`, then 1. The last term, on differences of successive frames, is not the paper's and off
unless a recipe asks for it.
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
from .perceptual import PerceptualDistance, lpips_from, unpublished
from .recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DecoderLosses:
    """The weights of the terms; disc_loss is one of `discriminator.LOSSES`. perceptual: a training
    checkpoint with the published distance's weights, else it is that of the pack's autoencoder."""

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
    """A recipe's decoder and its discriminator, moved by one optimiser, each by its own loss.

    ``start_from.autoencoder`` is a published file or folder, or a file of this project. ``model``:
    `kernel` of the convolutions in frames, `spatial` their other sides at the sites of each level,
    coarsest first, `pooled_norm`: norms over all frames of a chunk, as in Stable Video Diffusion;
    without it a frame depends on few others; `image_decoder`: the image decoder is trained, too.
    ``data``: `sampled`: latents are drawn from the encoder's posterior, each frame's for itself, as
    those that image models are trained on; otherwise they are its mode. `losses` and
    `discriminator` have their tables, the rest says which videos: of :class:`.FrameMixture`, or
    with `videos` of :class:`.Clips`.
    """

    def __init__(self, recipe: Recipe, cache: Path, image: AutoencoderKL | None = None):
        """image: in place of the file that the recipe names."""
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
        judge: VideoDiscriminator = self.module["discriminator"]
        generated = -judge.judged(made).mean()
        weight = adaptive_weight(quality, generated, self._last_weight)
        own = LOSSES[self.losses.disc_loss](judge(video), judge(made.detach()))
        loss = quality + self.losses.disc_weight * weight * generated + own
        return {"loss": loss, "discriminator": own, **logs}

    def _quality(self, made: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """The terms without the discriminator, and the flicker among them."""
        pixel, edge = reconstruction(made, video)
        flicker = F.l1_loss(made.diff(dim=1), video.diff(dim=1))
        quality = pixel + edge + self.losses.flicker_weight * flicker
        if self.losses.perceptual_weight:
            distance = self.module["distance"](made.flatten(0, 1), video.flatten(0, 1)).mean()
            quality = quality + self.losses.perceptual_weight * distance
        return quality, flicker

    @property
    def _last_weight(self) -> Tensor:
        """The last weight that is trained, that gradients are compared at."""
        weight = self.decoder.autoencoder.decoder.conv_out.weight
        return weight if weight.requires_grad else [*self.decoder.layers.values()][-1].conv2.weight

    def save(self, path: Path, notes: dict) -> None:
        embedded.save_video_decoder(path, self.decoder, notes)


def contiguous(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook: torch 2.13 crashes on the CPU on the way back through a frozen norm of channels-last
    memory, which weights and attention bring in."""
    return tuple(one.contiguous() for one in inputs)


def load_autoencoder(name: str) -> AutoencoderKL:
    """The image autoencoder of a file, of a diffusers folder with one, or one of the pack's."""
    if not name:
        raise ValueError(
            "the recipe does not say whose decoder is trained: --set start_from.autoencoder=FILE"
        )
    path = Path(name).expanduser()
    if path.is_dir():
        return image_models.load_folder_autoencoder(path)
    if not path.exists() and embedded.path_of(name).is_file():
        path = embedded.path_of(name)
    return image_models.load_autoencoder(path)


def decoder_layers(image: AutoencoderKL, table: Mapping[str, Any]) -> dict[str, LayerSpec]:
    """A residual convolution over time after each residual block of the decoder."""
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
        return unpublished(embedded.load_autoencoder())
    return lpips_from(read_weights(Path(path).expanduser()), Path(path).name)


def _source(data: Mapping[str, Any]):
    """random -> video [t 3 h w]."""
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
