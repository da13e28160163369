"""LATENT files in ComfyUI's format: safetensors with the raw latents and a version mark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..tensors import latents_of

if TYPE_CHECKING:
    from ..interface import FolderAccess

TENSOR, MARK = "latent_tensor", "latent_format_version_0"
UNMARKED_SCALE = 0.18215
"""Files without the mark are of older versions of ComfyUI, which scaled the latents by this."""


def save_latent(
    folders: FolderAccess, latent: Mapping[str, Any], prefix: str, metadata: Mapping[str, str]
) -> Path:
    """Write a LATENT and return the file; ValueError for one with a bad shape or NaN."""
    latents_of(latent)
    return _save(folders, latent, prefix, metadata)


def save_unfinished(folders: FolderAccess, latent: Mapping[str, Any]) -> Path:
    """Write the finished part of a video whose sampling ended early, even one with NaN."""
    return _save(folders, latent, "latents/unfinished", {})


def _save(
    folders: FolderAccess, latent: Mapping[str, Any], prefix: str, metadata: Mapping[str, str]
) -> Path:
    samples = latent["samples"].detach().cpu().contiguous()
    file = folders.new_file(prefix, ".latent")
    with file.writing() as partial:
        save_file({TENSOR: samples, MARK: torch.zeros(0)}, partial, metadata=dict(metadata) or None)
    return file.path


def load_latent(path: Path) -> dict[str, Any]:
    """Read a LATENT; ValueError for a file that holds none."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is not a readable file of latents: {error}") from None
    if TENSOR not in found:
        first = ", ".join(list(found)[:5])
        raise ValueError(f"{path.name} holds {first or 'nothing'} instead of latents")
    samples = found[TENSOR].float()
    latent = {"samples": samples if MARK in found else samples / UNMARKED_SCALE}
    latents_of(latent)
    return latent
