"""Recipes: what to train, on what, for how long. One TOML file each, in ``recipes/``."""

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
    """One training run. ``model`` and ``data`` are read by the task that ``task`` names."""

    name: str
    task: str  # a key of tasks.TASKS
    output: str  # file name of the result
    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100  # steps of linear warm-up
    final_rate: float = 0.02  # share of the learning rate left at the end (cosine)
    weight_decay: float = 0.01
    clip_gradient: float = 1.0
    ema: float = 0.999  # decay of the averaged weights that are saved
    precision: str = "bf16"  # "bf16" (autocast) or "fp32"
    seed: int = 0
    save_every: int = 250  # steps between resumable states
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    start_from: dict[str, str] = field(default_factory=dict)  # part → file, or embedded one's name

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"recipe {self.name}: steps {self.steps} and batch {self.batch} must be at least 1"
            )


def load_recipe(path: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe from a path, or by name from the recipes of this project.

    changes: "KEY=VALUE" or "TABLE.KEY=VALUE" with a TOML value, or a text as it is.
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
    """Set one value of nested tables: "KEY=VALUE" or "TABLE.KEY=VALUE"."""
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
    """A TOML value, or else the text itself, as file names are."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
