"""Weights of recorded cases that are a function of a seed, the published name and the shape, so
that they need not be stored: uniform numbers of SHA-256 and splitmix64, scaled by the fan-in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

INCREMENT = 0x9E3779B97F4A7C15
CHUNK = 1 << 16
"""Numbers made at a time: few enough for a core's cache."""


def tensor(seed: int, key: str, shape: Sequence[int], half: bool = False) -> Tensor:
    """The tensor of a published key, prefix included. half: rounded to float16 and back."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    base = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "little")
    count = math.prod(shape)
    flat = np.empty(count, dtype=np.float32)
    for start in range(0, count, CHUNK):
        numbers = uniform(base, start, min(CHUNK, count - start))
        flat[start : start + CHUNK] = scaled(numbers, key, shape)
    found = torch.from_numpy(flat).reshape(tuple(shape))
    return found.half().float() if half else found


def uniform(base: int, start: int, count: int) -> np.ndarray:
    """Numbers in [-1, 1), from the start-th on."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z *= np.uint64(INCREMENT)
    z += np.uint64(base)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    z >>= np.uint64(40)
    numbers = z.astype(np.float64)
    numbers *= 2.0**-23
    numbers -= 1
    return numbers


def scaled(numbers: np.ndarray, key: str, shape: Sequence[int]) -> np.ndarray:
    if len(shape) >= 2:
        return numbers * math.sqrt(3 / math.prod(shape[1:]))
    last = key.rpartition(".")[2]
    if last == "running_var":
        return 1 + 0.5 * numbers
    return 1 + 0.2 * numbers if last == "weight" else 0.1 * numbers


def weights(told: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The tensors of a case's recipe for keys without its prefix."""
    prefix, half = told.get("prefix", ""), told.get("round") == "float16"
    return {k: tensor(told["seed"], prefix + k, shape, half) for k, shape in shapes.items()}
