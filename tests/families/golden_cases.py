"""Cases recorded from the original implementations: where they are and what they hold.

A case is a folder with a ``case.json``, whose ``golden.family`` and ``golden.kind`` decide what is
run with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parents[2]

# Families that are still to be built. Cases of every other family must be run.
NOT_BUILT: tuple[str, ...] = ()
# Kinds of other families that are still to be built, by the beginning of their name.
KINDS_NOT_BUILT: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Case:
    """One folder. Videos are read as b t c h w; the files have b c t h w."""

    folder: Path

    @cached_property
    def told(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text(encoding="utf-8"))

    @property
    def family(self) -> str:
        return self.told["golden"]["family"]

    @property
    def kind(self) -> str:
        return self.told["golden"]["kind"]

    @cached_property
    def weights_file(self) -> Path:
        """The file that the case names, which may belong to a neighbour."""
        named = self.told["weights"]
        named = named["file"] if isinstance(named, dict) else named
        return (self.folder / re.search(r"\S+\.safetensors", named)[0]).resolve()

    @property
    def config(self) -> dict[str, Any]:
        """The network's configuration: the case's own, or that beside its weights."""
        return self.told.get("config") or Case(self.weights_file.parent).told["config"]

    def weights(self) -> dict[str, Tensor]:
        return {k: v.float() for k, v in load_file(self.weights_file).items()}

    def raw(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")

    def inputs(self) -> dict[str, Tensor]:
        return frames_first(self.raw("inputs"))

    def expected(self) -> dict[str, Tensor]:
        return frames_first(self.raw("expected"))


def frames_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Videos from b c t h w to b t c h w, everything else as it is."""
    return {
        k: rearrange(v, "b c t h w -> b t c h w") if v.ndim == 5 else v for k, v in tensors.items()
    }


def folders() -> list[Path]:
    """The directories that are searched; VIDEOLDM_GOLDEN replaces them."""
    named = os.environ.get("VIDEOLDM_GOLDEN")
    if named:
        return [Path(one) for one in named.split(os.pathsep) if one]
    shared = ROOT.parent / "shared"
    return [ROOT / "tests" / "golden", shared / "golden", shared / "rolling"]


def discover() -> list[Case]:
    """Every case below the directories, without duplicates."""
    found: dict[str, Case] = {}
    for folder in folders():
        for told in sorted(folder.rglob("case.json")):
            found.setdefault(_digest(told.parent), Case(told.parent))
    return list(found.values())


def _digest(folder: Path) -> str:
    files = sorted(folder / name for name in ("case.json", "inputs.safetensors",
                                              "expected.safetensors"))  # fmt: skip
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.is_file())).hexdigest()


# --------------------------------------------------------------------------------------------------
# Errors relative to the scale of the expected values.


def check_close(got: Tensor, expected: Tensor, what: str, tolerance: float) -> None:
    """One forward pass: the largest error over the largest value, or over 1 if all are zero."""
    assert got.shape == expected.shape, what
    scale = expected.abs().max()
    _check((got - expected).abs().max() / (scale if scale > 0 else 1), what, tolerance)


def check_sampled(got: Tensor, expected: Tensor, what: str, tolerance: float) -> None:
    """Latents after one or more sampling steps: the relative RMS error."""
    assert got.shape == expected.shape, what
    error = (got - expected).square().mean() / expected.square().mean()
    _check(error.sqrt(), what, tolerance)


def _check(relative: Tensor, what: str, tolerance: float) -> None:
    print(f"{what}: {relative:.2e}")
    assert relative <= tolerance, f"{what} is off by {relative:.3g} of its scale"
