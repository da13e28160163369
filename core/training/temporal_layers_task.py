"""Training temporal layers in the frozen image U-Net on videos (Video LDM, eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..families.embedded import loading as embedded
from ..families.embedded import worlds
from ..families.embedded.specs import spec_from_table
from ..networks.conditions import FRAME_RATE, Conditions
from ..networks.context_frames import ContextFrames, no_context, perturbed
from ..networks.sites import layout_of
from ..networks.temporal_layers import TemporalLayers
from ..networks.video_unet import eject, inject
from ..tasks.interpolation import FACTOR, blended
from ..text.encoders import encode_text, tokenize
from ..weights.checkpoints import Header, save
from .frame_sampling import FrameChoice, FrameSampling
from .latents import VideoPlan, caption_scenes, latent_videos
from .motion_reader import train_reader
from .recipe import Recipe
from .velocity import SCHEDULE, draw_steps, normal_like, velocity_error, video_noise

BLEND_STEPS = 20, 350
"""Default range of steps of the forward process for batches that start from blends of the given
frames."""
UNSTEADY = 0.15  # largest standard deviation of the errors that :func:`unsteadiness` adds
HALF_MOVING = 0.2  # standard deviation in time at which :func:`moving` is 0.5; latents have 1


class TrainTemporalLayers:
    """Temporal layers in the frozen image U-Net: text to video, prediction or interpolation.

    :class:`FrameSampling` selects frames and context. With every fourth frame or sparse frames
    given, half of the batches are noised blends of the given frames, at steps ``data.blend_steps``
    of the forward process: the layers learn to remove the ghosts of the blends. Batches between
    sparse frames have one noise for all frames, as in sampling. ``data.more_of`` oversamples kinds
    of videos (:meth:`.LatentVideos.draw`), ``data.moving_weight`` weighs what moves
    (:func:`moving`), ``data.change_weight`` adds the error of the change between frames
    (:func:`video_loss`).
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        image = embedded.load_image_model()
        self.text_encoder, self.tokenizer = image.text_encoder, image.tokenizer
        self.length = image.text_length
        self.sets = [
            latent_videos(VideoPlan(**plan), image.autoencoder, cache)
            for plan in recipe.data["clips"]
        ]
        self.frame_sampling = FrameSampling.of(recipe.data)
        self.blend_steps = recipe.data.get("blend_steps", BLEND_STEPS)
        self.more_of = recipe.data.get("more_of", {})
        self.moving_weight = recipe.data.get("moving_weight", 0.0)
        self.change_weight = recipe.data.get("change_weight", 0.0)
        self.perturb = recipe.data.get("perturb", 0)
        self.noisy = recipe.data.get("noisy", 0.0)
        unet = frozen(eject(image.model.network))
        self.layers = layers_for(unet, recipe)
        if "reading" in recipe.data:
            self._train_reader(VideoPlan(**recipe.data["reading"]), recipe.data["reading_steps"])
        if self.layers.prompt is not None:
            self.layers.prompt.requires_grad_(False).embed.requires_grad_(True)
        self.module = inject(unet, self.layers)

    def batch(self, step: int) -> dict:
        """Videos of one set (sets alternate by step), with captions and context masks."""
        random = np.random.default_rng((self.recipe.seed, step))
        rate = step % len(self.sets)
        videos = self.sets[rate]
        choice = self.frame_sampling.draw(videos.latents.shape[1], random)
        between = choice.sparse is not None
        chosen = videos.draw(self._count(choice), random, self.more_of)
        captions = ["" if random.random() < 0.1 else videos.captions[i][0] for i in chosen]
        masks = [self.frame_sampling.mask(choice, random) for _ in chosen]
        return {
            "latents": videos.latents[chosen][:, choice.times].float(),
            "ids": tokenize(self.tokenizer, captions, self.length),
            "times": torch.tensor(choice.times),
            "rate": torch.full((len(chosen),), rate),
            "mask": torch.from_numpy(np.stack(masks)),
            "level": int(random.integers(self.perturb)) if self.perturb and step % 2 else 0,
            "blended_at": self._blended_at(choice, step),
            "shared_noise": inf if between else self.layers.spec.trained.shared_noise,
        }

    def _count(self, choice: FrameChoice) -> int:
        """Number of videos: batches between sparse frames have as many frames in total as batches
        of sparse frames."""
        if choice.sparse is None:
            return self.recipe.batch
        return max(1, self.recipe.batch * self.frame_sampling.sparse_frames // len(choice.times))

    def _blended_at(self, choice: FrameChoice, step: int) -> Sequence[int] | None:
        """Positions of the frames whose blends a batch starts from, or None."""
        if self.frame_sampling.given == "every fourth" and step // 2 % 2 == 1:
            return range(0, len(choice.times), FACTOR)
        return choice.sparse if choice.blended else None

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        x0, mask = batch["latents"], batch["mask"]
        with torch.no_grad(), torch.autocast(x0.device.type, enabled=False):
            text = encode_text(self.text_encoder, batch["ids"])
        context = self._context(x0, mask, batch["level"], generator)
        steps = draw_steps(len(x0), generator, x0.device, self.noisy)
        start = None
        if batch["blended_at"] is not None:
            first, last = self.blend_steps
            steps = first + steps * (last - first) // SCHEDULE.steps
            start = self._partly_blended(x0, batch["blended_at"], generator)
            if self.frame_sampling.sparse_frames:
                start = start + unsteadiness(x0, generator)
        ids = {FRAME_RATE: batch["rate"]} if self.layers.rate is not None else {}
        given = Conditions(text=text, context=context, ids=ids, times=batch["times"])
        error = velocity_error(
            lambda x, t: self.module(x, t, given),
            x0,
            video_noise(x0, generator, batch["shared_noise"]),
            steps,
            start,
        )
        wanted = (1 - mask)[:, :, None, None, None]
        signal, _ = SCHEDULE.signal_and_spread(steps, x0)
        weight = wanted * (1 + self.moving_weight * signal.square() * moving(x0))
        return {"loss": video_loss(error * wanted, weight, self.change_weight)}

    def _train_reader(self, plan: VideoPlan, steps: int) -> None:
        """Train the prompt reader on the captions of the videos and those of ``plan``."""
        videos = self.sets[0].plan
        scenes = [videos.scene(i)[0] for i in range(videos.count)] + caption_scenes(plan)
        ids = tokenize(self.tokenizer, [worlds.caption(scene) for scene in scenes], self.length)
        with torch.no_grad():
            text = torch.cat([encode_text(self.text_encoder, part) for part in ids.split(128)])
        train_reader(self.layers.prompt, text, scenes, steps=steps, seed=self.recipe.seed)

    @staticmethod
    def _partly_blended(x0: Tensor, at: Sequence[int], generator: torch.Generator) -> Tensor:
        """A random mix of each video and the linear blend of its frames ``at``: what sampling
        passes through that starts from the blend (Delbracio & Milanfar 2023, eq. 3)."""
        share = torch.rand(len(x0), generator=generator, device=x0.device)
        return torch.lerp(x0, blended(x0[:, at], at), share[:, None, None, None, None])

    def _context(
        self, x0: Tensor, mask: Tensor, level: int, generator: torch.Generator
    ) -> ContextFrames | None:
        if self.frame_sampling.given == "none":
            return None
        context = replace(no_context(x0.shape, x0.device), mask=mask)
        context = replace(context, latents=x0 * context.expanded_mask)
        return perturbed(context, SCHEDULE, level, normal_like(x0, generator))

    def save(self, path: Path, notes: dict) -> None:
        save(
            path,
            self.layers.state_dict(),
            Header(
                family=embedded.FAMILY,
                kind="temporal_layers",
                config=self.layers.spec.as_dict(),
                notes=notes,
            ),
        )


def unsteadiness(x0: Tensor, generator: torch.Generator) -> Tensor:
    """Small errors [b t c h w] that differ from frame to frame, as sampled frames have them: noise
    and tints."""
    size = UNSTEADY * torch.rand(len(x0), generator=generator, device=x0.device)
    errors = normal_like(x0, generator) + normal_like(x0[..., :1, :1], generator)
    return size[:, None, None, None, None] * errors


def video_loss(error: Tensor, weight: Tensor, change_weight: float) -> Tensor:
    """Weighted mean square of the error of videos [b t c h w], plus ``change_weight`` times that of
    its change from frame to frame, which penalises errors that flicker."""
    loss = (weight * error.square()).sum() / weight.expand_as(error).sum()
    return loss + change_weight * error.diff(dim=1).square().mean()


def moving(x0: Tensor) -> Tensor:
    """How much each position of videos [b t c h w] changes in time: [b 1 1 h w] in [0, 1).

    Most positions never change, and their error would hide that of the moving ones. The measure
    saturates, so that a turning corner counts about as much as a passing object. Use it at low
    noise only: while the noise still leaves positions open, such weights favour a prediction that
    has the object in all possible places at once.
    """
    deviation = x0.std(dim=1, correction=0, keepdim=True).square().mean(dim=2, keepdim=True).sqrt()
    return deviation / (deviation + HALF_MOVING)


def frozen(unet: nn.Module) -> nn.Module:
    """Freeze an image U-Net.

    Also restores the default memory layout: on the CPU, torch 2.13 crashes in the backward pass of
    a channels-last group norm whose scale needs no gradient.
    """
    return unet.requires_grad_(False).to(memory_format=torch.contiguous_format)


def layers_for(unet: nn.Module, recipe: Recipe) -> TemporalLayers:
    """The temporal layers of a recipe for an image U-Net: new, with all tensors that fit taken from
    ``start_from.layers``."""
    text = unet.config.cross_attention_dim
    layers = TemporalLayers(
        spec_from_table(layout_of(unet.config), **{"text_width": text} | recipe.model)
    )
    if "layers" in recipe.start_from:
        start(layers, embedded.path_of(recipe.start_from["layers"]))
    return layers


def start(layers: TemporalLayers, path: Path) -> None:
    """Load the tensors of a trained file whose names and shapes match; the others stay new."""
    _, state = embedded.read(path, "temporal_layers")
    own = layers.state_dict()
    fitting = {k: v.float() for k, v in state.items() if k in own and own[k].shape == v.shape}
    layers.load_state_dict(fitting, strict=False)
