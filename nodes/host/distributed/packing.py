"""Serialises the function that makes a chunk for another process.

Functions are pickled with everything they refer to, except for

    modules             replaced by the names under which `Weights` shares them
    the host            the other process has its own
    stores of chunks    making a chunk requests no other chunks, at most its own steps
    callbacks that stay in this process (`LocalCallback`), replaced by numbers
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torch import nn

from ....core.tasks.chunk_store import Steps
from ....core.tasks.finished import Finished, LocalCallback, always_made
from ..standalone.host import StandaloneHost
from ..standalone.host import host as standalone
from .weights import pack_module

MODULE, HOST, STORE, CALLBACK = "module", "host", "store", "callback"


class Weights:
    """Shares each module of this process once, under a unique name.

    share(packed module) -> a reference by which workers fetch it. Modules that no longer exist here
    are forgotten.
    """

    def __init__(self, share: Callable[[Any], Any]):
        self.share, self.numbers = share, count()
        self.names: dict[int, str] = {}
        self.shared: dict[str, Any] = {}

    def name_of(self, module: nn.Module) -> str:
        found = self.names.get(id(module))
        if found is None:
            found = f"{type(module).__name__} {next(self.numbers)}"
            self.names[id(module)] = found
            self.shared[found] = self.share(pack_module(module))
            weakref.finalize(module, self._forget, id(module))
        return found

    def _forget(self, identity: int) -> None:
        self.shared.pop(self.names.pop(identity, ""), None)


@dataclass
class Packed:
    """A pickled function, with the modules and callbacks that it refers to, which keeps them alive
    until the chunk is made."""

    data: bytes = b""
    modules: dict[str, nn.Module] = field(default_factory=dict)
    callbacks: dict[int, LocalCallback] = field(default_factory=dict)


def pack(function: Any, weights: Weights) -> Packed:
    from ray.cloudpickle import CloudPickler

    packed, buffer = Packed(), io.BytesIO()

    class Packer(CloudPickler):
        def persistent_id(self, one: Any) -> tuple[str, Any] | None:
            if isinstance(one, nn.Module):
                name = weights.name_of(one)
                packed.modules[name] = one
                return MODULE, name
            if isinstance(one, StandaloneHost):
                return HOST, None
            if isinstance(one, Finished) and not isinstance(one, Steps):
                return STORE, None
            if isinstance(one, LocalCallback):
                packed.callbacks[id(one)] = one
                return CALLBACK, id(one)
            return None

    Packer(buffer).dump(function)
    packed.data = buffer.getvalue()
    return packed


def unpack(data: bytes, modules: Mapping[str, nn.Module], callback: Callable[[int], Any]) -> Any:
    """The packed function. callback(number) -> a substitute for a callback that was not sent."""
    known = {
        MODULE: modules.__getitem__,
        HOST: lambda _: standalone,
        STORE: lambda _: always_made,
        CALLBACK: callback,
    }

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, name: tuple[str, Any]) -> Any:
            kind, value = name
            return known[kind](value)

    return Unpacker(io.BytesIO(data)).load()
