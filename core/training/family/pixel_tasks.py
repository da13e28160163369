"""The parts that are trained on pixels: autoencoder, temporal decoder and upsampler."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...families.embedded import loading as embedded
from ..autoencoder_tasks import TrainAutoencoder, TrainTemporalDecoder
from ..upsampler_task import TrainUpsampler
from .drawn import indices
from .material import Material
from .plan import Part

NOWHERE = Path()
"""These tasks cache no latents."""


class OnMaterial:
    """A task with one kind of step, on the family's clips."""

    pattern = (0,)

    def __init__(self, part: Part, material: Material):
        super().__init__(part, NOWHERE)
        self.material = material


class Autoencoder(OnMaterial, TrainAutoencoder):
    """See the base class; frames of all sets of clips."""

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        return {"": self.module}

    def place(self, device: torch.device) -> None:
        self.module.to(device)

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        count, size = self.recipe.batch, self.recipe.data["size"]
        video = self.material.mixture(count, frames=1, size=size, generator=generator)
        return {"frames": video[:, 0]}

    def batch(self, step: int) -> dict[str, Tensor]:
        """A training batch, for the statistics of the latents."""
        device = self.material.device
        generator = torch.Generator(device).manual_seed(step)
        return self.draw_batch(0, generator)


class TemporalDecoder(OnMaterial, TrainTemporalDecoder):
    """See the base class; videos from the same clips as the autoencoder's."""

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        return {"": self.module}

    def place(self, device: torch.device) -> None:
        self.module.to(device)
        self.autoencoder.to(device)

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        data = self.recipe.data
        shape = dict(frames=data["frames"], size=data["size"])
        return {"video": self.material.mixture(self.recipe.batch, generator=generator, **shape)}


class Upsampler(OnMaterial, TrainUpsampler):
    """See the base class; crops of large frames."""

    @property
    def saved_modules(self) -> dict[str, nn.Module]:
        return {"unet.": self.unet, "layers.": self.layers}

    def place(self, device: torch.device) -> None:
        self.module.to(device)
        self.autoencoder.to(device)
        self.empty = self.empty.to(device)

    def draw_batch(self, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        data, count = self.recipe.data, self.recipe.batch
        shape = dict(frames=data["frames"], size=data["size"])
        return {
            "video": self.material.large(count, generator=generator, **shape),
            "levels": indices(embedded.MAX_NOISE_LEVEL, count, generator),
        }
