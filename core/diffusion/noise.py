"""Seeded noise per frame: frame 37 gets the same noise in whichever chunk it is drawn.

Every draw has an address (seed, stream, frame) with a generator of its own, so results do not
depend on batch size, window order or where a long video was cut. Noise is drawn on the CPU and
moved, so that it does not depend on the device either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isinf

import torch
from torch import Tensor

StepNoise = Callable[[int, Tensor], Tensor]
"""noise(step, x) -> standard normal tensor like x; called by stochastic samplers."""


def stream_generator(seed: int, stream: str, frame: int) -> torch.Generator:
    """A CPU generator for one address. Hashing keeps neighbouring seeds and frames unrelated."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{frame}".encode(), digest_size=8).digest()
    # torch's CPU generator uses only 32 bits of its seed: among 50,000 addresses two may collide,
    # which nobody would notice.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def frame_noise(
    seed: int,
    frames: Sequence[int],
    shape: tuple[int, int, int],
    *,
    stream: str = "initial",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Noise [1 t c h w] for the absolute frame numbers `frames`; shape is (c, h, w)."""
    if len(frames) == 0:
        raise ValueError("Noise was asked for 0 frames.")
    drawn = [torch.randn(shape, generator=stream_generator(seed, stream, f)) for f in frames]
    return torch.stack(drawn)[None].to(device, dtype)


@dataclass(frozen=True)
class NoiseSource:
    """The randomness of one run; calling it with (step, x) makes it a :data:`StepNoise`.

    seeds: one per video of the batch. frames: absolute frame numbers of axis 1, or None for
    0, 1, 2, ... shared: alpha of the noise common to all frames of a video (see `mixed_noise`).
    """

    seeds: tuple[int, ...]
    frames: tuple[int, ...] | None = None
    shared: float = 0.0

    def __call__(self, step: int, x: Tensor) -> Tensor:
        """Noise like x [b t c h w] for sampling step `step`."""
        return self._mixed(x, f"step {step}")

    def initial(self, x: Tensor) -> Tensor:
        """Noise like x [b t c h w] to start sampling from."""
        return self._mixed(x, "initial")

    def _mixed(self, x: Tensor, stream: str) -> Tensor:
        noise = self.like(x, stream=stream)
        if not self.shared:
            return noise
        shared = self.for_frames((0,)).like(x[:, :1], stream=f"{stream}, shared")
        return mixed_noise(noise, shared, self.shared)

    def like(self, x: Tensor, *, stream: str) -> Tensor:
        """Noise like x [b t c h w] from a named stream such as "augmentation", independent between
        frames. Raises ValueError if the batch or frame count differs from x's."""
        frames = range(x.shape[1]) if self.frames is None else self.frames
        if x.ndim != 5 or (len(self.seeds), len(frames)) != tuple(x.shape[:2]):
            raise ValueError(
                f"Noise for {len(self.seeds)} videos of {len(frames)} frames does not fit "
                f"a tensor of shape {tuple(x.shape)}."
            )
        shape = tuple(x.shape[2:])
        drawn = [frame_noise(seed, frames, shape, stream=stream) for seed in self.seeds]
        return torch.cat(drawn).to(x)

    def for_frames(self, frames: Sequence[int]) -> NoiseSource:
        """The same randomness seen from a window or chunk of the video."""
        return replace(self, frames=tuple(frames))


# --------------------------------------------------------------------------------------------------
# Noise shared between frames.


def free_noise_indices(frames: int, window: int, overlap: int, seed: int) -> list[int]:
    """For each frame, the frame whose noise it uses (FreeNoise, Qiu et al. 2023).

    The first `window` frames keep their own. Every further block of window - overlap frames
    shuffles the block that starts `window` frames earlier, so each window sees the same set of
    noise in another order. The last block may be shorter.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"The overlap {overlap} must be smaller than the window {window}.")
    generator = torch.Generator().manual_seed(seed)
    indices = list(range(min(frames, window)))
    while len(indices) < frames:
        start = len(indices) - window
        block = indices[start : start + min(window - overlap, frames - len(indices))]
        indices += [block[i] for i in torch.randperm(len(block), generator=generator).tolist()]
    return indices


def free_noise(noise: Tensor, window: int, overlap: int, seed: int) -> Tensor:
    """Noise [b t c h w] with its frames rescheduled by `free_noise_indices`."""
    return noise[:, free_noise_indices(noise.shape[1], window, overlap, seed)]


def mixed_noise(noise: Tensor, shared: Tensor, alpha: float) -> Tensor:
    """Noise with a part common to all frames ("mixed" noise, Ge et al. 2023): noise [b t c h w],
    shared [b 1 c h w].

    Any two frames have correlation alpha^2 / (1 + alpha^2); each stays standard normal. With alpha
    infinite, all frames get the same noise.
    """
    if isinf(alpha):
        return shared.expand_as(noise)
    return (noise + alpha * shared) / (1 + alpha**2) ** 0.5
