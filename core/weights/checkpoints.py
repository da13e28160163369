"""Files ↔ state dicts ↔ models. No architecture opens a file; this module does it for all of them.

Files written here are safetensors whose metadata holds, as JSON under ``videoldm``, the family, the
kind of part and the configuration it was built from, so nothing is guessed from names.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..graph.messages import shown, shown_path, written

METADATA_KEY = "videoldm"
FOREIGN_KEY = "videoldm.source"
"""Metadata key of the same header in files that keep a published format; :func:`read_header`
ignores it, so they are recognised by their keys like any foreign file."""


class CheckpointError(ValueError):
    """A weight file is missing, unreadable or does not fit the model; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A file's description: ``family`` and ``kind`` choose the code, ``config`` its sizes."""

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
    """Write ``state`` as safetensors, floating-point tensors cast to ``dtype`` (None: as is)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: _cast(v, dtype).detach().cpu().contiguous() for k, v in state.items()}
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={metadata_key: json.dumps(vars(header), sort_keys=True)})
    os.replace(temporary, path)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def read_header(path: str | os.PathLike) -> Header | None:
    """Read the header of a file written by :func:`save`; None for a foreign safetensors file.

    Raises CheckpointError for a broken header.
    """
    with open_safetensors(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if not text:
        return None
    name = Path(path).name
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} has a broken header: {reason_of(error)}") from None
    wanted = {"family": str, "kind": str, "config": dict, "notes": dict}
    if not isinstance(found, dict) or not set(found) <= set(wanted):
        raise CheckpointError(f"{name} has a header without family, kind and config")
    for key, kind in wanted.items():
        value = found.get(key, {} if key == "notes" else None)
        if not isinstance(value, kind):
            is_a = "a text" if kind is str else "a table"
            given = written(value)
            raise CheckpointError(f"{name} has a broken header: {key} must be {is_a}, got {given}")
    return Header(**found)


def read_state(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file (memory mapped, on the CPU)."""
    with open_safetensors(path):
        try:
            return load_file(path)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise _unreadable(path, error) from None


def open_safetensors(path: str | os.PathLike) -> Any:
    """Open a safetensors file; raises CheckpointError if it is missing or not one."""
    if os.path.isdir(path):
        raise CheckpointError(f"{shown_path(path)} is a folder, expected a file of weights")
    if not os.path.exists(path):
        raise CheckpointError(f"no weight file at {shown_path(path)}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike, error: Exception) -> CheckpointError:
    name = Path(path).name
    if not os.access(path, os.R_OK):
        return CheckpointError(f"{name} cannot be read: no permission")
    return CheckpointError(f"{name} is not a readable safetensors file: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """The first line of an error's message (with the second if it ends in a colon), at most 120
    characters, or the error's type if there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = 2 if lines and lines[0].endswith(":") else 1
    return shown(" ".join(lines[:count]), 120) or type(error).__name__


@contextmanager
def broken_config(name: str) -> Iterator[None]:
    """Turn any error from building a model from a file's configuration (a field is missing, null
    or of the wrong type) into a CheckpointError about the file."""
    try:
        yield
    except CheckpointError as error:
        if name in str(error):
            raise
        raise CheckpointError(f"{name} has a broken configuration: {_reason(error)}") from None
    # Libraries validate their arguments with all kinds of exceptions.
    except Exception as error:
        raise CheckpointError(f"{name} has a broken configuration: {_reason(error)}") from None


_FIELD = re.compile(r"(unexpected|missing) .*?argument:? '(\w+)'")

_TYPED_FIELD = re.compile(r"[Ff]ield '(\w+)' expected \w+, got")


def _reason(error: Exception) -> str:
    """What is wrong with a configuration, in words for someone who does not know Python."""
    text = str(error)
    if typed := _TYPED_FIELD.search(text):
        return f"'{typed[1]}' is null or of a wrong type"
    if found := _FIELD.search(text):
        return f"'{found[2]}' is {'missing' if found[1] == 'missing' else 'not known'}"
    if isinstance(error, KeyError):
        return f"{text} is missing"
    if isinstance(error, MemoryError) or "allocate" in text:
        return "its sizes need more memory than there is"
    if isinstance(error, (TypeError, AttributeError, IndexError, AssertionError)):
        return "a field is null or of a wrong type"
    return "a field is null or of a wrong type" if "NoneType" in text else reason_of(error)


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Assign ``state`` to ``module`` strictly, cast to ``dtype``; the module may be on ``meta``.

    Raises CheckpointError with the number of keys that do not fit and the first five of them.
    """
    own = module.state_dict()
    complain("lacks", name, [key for key in own if key not in state])
    complain("has unknown", name, [key for key in state if key not in own])
    complain(
        "has misshapen",
        name,
        [
            f"{shown(key)} {_sizes(state[key])} instead of {_sizes(own[key])}"
            for key in own
            if state[key].shape != own[key].shape
        ],
    )
    complain(
        "has no floating-point numbers at",
        name,
        [
            f"{shown(key)} ({str(state[key].dtype).removeprefix('torch.')})"
            for key in own
            if own[key].is_floating_point() and not state[key].is_floating_point()
        ],
    )
    module.load_state_dict({k: _cast(v, dtype) for k, v in state.items()}, assign=True)
    return module.requires_grad_(False).eval()


def _sizes(tensor: Tensor) -> str:
    return str(tuple(tensor.shape)) if tensor.ndim else "a single number"


def complain(what: str, name: str, keys: Iterable[Any]) -> None:
    """Raise CheckpointError if there are ``keys``, with their number and the first five."""
    keys = list(keys)
    if keys:
        raise CheckpointError(f"{name} {what} keys ({len(keys)}): {listed(keys)}")


def listed(keys: Iterable[Any]) -> str:
    """The first five keys for a message, each printable and cut to a readable length."""
    return ", ".join(shown(key) or "''" for key in itertools.islice(keys, 5))


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below ``prefix``, with the prefix removed."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
