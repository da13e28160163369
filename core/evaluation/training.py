"""One training step of the recipes for published image models at full size, on tensors without data
(`FakeTensorMode`), so that it needs none of the memory it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from ..diffusion.schedules import scaled_linear
from ..families import stable_diffusion as published
from ..families import stable_diffusion_folders as folders
from ..families.stable_diffusion_specs import SPECS
from ..text.clip_vocabulary import ClipTokenizer
from ..training.optimizer import MuonAdamW
from ..training.recipe import Recipe, load_recipe
from ..training.video_decoder_task import TrainVideoDecoder
from ..training.video_layers_task import TrainUpsamplerLayers, TrainVideoLayers
from .memory import Allocations

RECIPES = {
    "sd15_prediction": "stable diffusion 1",
    "sd15_interpolation": "stable diffusion 1",
    "sd21_prediction": "stable diffusion 2",
    "sd21_interpolation": "stable diffusion 2",
    "x4_upsampler": "stable diffusion x4 upscaler",
}
"""The image model of each recipe."""
TASKS: dict[str, Callable[..., TrainVideoLayers]] = {
    "video_layers": TrainVideoLayers,
    "upsampler_layers": TrainUpsamplerLayers,
}


DECODER = "decoder_fine_tuning"
"""The recipe for decoders, here that of Stable Diffusion 1."""
LAYERS = ("network.sets.0.", "decoder.layers.", "discriminator.")
"""Prefixes of the parameters that should be trained: temporal layers, and the discriminator."""


@dataclass(frozen=True)
class Step:
    """One training step. trained, frozen: numbers of parameters. trained_tensors: number of trained
    tensors. moved: names of the parameters with a gradient. peak: peak bytes, with weights,
    gradients and optimiser states."""

    recipe: str
    trained: int
    trained_tensors: int
    frozen: int
    moved: tuple[str, ...]
    peak: int


def untrained(family: str) -> published.ImageModel:
    """An image model of published size, without weights."""
    spec = SPECS[family]
    schedule = scaled_linear(start=spec.betas[0], end=spec.betas[1])
    unet, autoencoder, text = (
        folders.build_unet(spec.unet),
        folders.build_autoencoder(spec.autoencoder),
        folders.build_text_encoder(spec.text),
    )
    model = published.model_of(
        unet, spec.autoencoder, schedule, spec.prediction or "v",
        schedule if spec.max_noise_level else None, spec.max_noise_level,
    )  # fmt: skip
    tokenizer = ClipTokenizer(spec.padding)
    return published.ImageModel(model, text, tokenizer, published.CLIP_LENGTH, autoencoder)


def full_size_step(name: str) -> Step:
    """A step of a recipe in RECIPES with one clip, rendered at the size of its patches."""
    recipe = load_recipe(name)
    data = recipe.data | {"size": recipe.data.get("patch", recipe.data["size"])}
    recipe = replace(recipe, batch=1, data=data)
    image = untrained(RECIPES[name])
    with torch.device("meta"):
        task = TASKS[recipe.task](recipe, Path(), image)
    return _measured(recipe, task)


def decoder_step() -> Step:
    """A step of DECODER, its discriminator included."""
    recipe = load_recipe(DECODER, ("batch=1", "data.losses.disc_start=0"))
    image = folders.build_autoencoder(SPECS["stable diffusion 1"].autoencoder)
    with torch.device("meta"):
        task = TrainVideoDecoder(recipe, Path(), image)
    return _measured(recipe, task)


def _measured(recipe: Recipe, task: TrainVideoLayers | TrainVideoDecoder) -> Step:
    """Take a step of a task on the meta device."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, Allocations() as memory:
        task.module.to_empty(device="cpu")
        with unset_fake_temporarily():
            batch = task.batch(0)
        batch = {k: fake.from_tensor(v) if isinstance(v, Tensor) else v for k, v in batch.items()}
        optimizer = MuonAdamW(task.module, lr=recipe.learning_rate, weight_decay=0.0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(batch, torch.Generator().manual_seed(0))["loss"]
        loss.backward()
        optimizer.step()
    parameters = dict(task.module.named_parameters())
    return Step(
        recipe=recipe.name,
        trained=sum(p.numel() for p in parameters.values() if p.requires_grad),
        trained_tensors=sum(p.requires_grad for p in parameters.values()),
        frozen=sum(p.numel() for p in parameters.values() if not p.requires_grad),
        moved=tuple(k for k, p in parameters.items() if p.grad is not None),
        peak=memory.peak,
    )


def report() -> tuple[dict[str, Any], str]:
    """(values, text) of every recipe."""
    steps = [*map(full_size_step, RECIPES), decoder_step()]
    found = {
        one.recipe: {
            "trained": one.trained,
            "frozen": one.frozen,
            "peak": one.peak,
            "outside": [name for name in one.moved if not name.startswith(LAYERS)],
        }
        for one in steps
    }
    return found, "\n".join(_line(one, found[one.recipe]["outside"]) for one in steps)


def _line(step: Step, outside: list[str]) -> str:
    where = "what is trained alone" if not outside else f"also {', '.join(outside[:3])}"
    return (
        f"{step.recipe}: {step.trained / 1e6:.1f} M trained, {step.frozen / 1e6:.1f} M frozen; a "
        f"step with one clip takes {step.peak / 1e9:.1f} GB at most; gradients in {where}"
    )
