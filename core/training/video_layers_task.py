"""Training temporal layers over a frozen published image model (Video LDM, section 3).

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n,   loss = |f(x_t, t; c) - target|^2   (eq. 4)

with the noise schedule and the target (n or v) of the image model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..families import image_models
from ..families.embedded import loading as embedded
from ..families.embedded.specs import spec_from_table
from ..families.image_models import ImageModel
from ..networks.autoencoder import encode
from ..networks.conditions import FRAME_RATE, NOISE_LEVEL, Conditions
from ..networks.context_frames import ContextFrames, no_context, perturbed
from ..networks.diffusion_model import DiffusionModel
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import VideoUNet
from ..tasks.back_projection import shrink
from ..text.encoders import encode_text, tokenize
from ..weights.checkpoints import Header, save
from ..weights.weight_files import header_of
from .clips import Clip, Clips
from .frame_sampling import FrameChoice, FrameSampling
from .recipe import Recipe
from .temporal_layers_task import frozen
from .velocity import normal_like

CHUNK = 8  # frames that are encoded at once


class TrainVideoLayers:
    """Layers for text to video, prediction or interpolation over a recipe's image model.

    ``start_from.image_model``: a published file, a diffusers folder or a file of this project;
    ``start_from.layers``: layers to start from. ``model``: the table of the layers, see
    :mod:`..families.embedded.specs`. ``data``: `frames`, `size`, `patch`, `videos`, `world` and
    `labels` as in :class:`.Clips`; `strides`: strides of frames, one per batch in turn, whose index
    is the class of a frame-rate flag; context frames as in :class:`.FrameSampling`; `drop_caption`:
    share of clips without caption; `perturb`: exclusive upper bound of the noise level of context
    frames, which are noised in every second batch.

    image: used instead of the recipe's file.
    """

    def __init__(self, recipe: Recipe, cache: Path, image: ImageModel | None = None):
        self.recipe, data = recipe, recipe.data
        self.image = image or load_base(recipe.start_from)
        kept = {k: data[k] for k in ("frames", "videos", "world", "labels") if k in data}
        sides = {k: tuple(data[k]) for k in ("size", "patch") if k in data}
        self.clips = Clips(**kept, **sides)
        self.strides = tuple(data.get("strides", (1,)))
        self.frame_sampling = FrameSampling.of(data)
        self.drop_caption, self.perturb = data.get("drop_caption", 0.1), data.get("perturb", 0)
        self.layers = layers_over(self.image.model, recipe)
        frozen(self.image.model.network.image_unet)
        self.network: VideoUNet = self.image.model.with_layers(self.layers).network
        self.module = nn.ModuleDict(
            {
                "network": self.network,
                "text_encoder": self.image.text_encoder.requires_grad_(False),
                "autoencoder": self.image.autoencoder.requires_grad_(False),
            }
        )

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        rate = step % len(self.strides)
        clips = [self._draw(random, rate) for _ in range(self.recipe.batch)]
        choice = FrameChoice(list(range(self.clips.frames)))
        masks = [self.frame_sampling.mask(choice, random) for _ in clips]
        captions = [self._caption(clip, random) for clip in clips]
        highest = self.image.model.max_noise_level
        return {
            "video": torch.stack([clip.frames for clip in clips]),
            "ids": tokenize(self.image.tokenizer, captions, self.image.text_length),
            "mask": torch.from_numpy(np.stack(masks)),
            "rate": torch.full((len(clips),), rate),
            "level": int(random.integers(self.perturb)) if self.perturb and step % 2 else 0,
            "low_res_level": torch.from_numpy(random.integers(highest + 1, size=len(clips))),
        }

    def _draw(self, random: np.random.Generator, rate: int) -> Clip:
        return self.clips.draw(random, self.strides[rate])

    def _caption(self, clip: Clip, random: np.random.Generator) -> str:
        return "" if random.random() < self.drop_caption else clip.caption

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        model = self.image.model
        x0, text = self._encoded(batch)
        noise = normal_like(x0, generator)
        at = dict(generator=generator, device=x0.device)
        steps = torch.randint(model.schedule.steps, (len(x0),), **at)
        given = self._conditions(batch, x0, generator)
        x_t = model.schedule.add_noise(x0, noise, steps)
        answer = self.network(x_t, steps, replace(given, text=text)).float()
        target = noise if model.prediction == "eps" else model.schedule.velocity(x0, noise, steps)
        error = answer - target
        if self.layers.puts_context_in_place:  # the output at given frames is not used
            error = error * (1 - batch["mask"])[:, :, None, None, None]
        return {"loss": error.square().mean()}

    @torch.no_grad()
    def _encoded(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Latents [b t c h w] and text [b n d], in float32."""
        with torch.autocast(batch["video"].device.type, enabled=False):
            x0 = encode(self.image.autoencoder, batch["video"], chunk=CHUNK)
            return x0.float(), encode_text(self.image.text_encoder, batch["ids"]).float()

    def _conditions(self, batch: dict, x0: Tensor, generator: torch.Generator) -> Conditions:
        """All conditions but the text."""
        ids = {FRAME_RATE: batch["rate"]} if self.layers.rate is not None else {}
        return Conditions(context=self._context(batch, x0, generator), ids=ids)

    def _context(self, batch: dict, x0: Tensor, generator: torch.Generator) -> ContextFrames | None:
        if self.layers.context is None:
            return None
        context = replace(no_context(x0.shape, x0.device), mask=batch["mask"])
        context = replace(context, latents=x0 * context.expanded_mask)
        noise = normal_like(x0, generator)
        return perturbed(context, self.image.model.schedule, batch["level"], noise)

    def save(self, path: Path, notes: dict) -> None:
        header = Header(
            family=embedded.FAMILY,
            kind="temporal_layers",
            config=self.layers.spec.as_dict(),
            notes=notes,
        )
        save(path, self.layers.state_dict(), header)


class TrainUpsamplerLayers(TrainVideoLayers):
    """Layers that turn an image upsampler into a video upsampler (Video LDM, section 3.4).

    Clips are patches of large frames; sampling applies the fully convolutional network to whole
    ones. The low-resolution input is the downscaled patch, noised to a random level that conditions
    the network. Noise is independent for every frame; `data.same_noise` uses the same for all low-
    resolution frames.
    """

    def __init__(self, recipe: Recipe, cache: Path, image: ImageModel | None = None):
        super().__init__(recipe, cache, image)
        self.same_noise = recipe.data.get("same_noise", False)
        if self.image.model.noise_schedule_for_low_res is None:
            raise ValueError(f"recipe {recipe.name}: the image model is not an upsampler")

    def _conditions(self, batch: dict, x0: Tensor, generator: torch.Generator) -> Conditions:
        low, levels = shrink(batch["video"], self.image.model.factor), batch["low_res_level"]
        noise = normal_like(low[:, :1] if self.same_noise else low, generator).expand_as(low)
        low = self.image.model.noise_schedule_for_low_res.add_noise(low, noise, levels)
        return Conditions(concatenated=low, ids={NOISE_LEVEL: levels})


def load_base(start_from: dict[str, str]) -> ImageModel:
    """The image model or upsampler that a recipe's `start_from` names, in float32 on the CPU."""
    name = start_from.get("image_model", "")
    if not name:
        raise ValueError(
            "the recipe names no image model for the layers: --set start_from.image_model=FILE"
        )
    path = Path(name).expanduser()
    if path.suffix == "" and not path.exists() and embedded.path_of(name).is_file():
        path = embedded.path_of(name)
    header = header_of(path) if path.is_file() else None
    image = image_models.load(path) if header is None else image_models.load_own(path, header.kind)
    if image.text_encoder is None or image.autoencoder is None:
        raise ValueError(f"{path.name} lacks a text encoder or an autoencoder to train with")
    return image


def layers_over(model: DiffusionModel, recipe: Recipe) -> TemporalLayers:
    """The temporal layers of a recipe for an image model: new, with all tensors that fit taken from
    ``start_from.layers``."""
    network = model.network
    table = dict(recipe.model)
    if table.get("task") in ("prediction", "interpolation"):
        table.setdefault("context_channels", model.latent_channels)
    layers = TemporalLayers(spec_from_table(network.layout, **table))
    if "layers" in recipe.start_from:
        _, state = embedded.read(Path(recipe.start_from["layers"]).expanduser(), "temporal_layers")
        own = layers.state_dict()
        fitting = {k: v.float() for k, v in state.items() if k in own and own[k].shape == v.shape}
        layers.load_state_dict(fitting, strict=False)
    return layers
