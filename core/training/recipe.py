"""Training recipes: model, data and schedule, one TOML file each in ``recipes/``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. ``model`` and ``data`` are interpreted by the task."""

    name: str
    task: str  # a key of the table in tasks.build_task
    output: str  # file name of the trained weights
    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100  # steps of linear warm-up
    final_rate: float = 0.02  # of the learning rate, at the end of the cosine decay
    weight_decay: float = 0.01
    clip_gradient: float = 1.0
    ema: float = 0.999  # decay of the averaged weights, which are the ones saved
    precision: str = "bf16"  # "bf16" (autocast) or "fp32"
    seed: int = 0
    save_every: int = 250  # steps between resumable states
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    start_from: dict[str, str] = field(default_factory=dict)  # part → file, or an embedded name

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"recipe {self.name}: steps {self.steps} and batch {self.batch} must be at least 1"
            )


def load_recipe(path: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe from a file, or by name from ``recipes/``.

    changes: overrides "KEY=VALUE" or "TABLE.KEY=VALUE"; see :func:`change_value`. Raises ValueError
    for unknown recipes and keys.
    """
    path = Path(path)
    if not path.is_file():
        known = RECIPES / f"{path.stem}.toml"
        if not known.is_file():
            names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
            raise ValueError(f"no recipe {path}: neither a file nor one of {names}")
        path = known
    values = {"name": path.stem} | tomllib.loads(path.read_text())
    for change in changes:
        change_value(values, change)
    unknown = sorted(values.keys() - {f.name for f in fields(Recipe)})
    if unknown:
        raise ValueError(f"recipe {path.name} has unknown keys: {', '.join(unknown[:5])}")
    return Recipe(**values)


def change_value(values: dict[str, Any], change: str) -> None:
    """Override one value of nested tables in place: "KEY=VALUE" or "TABLE.KEY=VALUE". What is not
    a TOML value is taken as a string."""
    key, equals, text = change.partition("=")
    *tables, name = key.strip().split(".")
    if not equals or not all((name, *tables)):
        raise ValueError(f"{change!r} must be KEY=VALUE or TABLE.KEY=VALUE")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"{change!r}: {table} is not a table of the recipe")
    values[name] = _value(text.strip())


def _value(text: str) -> Any:
    """The text as a TOML value, else the text itself, so that file names need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
