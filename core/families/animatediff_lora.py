"""Motion LoRAs: low-rank updates of motion modules, run beside them instead of merged into them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from ..networks.layers.low_rank import Update
from ..networks.layers.motion_module import MotionModuleSpec
from ..networks.temporal_layers import TemporalLayers, key
from ..networks.temporal_layers_spec import TemporalLayersSpec
from ..networks.weight_updates import WeightUpdate, WeightUpdates
from ..weights.checkpoints import CheckpointError, complain
from .animatediff_keys import module_path, tails
from .lora import read_lora
from .lora.adapters import Factors, scale_of
from .lora.names import sort_keys


@dataclass(frozen=True)
class MotionLora:
    """A motion LoRA and its strength. tensors: under the file's names."""

    tensors: Mapping[str, Tensor]
    strength: float = 1.0
    name: str = "the motion LoRA"


def load_lora(path: str | os.PathLike, strength: float = 1.0) -> MotionLora:
    """Read a motion LoRA from a .ckpt or .safetensors file."""
    return MotionLora(read_lora(path), strength, Path(path).name)


def beside(layers: TemporalLayers, lora: MotionLora, ops=nn) -> WeightUpdates:
    """The LoRA's updates, to run beside the motion modules at a strength of their own.

    Raises CheckpointError for a LoRA of modules that do not exist here.
    """
    names, made = _projections(layers.spec.layers), {}
    found = sort_keys(lora.tensors, lora.name).unet
    complain("changes unknown", lora.name, [path for path in found if path not in names])
    for path, factors in found.items():
        site, projection = names[path]
        update, halves = _update(projection, factors, path, lora)
        parts = [_linear(halves[half], ops) for half in ("down", "up")]
        made[f"layers.{key(site)}.{projection}.base"] = WeightUpdate(parts, update.strength)
    return WeightUpdates(made).eval().requires_grad_(False)


def _linear(weight: Tensor, ops) -> nn.Module:
    made = ops.Linear(weight.shape[1], len(weight), bias=False)
    made.weight = nn.Parameter(weight.detach().float().contiguous(), False)
    return made


def with_loras(
    spec: TemporalLayersSpec, loras: Sequence[MotionLora]
) -> tuple[TemporalLayersSpec, dict[str, Tensor]]:
    """(spec with the updates of every LoRA, in order; the updates' weights).

    Raises CheckpointError for a LoRA of modules that do not exist here.
    """
    layers, state = dict(spec.layers), {}
    for lora in loras:
        names = _projections(layers)
        found = sort_keys(lora.tensors, lora.name).unet
        complain("changes unknown", lora.name, [path for path in found if path not in names])
        for path, factors in found.items():
            site, projection = names[path]
            update, weights = _update(projection, factors, path, lora)
            number = sum(one.projection == projection for one in layers[site].updates)
            own = f"layers.{key(site)}.{projection}.updates.{number}"
            state |= {f"{own}.{half}.weight": weight for half, weight in weights.items()}
            layers[site] = replace(layers[site], updates=(*layers[site].updates, update))
    return replace(spec, layers=layers), state


def _projections(layers: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Every spelling, dotted or flattened, of a projection's path -> (its site, its path here)."""
    found = {}
    for site, spec in layers.items():
        if not isinstance(spec, MotionModuleSpec):
            continue
        for spelling in ("original", "hotshot", "diffusers"):
            inside = tails(spec.blocks, spec.attentions, spelling)
            head = module_path(site, spelling)
            found |= {
                f"{head}.{old}": (site, new) for old, new in inside.items() if "norm" not in new
            }
    return found | {path.replace(".", "_"): place for path, place in found.items()}


def _update(
    projection: str, factors: Factors, path: str, lora: MotionLora
) -> tuple[Update, dict[str, Tensor]]:
    odd = sorted(set(factors) - {"down", "up", "alpha"})
    if odd:
        raise CheckpointError(
            f"{lora.name} has {odd[0]} for {path}: motion LoRAs have only up and down"
        )
    missing = [half for half in ("down", "up") if half not in factors]
    if missing:
        raise CheckpointError(f"{lora.name} lacks the factor {missing[0]} of {path}")
    halves = {half: factors[half].flatten(1) for half in ("down", "up")}
    rank = len(halves["down"])
    return Update(projection, rank, lora.strength * scale_of(factors, rank)), halves
