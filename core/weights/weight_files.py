"""Reads weight files of any origin. The format is detected from the first bytes, not from the file
name. From pickles only tensors are read; no code in them runs."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..graph.messages import printable, shown_path
from .checkpoints import (
    CheckpointError,
    Header,
    open_safetensors,
    read_header,
    read_state,
    reason_of,
)

WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "model", "module", "ema", "params",
            "controlnet")  # fmt: skip
"""Keys under which trainers store the weights in a pickle, tried in this order."""

_OTHER_FILES = {
    b"version https://git-lfs": "a pointer of Git LFS; download the file that it stands for",
    b"<!doctype html": "a web page; the download of the weights failed",
    b"<html": "a web page; the download of the weights failed",
    b"GGUF": "in the format GGUF, which is not supported",
    b"\x89HDF": "in the format HDF5, which is not supported",
}


class _StandIn:
    """Replaces a trainer's object in a pickle: accepts any arguments and state, keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


# What training checkpoints hold besides tensors: the best score of a callback, and the run's
# settings as OmegaConf or argparse objects. The classes named here are never imported; torch's
# restricted unpickler gets empty stand-ins of the same name instead.
_TRAINERS_OBJECTS = {
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "numpy.core.multiarray": "scalar",
    "numpy._core.multiarray": "scalar",
    "numpy": "dtype",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.nodes": "AnyNode StringNode IntegerNode FloatNode BooleanNode PathNode",
    "argparse": "Namespace",
    "pathlib": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "collections": "defaultdict",
    "typing": "Any",
    "builtins": "dict list int float str bool",
}
STAND_INS = [
    type(name, (_StandIn,), {"__module__": module})
    for module, names in _TRAINERS_OBJECTS.items()
    for name in names.split()
]

_REFUSED_CLASS = re.compile(r"GLOBAL (\S{1,100}) was not an allowed global")
"""The error of torch's restricted unpickler for any other class."""

# Torch 2.4 lacks safe_globals: files with anything besides tensors are refused there.
_allowed = getattr(torch.serialization, "safe_globals", nullcontext)


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: 8 bytes of length, then JSON; or named so and no
    pickle, so that a broken one is reported as such.

    Raises CheckpointError for a file that is missing, unreadable or known to hold no weights.
    """
    head = _first_bytes(path)
    for mark, what in _OTHER_FILES.items():
        if head[: len(mark)].lower() == mark.lower():
            raise CheckpointError(f"{path.name} is {what}")
    if head[8:9] == b"{":
        return True
    is_pickle = head[:4] == b"PK\x03\x04" or head[:1] == b"\x80"
    return not is_pickle and path.suffix in (".safetensors", ".sft")


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(f"{shown_path(path)} is a folder, expected a file of weights")
    if path.exists() and not path.is_file():  # Reading a pipe can block, a device never ends.
        raise CheckpointError(
            f"{shown_path(path)} is a pipe or a device, expected a file of weights"
        )
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"no weight file at {shown_path(path)}") from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from None
    if not head:
        raise CheckpointError(f"{path.name} is empty")
    return head


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read a safetensors file or the tensors of a pickle as a flat state dict on the CPU.

    The wrapper of a training checkpoint (:data:`WRAPPERS`) is removed. Raises CheckpointError.
    """
    path = Path(path)
    return read_state(path) if is_safetensors(path) else _tensors(read_pickle(path), path)


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The string metadata in the header of a safetensors file."""
    with open_safetensors(path) as file:
        return file.metadata() or {}


def header_of(path: Path) -> Header | None:
    """The header of a file written by this project; None for folders and foreign files."""
    return read_header(path) if not path.is_dir() and is_safetensors(path) else None


def read_pickle(path: Path) -> Any:
    """The contents of a pickle of tensors and plain containers, :class:`_StandIn` for trainers'
    objects; CheckpointError for anything else."""
    _first_bytes(path)
    # Only the zip format can be memory mapped, and torch reads any file named .safetensors as such.
    mapped = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
    try:
        with _allowed(STAND_INS), open(path, "rb") as file:
            source = path if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, OSError) as error:
        refused = _REFUSED_CLASS.search(str(error))
        if refused is not None:
            raise CheckpointError(
                f"{path.name} also holds {printable(refused[1])}, but only tensors are loaded; "
                "save its state_dict without the rest with the program that wrote it"
            ) from None
        reason = reason_of(error).split(". ")[0]
    # A damaged pickle can raise anything: its opcodes index stacks and call allowed classes.
    except Exception:
        reason = "it is damaged"
    raise CheckpointError(f"{path.name} cannot be read as tensors alone: {reason}")


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    state = _by_name(found)
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and (inner := _by_name(found.get(wrapper))):
            state = inner
            break
    if not state:
        raise CheckpointError(f"{path.name} holds no tensors by name")
    return state


def _by_name(found: Any) -> dict[str, Tensor]:
    items = found.items() if isinstance(found, Mapping) else ()
    return {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
