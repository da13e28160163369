"""Textual inversions by name, as prompts write them: "embedding:NAME"."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ....core.families.textual_inversions import read

ENDINGS = ("", ".safetensors", ".pt", ".bin")
"""Suffixes that a name may leave out, in the order in which they are tried."""


@dataclass(frozen=True)
class Embeddings:
    """Textual inversions in some folders, for text encoders of one width."""

    roots: Sequence[Path]
    width: int

    def load(self, name: str) -> Tensor | None:
        """The vectors [n, d] of a name, with or without suffix and folder; None if there is no such
        file. d may differ from the encoder's width."""
        path = self._find(name.replace("\\", "/")) if name else None
        return None if path is None else read(path, self.width)

    def _find(self, name: str) -> Path | None:
        for folder in self._folders():
            for ending in ENDINGS:
                path = Path(os.path.normpath(folder / f"{name}{ending}"))
                if os.path.isfile(path) and any(
                    path.is_relative_to(root) for root in self._absolute()
                ):
                    return path
        return None

    def _absolute(self) -> Iterator[Path]:
        return (Path(os.path.abspath(root)) for root in self.roots)

    def _folders(self) -> Iterator[Path]:
        """The roots, then all folders below them."""
        yield from self._absolute()
        for root in self._absolute():
            for folder, inner, _ in os.walk(root, followlinks=True):
                inner.sort()
                if Path(folder) != root:
                    yield Path(folder)
