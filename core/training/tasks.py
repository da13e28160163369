"""The interface of a training task, and the registry of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .recipe import Recipe


class Task(Protocol):
    """A training task. Only parameters of ``module`` with ``requires_grad`` are updated."""

    module: nn.Module

    def batch(self, step: int) -> dict:
        """Make the batch of ``step``: a pure function of the recipe's seed and the step."""

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the scalars to log; ``loss`` is the one that is minimised."""

    def save(self, path: Path, notes: dict) -> None:
        """Write the trained weights as safetensors."""


def build_task(recipe: Recipe, cache: Path) -> Task:
    """Construct a recipe's task; ``cache`` is the folder for encoded videos."""
    from . import (
        autoencoder_3d_task,
        autoencoder_tasks,
        given_frames_task,
        image_model_task,
        joint_tasks,
        temporal_layers_task,
        upsampler_task,
        video_decoder_task,
        video_layers_task,
    )

    tasks = {
        "autoencoder": autoencoder_tasks.TrainAutoencoder,
        "autoencoder_3d": autoencoder_3d_task.TrainAutoencoder3D,
        "image_model": image_model_task.TrainImageModel,
        "temporal_layers": temporal_layers_task.TrainTemporalLayers,
        "joint": joint_tasks.TrainJoint,
        "given_frames": given_frames_task.TrainGivenFrames,
        "upsampler": upsampler_task.TrainUpsampler,
        "temporal_decoder": autoencoder_tasks.TrainTemporalDecoder,
        "video_decoder": video_decoder_task.TrainVideoDecoder,
        "video_layers": video_layers_task.TrainVideoLayers,
        "upsampler_layers": video_layers_task.TrainUpsamplerLayers,
    }
    if recipe.task not in tasks:
        raise ValueError(
            f"recipe {recipe.name}: task must be one of {', '.join(tasks)}, not {recipe.task!r}"
        )
    return tasks[recipe.task](recipe, cache)
