"""Training LVDM's 3D autoencoder, which compresses videos in space and time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..families import lvdm
from ..families.embedded import loading as embedded
from ..families.embedded import worlds
from ..networks.autoencoder_3d import Autoencoder3D, Autoencoder3DConfig
from ..weights.checkpoints import save
from ..weights.weight_files import read_weights
from .autoencoder_3d_losses import AutoencoderLoss, LossSettings, Pair, last_weight
from .autoencoder_tasks import psnr
from .discriminator import PatchDiscriminator
from .perceptual import PerceptualDistance, encoder_distance, lpips_from
from .recipe import Recipe


class TrainAutoencoder3D:
    """Reconstruction of rendered videos; the losses are in `autoencoder_3d_losses`.

    One optimiser updates the autoencoder and the discriminator, each by its own loss. In the
    recipe, `model` has the sizes of the network, `data.losses` the weights of the losses,
    `data.judged` the number of frames per batch that the expensive terms look at, and
    `data.perceptual` a training checkpoint with the weights of LPIPS; without it the distance uses
    the features of the embedded image autoencoder.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        data = recipe.data
        self.frames, self.size = data["frames"], data["size"]
        self.shapes_share = data.get("shapes_share", 0.5)
        self.autoencoder = Autoencoder3D(Autoencoder3DConfig(**embedded.tuples(recipe.model)))
        self.judge = AutoencoderLoss(
            _distance(data.get("perceptual")),
            PatchDiscriminator(**data.get("discriminator", {})),
            LossSettings(**data.get("losses", {})),
        )
        self.module = nn.ModuleDict({"autoencoder": self.autoencoder, "judge": self.judge})

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        videos = np.stack([self._video(random) for _ in range(self.recipe.batch)])
        return {"video": torch.from_numpy(videos), "step": step}

    def _video(self, random: np.random.Generator) -> np.ndarray:
        """A rendered clip [t 3 h w] that starts anywhere in a scene, as long videos go on."""
        world = "shapes" if random.random() < self.shapes_share else "driving"
        scene = worlds.sample_scene(world, int(random.integers(2**31)))
        latest = 15.0 if world == "shapes" else self.recipe.data.get("latest_start", 60.0)
        times = random.uniform(0, latest) + np.arange(self.frames)
        return worlds.render(scene, times=times, size=self.size)

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        video, module = batch["video"], self.autoencoder
        posterior = module.posterior(video)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=video.device)
        made = module(module.scaled(posterior.sample(noise))).float()
        count = len(video) * self.frames
        order = torch.randperm(count, generator=generator, device=video.device)
        selected = order[: self.recipe.data.get("judged", count)]
        pair = Pair(video=video, reconstruction=made, selected=selected)
        if batch["step"] < self.judge.settings.disc_start:
            found = self.judge.without_discriminator(pair, posterior)
        else:
            found = self.judge(pair, posterior, last_weight(module), batch["step"])
        # Per element, to keep the learning rate independent of the size of the frames.
        loss = found.autoencoder / video[0, 0].numel() + found.discriminator
        return {
            "loss": loss,
            "kl": found.kl,
            "adversarial": found.generator,
            "discriminator": found.discriminator,
            "psnr": psnr(made, video),
        }

    def save(self, path: Path, notes: dict) -> None:
        """Write the weights, with the shift and scale that normalise the latents."""
        shift, scale = self.latent_statistics()
        config = replace(self.autoencoder.config, scale=scale, shift=shift)
        save(path, self.autoencoder.state_dict(), lvdm.autoencoder_header(config, notes))

    @torch.no_grad()
    def latent_statistics(self, batches: int = 8) -> tuple[float, float]:
        """(shift, scale): latents are (raw + shift) * scale."""
        module = self.autoencoder.eval()
        device = next(module.parameters()).device
        means = [
            module.posterior(self.batch(10**9 + i)["video"].to(device)).mean for i in range(batches)
        ]
        means = torch.cat(means)
        return -float(means.mean()), float(1 / means.std())


def _distance(path: str | None) -> PerceptualDistance:
    if path is None:
        return encoder_distance(embedded.load_autoencoder())
    return lpips_from(read_weights(Path(path).expanduser()), Path(path).name)
