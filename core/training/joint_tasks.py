"""Joint fine-tuning on videos and images (Wang et al. 2023, section 3.2).

Training the whole network on videos makes the image model in it forget what the videos do not show.
A share of every batch is therefore images, passed as videos of one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..families.embedded import loading as embedded
from ..networks.conditions import Conditions
from ..networks.video_unet import eject, inject
from ..text.encoders import encode_text, tokenize
from ..weights.checkpoints import Header, part, save
from .latents import LatentVideos, VideoPlan, latent_videos
from .recipe import Recipe
from .temporal_layers_task import layers_for
from .velocity import draw_steps, normal_like, velocity_error


@dataclass(frozen=True)
class PromptedVideos:
    """Videos of one length with their prompts: latents [b t c h w], encoded text [b n d]."""

    latents: Tensor
    text: Tensor


def joint_error(
    network: nn.Module, parts: list[PromptedVideos], generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """The mean squared error of the velocity over all samples, and that of each part.

    Videos and images have the same weight, however many frames they have.
    """
    errors = [_errors(network, videos, generator) for videos in parts]
    return torch.cat(errors).mean(), [error.mean() for error in errors]


def _errors(network: nn.Module, videos: PromptedVideos, generator: torch.Generator) -> Tensor:
    """Mean squared error of each sample, [b]."""
    x0 = videos.latents
    steps = draw_steps(len(x0), generator, x0.device)
    noise = normal_like(x0, generator)
    error = velocity_error(
        lambda x, t: network(x, t, Conditions(text=videos.text)), x0, noise, steps
    )
    return error.square().flatten(1).mean(1)


def image_count(batch: int, share: float) -> int:
    """Number of images in a batch; at least one video remains."""
    if not 0 <= share < 1:
        raise ValueError(f"image_share {share} must be at least 0 and below 1")
    return min(round(share * batch), batch - 1)


class TrainJoint:
    """The image U-Net and its temporal layers, trained together on videos and on single frames.

    ``data.clips`` are the plans of the videos, ``data.images`` those of the images, which make up a
    share ``data.image_share`` of each batch. The text encoder is frozen.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        self.image_model = embedded.load_image_model()
        autoencoder = self.image_model.autoencoder
        self.videos, self.images = (
            [latent_videos(VideoPlan(**plan), autoencoder, cache) for plan in recipe.data[name]]
            for name in ("clips", "images")
        )
        self.image_count = image_count(recipe.batch, recipe.data.get("image_share", 0.25))
        unet = eject(self.image_model.model.network).requires_grad_(True)
        self.layers = layers_for(unet, recipe)
        self.module = inject(unet.to(memory_format=torch.contiguous_format), self.layers)

    def batch(self, step: int) -> dict:
        """Videos and single frames with captions, each from one set; sets alternate by step."""
        random = np.random.default_rng((self.recipe.seed, step))
        videos = self.videos[step % len(self.videos)]
        images = self.images[step % len(self.images)]
        batch = self._drawn("videos", videos, self.recipe.batch - self.image_count, random)
        if self.image_count:
            batch |= self._drawn("images", images, self.image_count, random, single=True)
        return batch

    def _drawn(
        self, name: str, videos: LatentVideos, count: int, random: np.random.Generator, *,
        single: bool = False,
    ) -> dict[str, Tensor]:  # fmt: skip
        chosen = random.integers(len(videos), size=count)
        latents = videos.latents[chosen].float()
        if single:
            frames = random.integers(latents.shape[1], size=count)
            latents = latents[np.arange(count), frames][:, None]
        # Captions of images have no motion.
        captions = ["" if random.random() < 0.1 else videos.captions[i][single] for i in chosen]
        ids = tokenize(self.image_model.tokenizer, captions, self.image_model.text_length)
        return {name: latents, f"{name}_ids": ids}

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        names = [name for name in ("videos", "images") if name in batch]
        with torch.no_grad():
            encoder = self.image_model.text_encoder
            texts = [encode_text(encoder, batch[f"{name}_ids"]) for name in names]
        parts = [PromptedVideos(batch[name], text) for name, text in zip(names, texts, strict=True)]
        loss, means = joint_error(self.module, parts, generator)
        return {"loss": loss} | dict(zip(names, means, strict=True))

    def save(self, path: Path, notes: dict) -> None:
        """Write the layers, and beside them the image model that was trained with them."""
        config = self.layers.spec.as_dict()
        header = Header(family=embedded.FAMILY, kind="temporal_layers", config=config, notes=notes)
        save(path, self.layers.state_dict(), header)
        old, state = embedded.read(embedded.path_of("image_model"), "image_model")
        unet = eject(self.module).state_dict()
        assert part(state, "unet.").keys() == unet.keys()
        state |= {f"unet.{key}": value for key, value in unet.items()}
        header = Header(family=embedded.FAMILY, kind="image_model", config=old.config, notes=notes)
        save(path.with_name(f"{path.stem}_image_model.safetensors"), state, header)
