"""Training the x4 upsampler: its image U-Net on single frames, then temporal layers on videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..families.embedded import loading as embedded
from ..families.embedded.specs import spec_from_table
from ..networks.autoencoder import encode
from ..networks.conditions import NOISE_LEVEL, Conditions
from ..networks.sites import layout_of
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import VideoUNet, inject
from ..tasks.back_projection import shrink
from ..text.encoders import encode_text, tokenize
from ..weights.checkpoints import Header, load_into, part, save
from .autoencoder_tasks import FrameMixture
from .recipe import Recipe
from .temporal_layers_task import frozen
from .velocity import SCHEDULE, draw_steps, normal_like, velocity_error


class TrainUpsampler:
    """The x4 upsampler: its image U-Net with ``data.frames`` = 1, else temporal layers in it.

    Low-resolution frames are noised to a random level below ``MAX_NOISE_LEVEL`` that conditions the
    network (noise conditioning augmentation, Ho et al. 2021). ``data.same_noise`` uses the same
    noise for all frames of a video, as sampling does.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        image = embedded.load_image_model()
        self.autoencoder = image.autoencoder
        with torch.no_grad():
            self.empty = encode_text(
                image.text_encoder, tokenize(image.tokenizer, [""], image.text_length)
            )
        self.frames = FrameMixture(
            size=recipe.data["size"],
            frames=recipe.data["frames"],
            real_share=recipe.data.get("real_share", 0.0),
        )
        self.same_noise = recipe.data.get("same_noise", False)
        sizes = {"text_width": self.empty.shape[-1]} | recipe.model["unet"]
        self.unet_config = embedded.ImageUNetConfig(**embedded.tuples(sizes))
        self.unet = embedded.build_unet(self.unet_config).to(memory_format=torch.channels_last)
        self.layers = TemporalLayers(
            spec_from_table(layout_of(self.unet.config), **recipe.model["layers"])
        )
        self.module: VideoUNet = inject(self.unet, self.layers)
        self._freeze()

    def _freeze(self) -> None:
        """Load ``start_from.unet`` if named; train the U-Net on frames, the layers on videos."""
        if "unet" in self.recipe.start_from:
            _, state = embedded.read(embedded.path_of(self.recipe.start_from["unet"]), "upsampler")
            load_into(self.unet, part(state, "unet."), "upsampler")
        if self.frames.frames > 1:
            frozen(self.unet)
        else:
            self.layers.requires_grad_(False)
            self.unet.requires_grad_(True)

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        videos = [self.frames.draw(random) for _ in range(self.recipe.batch)]
        return {
            "video": torch.from_numpy(np.stack(videos)),
            "levels": torch.from_numpy(
                random.integers(embedded.MAX_NOISE_LEVEL, size=self.recipe.batch)
            ),
        }

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        video, levels = batch["video"], batch["levels"]
        with torch.no_grad():
            x0 = encode(self.autoencoder, video, chunk=64).float()
        text = self.empty.to(video.device).expand(len(video), -1, -1)
        low = shrink(video)
        low = SCHEDULE.add_noise(low, self._noise(low, generator), levels)
        steps = draw_steps(len(x0), generator, x0.device)
        given = Conditions(text=text, concatenated=low, ids={NOISE_LEVEL: levels})
        error = velocity_error(
            lambda x, t: self.module(x, t, given),
            x0,
            self._noise(x0, generator),
            steps,
        )
        return {"loss": error.square().mean()}

    def _noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Noise like x [b, t, ...], independent for every frame or the same for all."""
        if self.same_noise:
            return normal_like(x[:, :1], generator).expand_as(x)
        return normal_like(x, generator)

    def save(self, path: Path, notes: dict) -> None:
        state = {f"unet.{k}": v for k, v in self.unet.state_dict().items()}
        state |= {f"layers.{k}": v for k, v in self.layers.state_dict().items()}
        config = {"unet": vars(self.unet_config), "layers": self.layers.spec.as_dict()}
        save(
            path,
            state,
            Header(family=embedded.FAMILY, kind="upsampler", config=config, notes=notes),
        )
