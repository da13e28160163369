"""Training the first stage: the image autoencoder, then its temporal decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..families.embedded import loading as embedded
from ..families.embedded import worlds
from ..networks.autoencoder import (
    AutoencoderConfig,
    TemporalDecoder,
    build_autoencoder,
    config_dict,
    encode,
    encode_moments,
)
from ..weights.checkpoints import Header, read_header, save
from .recipe import Recipe
from .videos import load_video, random_crop, training_videos, videos_folder


class FrameMixture:
    """Short clips of both worlds and, where available, of real videos."""

    def __init__(self, *, size: int, frames: int, real_share: float, max_size: int = 256):
        self.size, self.frames, self.max_size = size, frames, max_size
        self.videos = training_videos(videos_folder()) if real_share else []
        self.real_share = real_share if self.videos else 0.0

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Return [t, 3, size, size] float32 in [-1, 1]."""
        if random.random() < self.real_share:
            video = load_video(self.videos[random.integers(len(self.videos))])
            return random_crop(video, random, frames=self.frames, size=self.size)
        return self._rendered(random)

    def _rendered(self, random: np.random.Generator) -> np.ndarray:
        world = ("shapes", "driving")[random.integers(2)]
        scene = worlds.sample_scene(world, int(random.integers(2**31)))
        rate = (1.0, 0.25)[random.integers(2)]
        times = random.uniform(0, 15) + rate * np.arange(self.frames)
        scale = random.choice([1, 1, 2, self.max_size // self.size])
        side = self.size * int(scale)
        frames = worlds.render(scene, times=times, size=side)
        y, x = random.integers(side - self.size + 1, size=2)
        return frames[:, :, y : y + self.size, x : x + self.size]


class TrainAutoencoder:
    """Reconstruction of single frames, with a weak KL term."""

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        self.config = AutoencoderConfig(**recipe.model)
        self.module = build_autoencoder(self.config).to(memory_format=torch.channels_last)
        self.kl_weight = recipe.data.get("kl_weight", 1e-6)
        self.frames = FrameMixture(
            size=recipe.data["size"], frames=1, real_share=recipe.data.get("real_share", 0.0)
        )

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        frames = [self.frames.draw(random)[0] for _ in range(self.recipe.batch)]
        return {"frames": torch.from_numpy(np.stack(frames))}

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        frames = batch["frames"].contiguous(memory_format=torch.channels_last)
        mean, logvar = encode_moments(self.module, frames)
        mean, logvar = mean.float(), logvar.float()
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        out = self.module.decode(mean + torch.exp(0.5 * logvar) * noise).sample.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
        pixel, edge = reconstruction(out, batch["frames"])
        return {
            "loss": pixel + edge + self.kl_weight * kl,
            "kl": kl,
            "psnr": psnr(out, batch["frames"]),
        }

    def save(self, path: Path, notes: dict) -> None:
        """Write the weights, with the shift and scale that normalise the latents."""
        shift, scale = latent_statistics(self)
        config = config_dict(self.config) | {"scale": scale, "shift": shift}
        save(
            path,
            self.module.state_dict(),
            Header(family="embedded", kind="autoencoder", config=config, notes=notes),
        )


class TrainTemporalDecoder:
    """The decoder with temporal layers, on videos; the encoder stays frozen (Video LDM, 3.1.1).

    It starts from the image autoencoder's decoder, or with the sizes in ``model.decoder`` as a new
    decoder of the same latents.
    """

    def __init__(self, recipe: Recipe, cache: Path):
        self.recipe = recipe
        self.autoencoder = embedded.load_autoencoder()
        table = dict(recipe.model)
        sizes = table.pop("decoder", None)
        self.config = read_header(embedded.path_of("autoencoder")).config | (sizes or {})
        decoder = embedded.load_autoencoder()
        if sizes is not None:
            decoder = build_autoencoder(AutoencoderConfig(**embedded.tuples(self.config)))
        self.module = TemporalDecoder(decoder, **table)
        self.module.requires_grad_(True)
        embedded.without_encoder(self.module)
        self.frames = FrameMixture(
            size=recipe.data["size"],
            frames=recipe.data["frames"],
            real_share=recipe.data.get("real_share", 0.0),
            max_size=recipe.data.get("max_size", 256),
        )
        self.flicker_weight = recipe.data.get("flicker_weight", 1.0)

    def batch(self, step: int) -> dict:
        random = np.random.default_rng((self.recipe.seed, step))
        videos = [self.frames.draw(random) for _ in range(self.recipe.batch)]
        return {"video": torch.from_numpy(np.stack(videos))}

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, Tensor]:
        video = batch["video"]
        with torch.no_grad():
            latents = encode(self.autoencoder, video, chunk=64)
        out = self.module(latents).float()
        pixel, edge = reconstruction(out, video)
        flicker = F.l1_loss(out.diff(dim=1), video.diff(dim=1))
        return {
            "loss": pixel + edge + self.flicker_weight * flicker,
            "flicker": flicker,
            "psnr": psnr(out, video),
        }

    def save(self, path: Path, notes: dict) -> None:
        save(
            path,
            self.module.state_dict(),
            Header(
                family=embedded.FAMILY,
                kind="temporal_decoder",
                notes=notes,
                config={
                    "autoencoder": self.config,
                    "kernel": self.module.kernel,
                    "spatial": self.module.spatial,
                },
            ),
        )


def reconstruction(out: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(pixel, edge) losses of [..., h, w]: L1 + 2 MSE of the pixels, and half the L1 of the
    horizontal plus that of the vertical differences."""
    pixel = F.l1_loss(out, target) + 2.0 * F.mse_loss(out, target)
    edges = F.l1_loss(out.diff(dim=-1), target.diff(dim=-1)) + F.l1_loss(
        out.diff(dim=-2), target.diff(dim=-2)
    )
    return pixel, 0.5 * edges


def psnr(out: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for values in [-1, 1]."""
    return 10 * torch.log10(4 / F.mse_loss(out.detach(), target).clamp_min(1e-12))


@torch.no_grad()
def latent_statistics(task: TrainAutoencoder, batches: int = 4) -> tuple[float, float]:
    """(shift, scale) of the latents of some batches: mean, and inverse standard deviation."""
    module: nn.Module = task.module.eval()
    device = next(module.parameters()).device
    frames = torch.cat([task.batch(10**9 + i)["frames"] for i in range(batches)]).to(device)
    means = encode_moments(module, frames)[0]
    return float(means.mean()), float(1 / means.std())
