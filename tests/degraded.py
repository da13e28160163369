"""Degrades rendered clips as a lossy autoencoder does."""

from __future__ import annotations

import numpy as np


def degraded(frames: np.ndarray, seed: int) -> np.ndarray:
    """Frames [t 3 h w] in [-1, 1], blurred, tinted and with noise."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    frames = ndimage.gaussian_filter(frames, (0, 0, 0.8, 0.8))
    frames = frames + rng.normal(0, 0.06, frames.shape) + rng.uniform(-0.08, 0.08, (1, 3, 1, 1))
    return np.clip(frames, -1, 1)
