"""Files ↔ state dicts ↔ models. No architecture opens a file; this module does it for all of them.

A file written here is a safetensors file whose metadata carries, as JSON under ``videoldm``, the
family, the kind of part and the configuration it was built from, so nothing is guessed from names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

METADATA_KEY = "videoldm"
FOREIGN_KEY = "videoldm.source"
"""Of the same header in a file that keeps a published format, which is read by what it holds."""


class CheckpointError(ValueError):
    """A weight file is missing, unreadable or does not fit; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself: ``family`` and ``kind`` choose the code, ``config`` its size."""

    family: str
    kind: str
    config: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)


def save(
    path: str | os.PathLike,
    state: Mapping[str, Tensor],
    header: Header,
    dtype: torch.dtype | None = torch.float16,
    *,
    metadata_key: str = METADATA_KEY,
) -> None:
    """Write ``state`` as safetensors, floating tensors cast to ``dtype`` (None keeps them)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: _cast(v, dtype).detach().cpu().contiguous() for k, v in state.items()}
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={metadata_key: json.dumps(vars(header), sort_keys=True)})
    os.replace(temporary, path)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def read_header(path: str | os.PathLike) -> Header | None:
    """Read the header of a file of this project; None for a foreign safetensors file."""
    with _open(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    try:
        return Header(**json.loads(text)) if text else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(path).name} has a broken header: {error}") from None


def read_state(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file (memory mapped, on the CPU)."""
    with _open(path):
        return load_file(path)


def _open(path: str | os.PathLike):
    if not Path(path).is_file():
        raise CheckpointError(f"no weight file at {path}")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(
            f"{Path(path).name} is not a readable safetensors file: {error}"
        ) from None


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Assign ``state`` to ``module`` strictly, cast to ``dtype``; the module may be on ``meta``.

    Raises CheckpointError that counts and names the first five keys that do not fit.
    """
    own = module.state_dict()
    complain("lacks", name, [key for key in own if key not in state])
    complain("has unknown", name, [key for key in state if key not in own])
    complain(
        "has misshapen",
        name,
        [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if state[key].shape != own[key].shape
        ],
    )
    module.load_state_dict({k: _cast(v, dtype) for k, v in state.items()}, assign=True)
    return module.requires_grad_(False).eval()


def complain(what: str, name: str, keys: list[str]) -> None:
    """Raise CheckpointError if ``keys`` is not empty, naming the first five of them."""
    if keys:
        raise CheckpointError(f"{name} {what} keys ({len(keys)}): {', '.join(keys[:5])}")


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below ``prefix``, with the prefix removed."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
