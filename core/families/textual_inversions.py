"""Textual inversions (Gal et al. 2022): learned token embeddings, in the file formats in use.

Supported are the web UI's pickles (`string_to_param`), diffusers' files (the token is the key), and
safetensors with `emb_params`, or with one tensor per text encoder (`clip_l`, `clip_g`, `clip_h`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..weights.checkpoints import CheckpointError, read_state
from ..weights.weight_files import is_safetensors, read_pickle

ENCODERS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
"""The key that files use for the text encoder with embeddings of this width."""


def read(path: Path, width: int) -> Tensor:
    """The embeddings [n, d], float32, for a text encoder of this width; if a file has none of that
    width, its first ones, except from lists. Raises CheckpointError if none are found."""
    found = read_state(path) if is_safetensors(path) else read_pickle(path)
    vectors = _chosen(found, width)
    if vectors is None:
        raise CheckpointError(f"{path.name} holds no vectors of a textual inversion")
    return vectors.detach().float()


def _chosen(found: Any, width: int) -> Tensor | None:
    if isinstance(found, Mapping) and "string_to_param" in found:
        return next(_matrices(found["string_to_param"]), None)
    if isinstance(found, (list, tuple)):
        fitting = [one for part in found for one in _matrices(part) if one.shape[1] == width]
        return torch.cat(fitting) if fitting else None
    if not isinstance(found, Mapping):
        return next(_matrices({"": found}), None)
    if ENCODERS.get(width) in found:
        return next(_matrices({"": found[ENCODERS[width]]}), None)
    bundled = [one for one in _bundled(found) if one.shape[1] == width]
    return torch.cat(bundled) if bundled else next(_matrices(found), None)


def _bundled(found: Mapping[str, Any]) -> Iterator[Tensor]:
    """Embeddings bundled with a LoRA."""
    for key, value in found.items():
        if str(key).startswith("bundle_emb."):
            yield from _matrices({key: value})


def _matrices(found: Any) -> Iterator[Tensor]:
    """The tensors [n, d] or [d] of a mapping, as [n, d]."""
    values = found.values() if isinstance(found, Mapping) else ()
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim in (1, 2):
            yield value.reshape(-1, value.shape[-1])
