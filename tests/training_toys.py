"""The project's recipes with all their parts, reduced so that a step is fast."""

from __future__ import annotations

from dataclasses import replace

import torch
from videoldm.core.training.recipe import Recipe, load_recipe

CPU = torch.device("cpu")


def shortened(name: str) -> Recipe:
    """A recipe of the project, reduced to two steps of two small clips."""
    recipe = load_recipe(name)
    data = dict(recipe.data)
    if "clips" in data:
        plans = data["clips"] if isinstance(data["clips"], list) else [data["clips"]]
        small = [plan | {"count": 4} for plan in plans]
        data["clips"] = small if isinstance(data["clips"], list) else small[0]
    if "reading" in data:
        data |= {"reading": data["reading"] | {"count": 8}, "reading_steps": 2}
    if "size" in data:
        data |= {"size": 32, "real_share": 0.0}
    return replace(recipe, steps=2, batch=2, precision="fp32", data=data)
