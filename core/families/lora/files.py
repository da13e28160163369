"""Adapter files -> tensors by name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...weights.checkpoints import CheckpointError
from ...weights.weight_files import is_safetensors, read_metadata, read_weights

_PEFT = "lora_adapter_metadata"


def read_lora(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read an adapter file, .safetensors or a pickle of tensors alone (AnimateDiff's domain
    adapter).

    PEFT's alphas, which are in the metadata, are added as ``.alpha`` keys.
    """
    path = Path(path)
    state = {k.removeprefix("module."): v for k, v in read_weights(path).items()}
    text = read_metadata(path).get(_PEFT) if is_safetensors(path) else None
    return state | dict(_alphas(_json(text, path.name), state, path.name)) if text else state


def _json(text: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} has metadata that is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{name} has PEFT metadata that is not a table of settings")
    return found


def _alphas(
    config: Mapping[str, Any], state: Mapping[str, Tensor], name: str
) -> Iterator[tuple[str, Tensor]]:
    """One alpha per module from PEFT's metadata, which has them per part of the model and, by
    patterns of paths, for single modules."""
    ending = ".lora_A.weight"
    for part in ("unet", "text_encoder"):
        usual = config.get(f"{part}.lora_alpha")
        patterns = config.get(f"{part}.alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise CheckpointError(f"{name} has an alpha_pattern that is not a table: {patterns!r}")
        by_root = bool(config.get(f"{part}.use_rslora"))  # scale alpha / sqrt(rank)
        for key in state:
            if not (key.startswith(f"{part}.") and key.endswith(ending)):
                continue
            path = key.removesuffix(ending)
            alpha = next((a for p, a in patterns.items() if _is_named(path, p, name)), usual)
            if alpha is None:
                continue
            if not isinstance(alpha, (int, float)):
                raise CheckpointError(f"{name} has the alpha {alpha!r} for {path}, not a number")
            yield f"{path}.alpha", torch.tensor(alpha * (len(state[key]) ** 0.5 if by_root else 1))


def _is_named(path: str, pattern: str, name: str) -> bool:
    """Whether PEFT's pattern, the end of a path, matches this path.

    PEFT also allows regular expressions. An untrusted one could run for ever, and files have none.
    """
    if not re.fullmatch(r"[\w.^]+", pattern):
        raise CheckpointError(f"{name} has the path pattern {pattern!r}, which is not a plain path")
    return f".{path}".endswith(f".{pattern.lstrip('^')}")
