"""Low-rank adaptation of image models (Hu et al. 2021): W' = W + strength * alpha / rank * up down.

Files come in four spellings, which differ only in how they write a module's path: kohya's
(``lora_unet_down_blocks_0_...``, dots flattened), PEFT's (``unet.<path>.lora_A.weight``), the older
ones of diffusers (``unet.<path>.processor.to_q_lora.down.weight``, ``<path>.lora.down.weight``).
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .checkpoints import CheckpointError, complain, read_state
from .families.stable_diffusion_folders import read_weights
from .families.stable_diffusion_keys import unet_table
from .sites import UNetLayout

Kind = Literal["unet", "text"]

PREFIXES: dict[Kind, tuple[str, ...]] = {
    "unet": ("lora_unet_", "unet.", "base_model.model."),
    "text": ("lora_te_", "lora_te1_", "text_encoder."),
}
# What a factor's key ends in, and the name of the factor.
ENDINGS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)$")
_TEXT_PROJECTION = re.compile(r"\.self_attn\.to_(q|k|v|out)$")


@dataclass(frozen=True)
class Factors:
    """One module's update: ``down`` [r, i, ...], ``up`` [o, r, ...], ``mid`` [r, r, kh, kw] for a
    convolution in three factors, ``alpha`` (None: the rank, so a scale of 1)."""

    down: Tensor
    up: Tensor
    mid: Tensor | None = None
    alpha: float | None = None

    def delta(self) -> Tensor:
        """alpha / rank * up down, in float32, in the shape of a convolution if it is one."""
        up, down = self.up.float(), self.down.float()
        if self.mid is not None:
            up, down = up.flatten(1), down.flatten(1)
            product = torch.einsum("o p, p q h w, q i -> o i h w", up, self.mid.float(), down)
        else:
            product = torch.tensordot(up.flatten(1), down, dims=1)
        rank = self.down.shape[0]
        return product * ((rank if self.alpha is None else self.alpha) / rank)


def read_lora(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read a LoRA file, .safetensors or a pickle of tensors alone (AnimateDiff's domain adapter).

    PEFT's alpha, which stands in a file's metadata, is added as ``.alpha`` keys.
    """
    if Path(path).suffix != ".safetensors":
        return {k.removeprefix("module."): v for k, v in read_weights(Path(path)).items()}
    state = read_state(path)
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("lora_adapter_metadata")
    return state | _alphas(json.loads(text), state, Path(path).name) if text else state


def _alphas(config: Mapping, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """One alpha per module from PEFT's metadata, which has one per part of the model."""
    alphas = {}
    for part in ("unet", "text_encoder"):
        if config.get(f"{part}.alpha_pattern") or config.get(f"{part}.use_rslora"):
            raise CheckpointError(
                f"{name} scales the modules of its {part} unequally, which is not supported"
            )
        alpha = config.get(f"{part}.lora_alpha")
        paths = [k for k in state if k.startswith(f"{part}.") and k.endswith(".lora_A.weight")]
        if alpha is not None:
            alphas |= {
                k.removesuffix(".lora_A.weight") + ".alpha": torch.tensor(float(alpha))
                for k in paths
            }
    return alphas


# --------------------------------------------------------------------------------------------------
# Names.


def module_names(
    state: Iterable[str], kind: Kind, layout: UNetLayout | None = None
) -> dict[str, str]:
    """Every spelling, dotted or flattened, of a path that has a weight -> the path in ``state``.

    With ``layout`` the ldm names of the U-Net's modules are known as well.
    """
    paths = [k.removesuffix(".weight") for k in state if k.endswith(".weight")]
    names = {path: path for path in paths}
    if kind == "text":
        # Whether CLIP's names start with text_model. depends on the version of transformers.
        bare = {path.removeprefix("text_model."): path for path in paths}
        names |= bare | {f"text_model.{short}": path for short, path in bare.items()}
    if layout is not None:
        names |= _ldm_names(paths, layout)
    return names | {name.replace(".", "_"): path for name, path in names.items()}


def _ldm_names(paths: list[str], layout: UNetLayout) -> dict[str, str]:
    """ldm spellings of the paths; the table's prefixes, extended by what follows."""
    table = unet_table(layout)
    return {
        old + path[len(new) :]: path
        for old, new in table.items()
        for path in paths
        if path == new or path.startswith(f"{new}.")
    }


def _split_key(key: str) -> tuple[str, str] | None:
    """A key's path, still with its prefix, and the factor it holds."""
    for ending, factor in ENDINGS.items():
        if key.endswith(ending):
            path = _PROCESSOR.sub(r".\1", key.removesuffix(ending))
            path = _TEXT_PROJECTION.sub(r".self_attn.\1_proj", path)
            return (f"{path}.0" if path.endswith(".to_out") else path), factor
    return None


def _resolve(path: str, kind: Kind, names: Mapping[str, str]) -> str | None:
    """The module that ``path`` means; paths without any prefix are the U-Net's."""
    for prefix in PREFIXES[kind]:
        if path.startswith(prefix) and path[len(prefix) :] in names:
            return names[path[len(prefix) :]]
    return names.get(path) if kind == "unet" else None


def parse(
    lora: Mapping[str, Tensor],
    state: Iterable[str],
    kind: Kind = "unet",
    layout: UNetLayout | None = None,
) -> dict[str, Factors]:
    """The updates of one part of the model by module path; keys of the other part are skipped.

    Raises CheckpointError that names the first five keys that are in no known format or mean no
    module of this part.
    """
    names = module_names(state, kind, layout)
    other = PREFIXES["text" if kind == "unet" else "unet"]
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in lora.items():
        if key.startswith(other):
            continue
        path, factor = _split_key(key) or ("", "")
        module = _resolve(path, kind, names)
        if module is not None:
            found.setdefault(module, {})[factor] = tensor
        elif kind == "unet" or key.startswith(PREFIXES[kind]):
            unknown.append(key)
    complain("has unknown", "the LoRA file", unknown)
    complain(
        "lacks the other factor of",
        "the LoRA file",
        [path for path, f in found.items() if not {"down", "up"} <= set(f)],
    )
    return {path: _factors(parts) for path, parts in found.items()}


def _factors(parts: Mapping[str, Tensor]) -> Factors:
    alpha = parts.get("alpha")
    return Factors(
        parts["down"], parts["up"], parts.get("mid"), None if alpha is None else float(alpha)
    )


# --------------------------------------------------------------------------------------------------
# Merging.


def merge(
    state: Mapping[str, Tensor],
    lora: Mapping[str, Tensor],
    strength: float = 1.0,
    kind: Kind = "unet",
    layout: UNetLayout | None = None,
) -> dict[str, Tensor]:
    """The state dict with the updates added: new tensors where there are any, else the same ones.

    ``state`` is a diffusers U-Net's or, for ``kind`` "text", a transformers CLIP text model's. Sums
    are made in float32 on the weight's own device. Raises CheckpointError for a file that does not
    fit.
    """
    updates = parse(lora, state, kind, layout)
    patched = {
        f"{path}.weight": _patched(state[f"{path}.weight"], factors, strength, path)
        for path, factors in updates.items()
    }
    return {**state, **patched}


def _patched(weight: Tensor, factors: Factors, strength: float, path: str) -> Tensor:
    inner = factors.down if factors.mid is None else factors.mid
    fits = factors.up.shape[1] == inner.shape[0]
    delta = factors.delta() if fits else None
    # A linear update of a 1x1 convolution, and the other way round, differ by two axes of size 1.
    if delta is None or delta.numel() != weight.numel() or delta.shape[:2] != weight.shape[:2]:
        raise CheckpointError(
            f"the LoRA file changes {path} by {tuple(factors.up.shape)} times "
            f"{tuple(factors.down.shape)}, but its weight is {tuple(weight.shape)}"
        )
    delta = delta.to(weight.device).reshape(weight.shape)
    return (weight.float() + strength * delta).to(weight.dtype)


def apply(
    module: nn.Module,
    lora: Mapping[str, Tensor],
    strength: float = 1.0,
    kind: Kind = "unet",
    layout: UNetLayout | None = None,
) -> nn.Module:
    """A clone of ``module`` with the LoRA merged; it shares every tensor that is not changed."""
    state = module.state_dict()
    merged = merge(state, lora, strength, kind, layout)
    clone = shared_clone(module)
    changed = {k: v for k, v in merged.items() if v is not state[k]}
    clone.load_state_dict(changed, strict=False, assign=True)
    return clone


def shared_clone(module: nn.Module) -> nn.Module:
    """A copy of the tree of modules over the very same parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
