"""The parts of the family and their schedule: `plan.toml`, read and scaled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..recipe import change_value, tomllib

PATH = Path(__file__).with_name("plan.toml")
SMALLEST_WIDTH = 8
SMALLEST_COUNT = 48


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the family. ``model`` and ``data`` are interpreted by the task.

    begin, end: its interval of the training time, within 0 to 1. needs: parts whose files it loads.
    once: not continued by a further run. weight: its share of the time relative to the parts that
    are trained concurrently. batch: on a GPU. memory: relative standard deviation sigma_rel of the
    weights' averaging profile (Karras et al. 2024, section 3.1).
    """

    name: str
    task: str
    output: str  # file name of the weights, without suffix
    begin: float
    end: float
    needs: tuple[str, ...] = ()
    once: bool = False
    weight: float = 1.0
    batch: int
    cpu_batch: int
    learning_rate: float
    warmup: float = 0.03  # of the interval, linear
    final_rate: float = 0.01  # of the learning rate, at the end of the cosine decay
    weight_decay: float = 0.0
    clip_gradient: float = 1.0
    memory: float = 0.05
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    start_from: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"{self.name}: expected 0 <= begin < end <= 1, got {self.begin} and {self.end}"
            )


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Rendered clips, or with ``real`` crops of real videos, of ``frames`` frames. rates: distances
    of frames in base frames, for the clips in turn. Half of the clips start at 0, the others in
    0 .. ``latest_start``."""

    name: str
    count: int
    cpu_count: int
    frames: int
    size: int
    seed: int
    rates: tuple[float, ...] = (1.0,)
    shapes_share: float = 0.5
    latest_start: float = 0.0
    boxes: bool = False
    real: bool = False

    @property
    def key(self) -> str:
        """Names the set's files: other settings are another set."""
        return f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts, in the order in which they start, and the clips they are trained on."""

    parts: tuple[Part, ...]
    clips: tuple[ClipSet, ...]

    def part(self, name: str) -> Part:
        return next(one for one in self.parts if one.name == name)

    def of(self, names: Sequence[str]) -> Plan:
        """A plan of these parts alone, without the time in which none of them is trained. Raises
        ValueError for an unknown part."""
        unknown = [name for name in names if name not in {one.name for one in self.parts}]
        if unknown:
            known = ", ".join(one.name for one in self.parts)
            raise ValueError(f"there is no part {unknown[0]!r} of the family: choose from {known}")
        kept = [one for one in self.parts if one.name in names]
        edges = sorted({edge for one in self.parts for edge in (one.begin, one.end)})
        at, place = 0.0, {edges[0]: 0.0}
        for left, right in zip(edges, edges[1:], strict=False):
            used = any(one.begin <= left and right <= one.end for one in kept)
            at += (right - left) * used
            place[right] = at
        moved = [
            replace(one, begin=place[one.begin] / at, end=min(1.0, place[one.end] / at))
            for one in kept
        ]
        return replace(self, parts=tuple(moved))


def load_plan(
    changes: Iterable[str] = (), *, scale: float = 1.0, size: int = 64, on_cpu: bool = False
) -> Plan:
    """Read the plan.

    changes: overrides "PART.KEY=VALUE" with a TOML value. scale: factor of the number of parameters
    and of clips. size: side of base frames in pixels. Raises ValueError for an unknown part.
    """
    values = tomllib.loads(PATH.read_text())
    for change in changes:
        name = change.partition(".")[0].strip()
        if name not in values["parts"]:
            known = ", ".join(values["parts"])
            raise ValueError(f"{change!r} must begin with a part and a dot: one of {known}")
        change_value(values["parts"], change)
    parts = [Part(name=name, **_tuples(table)) for name, table in values["parts"].items()]
    sets = [ClipSet(name=name, **_tuples(table)) for name, table in values["clips"].items()]
    if on_cpu:
        parts = [replace(one, batch=one.cpu_batch) for one in parts]
        sets = [replace(one, count=one.cpu_count) for one in sets]
    if size != 64:
        parts, sets = [_sized(one, size) for one in parts], [_sized(one, size) for one in sets]
    if scale != 1:
        parts = [_scaled(one, scale) for one in parts]
        counts = [max(SMALLEST_COUNT, round(one.count * scale)) for one in sets]
        sets = [replace(one, count=count) for one, count in zip(sets, counts, strict=True)]
    return Plan(parts=tuple(parts), clips=tuple(sets))


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples; nested tables are left alone."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _sized(one: Any, size: int) -> Any:
    """Adapt a part or a set to base frames of another size, with batches of as many pixels."""
    if isinstance(one, ClipSet):
        real_or_large = one.size * size // 64
        count = max(SMALLEST_COUNT, one.count * 64 // size)
        return one if one.real else replace(one, size=real_or_large, count=count)
    if one.task not in ("image_model", "video"):
        return one  # trained on crops of a fixed size
    return replace(one, batch=max(1, one.batch * 64 * 64 // size**2))


def _scaled(part: Part, scale: float) -> Part:
    """Scale a part's networks to about `scale` times the parameters, and its batches by the root
    of that."""
    batch = max(2, round(part.batch * scale**0.5))
    return replace(part, batch=batch, model=_narrowed(part.model, scale**0.5, part.task))


def _narrowed(table: dict[str, Any], factor: float, task: str) -> dict[str, Any]:
    """Multiply all widths by the factor; norms get 4 groups."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found[key] = _narrowed(value, factor, key)
        elif key == "channels":
            found[key] = [_width(one, factor) for one in value]
        else:
            found[key] = _width(value, factor) if key == "width" else value
    if task in ("autoencoder", "decoder", "unet", "layers", "video"):
        found["norm_groups"] = 4
    return found


def _width(width: int, factor: float) -> int:
    return max(SMALLEST_WIDTH, round(width * factor / SMALLEST_WIDTH) * SMALLEST_WIDTH)
