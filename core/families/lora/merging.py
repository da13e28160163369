"""Merge adapters into weights: new tensors where there is a difference, else the same ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import ge

import torch
from torch import Tensor, nn

from ...weights.checkpoints import CheckpointError, complain
from ...weights.cloning import shared_clone
from ..known_models import of_keys, of_text_width
from .adapters import Factors, Incomplete, Misfit, difference_of, scale_of
from .names import Kind, is_left_out, module_names, sort_keys, text_layers

THE_FILE = "the LoRA file"


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a file changes in one module: the weight, by a difference [o, (i ...)], a new value, or
    the norms of its rows (outputs) or columns; and the bias [o], by a difference."""

    difference: Tensor | None = None
    bias: Tensor | None = None
    value: Tensor | None = None
    magnitude: Tensor | None = None
    shape: tuple[int, ...] | None = None  # of the difference, if other than the weight's
    factors: str = ""  # their shapes, for errors


def parse(
    lora: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    kind: Kind = "unet",
    table: Mapping[str, str] | None = None,
    name: str = THE_FILE,
) -> dict[str, Update]:
    """The updates for one part of the model by module path; see :func:`factors_by_module`."""
    found = factors_by_module(lora, state, kind, table, name)
    return {path: update_of(factors, spelt, name) for path, (spelt, factors) in found.items()}


def factors_by_module(
    lora: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    kind: Kind = "unet",
    table: Mapping[str, str] | None = None,
    name: str = THE_FILE,
) -> dict[str, tuple[str, Factors]]:
    """A file's factors for one part of the model by module path, each with the file's spelling of
    the path; keys of other parts are skipped.

    table: see :func:`~.names.module_names`. Raises CheckpointError for a file that was made for
    another model or has unknown keys.
    """
    paths = sort_keys(lora, name)
    known = paths.unet or paths.text or (paths.second_text and _of_two_encoders(state, kind))
    if not known and not any(k.startswith("bundle_emb.") for k in lora):
        raise CheckpointError(f"{name} changes nothing: its keys are for other text encoders only")
    _check_family(paths.unet, state, kind, name)
    own = paths.of(kind)
    names = module_names(state, kind, table)
    layers = text_layers(state)
    unknown = [p for p in own if p not in names and not is_left_out(p, kind, layers)]
    complain("changes unknown", name, unknown)
    return {names[path]: (path, factors) for path, factors in own.items() if path in names}


def _of_two_encoders(state: Mapping[str, Tensor], kind: Kind) -> bool:
    """Whether the weights belong to a model with two text encoders."""
    if kind == "unet":
        return any(key.startswith("add_embedding.") for key in state)
    return kind in ("first_text", "second_text")


def _check_family(
    unet: Mapping[str, Factors], state: Mapping[str, Tensor], kind: Kind, name: str
) -> None:
    other = of_keys(unet)
    if other is not None:
        raise CheckpointError(f"{name} is made for {other}, not for Stable Diffusion's U-Net")
    path = next((p for p in unet if p.endswith(("attn2.to_k", "attn2_to_k"))), None)
    # XL's U-Net reads two encoders' outputs concatenated: neither is as wide.
    if path is None or kind in ("first_text", "second_text"):
        return
    difference = update_of(unet[path], path, name).difference
    ends = "attn2.to_k.weight" if kind == "unet" else "token_embedding.weight"
    takes = next((state[k].shape[1] for k in state if k.endswith(ends)), None)
    if difference is not None and takes is not None and difference.shape[1] != takes:
        raise CheckpointError(
            f"{name} is made for {of_text_width(difference.shape[1])}, "
            f"but this is {of_text_width(takes)}"
        )


def update_of(factors: Factors, path: str, name: str) -> Update:
    """The update that a module's factors make; CheckpointError if they are incomplete or do not
    fit."""
    try:
        difference = difference_of(factors)
    except Incomplete as error:
        raise CheckpointError(f"{name} lacks the factor {error} of {path}") from None
    except Misfit as error:
        raise CheckpointError(f"{name} changes {path} by {error}, which do not fit") from None
    except (IndexError, RuntimeError):  # Tensors with too few axes, or of sizes that do not meet.
        shapes = " and ".join(str(tuple(one.shape)) for one in factors.values())
        raise CheckpointError(f"{name} changes {path} by {shapes}, which do not fit") from None
    bias = factors.get("diff_b")
    if "up_bias" in factors and "down" in factors:
        bias = factors["up_bias"].float() * scale_of(factors, len(factors["down"]))
    magnitude = factors.get("magnitude")
    if "row_magnitude" in factors:
        magnitude = factors["row_magnitude"].reshape(-1, 1)
    shape = factors.get("reshape_weight")
    return Update(
        difference=difference,
        bias=bias,
        value=factors.get("set_weight"),
        magnitude=None if difference is None else magnitude,
        shape=None if shape is None else tuple(int(side) for side in shape.flatten()),
        factors=" and ".join(str(tuple(v.shape)) for v in factors.values() if v.ndim),
    )


# --------------------------------------------------------------------------------------------------
# Sums.


def merge(
    state: Mapping[str, Tensor],
    lora: Mapping[str, Tensor],
    strength: float = 1.0,
    kind: Kind = "unet",
    table: Mapping[str, str] | None = None,
    name: str = THE_FILE,
) -> dict[str, Tensor]:
    """The state dict with the updates added: new tensors where there are any, else the same ones.

    ``state`` is a diffusers U-Net's or, for other kinds, a transformers CLIP text model's. Sums
    are computed in float32 on the weight's device. Raises CheckpointError for a file that does not
    fit.
    """
    patched: dict[str, Tensor] = {}
    for path, update in parse(lora, state, kind, table, name).items():
        weight, bias = f"{path}.weight", f"{path}.bias"
        if update.difference is not None or update.value is not None:
            patched[weight] = _weight(state[weight], update, strength, f"{name} changes {path}")
        if update.bias is not None:
            if bias not in state:
                raise CheckpointError(f"{name} changes the bias of {path}, which has none")
            patched[bias] = _bias(state[bias], update.bias, strength, f"{name} changes {bias}")
    return {**state, **patched}


def _bias(bias: Tensor, difference: Tensor, strength: float, what: str) -> Tensor:
    if difference.numel() != bias.numel():
        raise CheckpointError(f"{what} by {tuple(difference.shape)}, but it is {len(bias)} long")
    difference = difference.float().to(bias.device).reshape(bias.shape)
    return (bias.float() + strength * difference).to(bias.dtype)


def _weight(weight: Tensor, update: Update, strength: float, what: str) -> Tensor:
    before = weight.float()
    if update.value is not None:
        # A new value is no difference: it replaces the weight whatever the strength.
        before = _shaped(update.value.float(), update, weight, what).to(weight.device)
    after = before
    if update.difference is not None:
        after = before + _shaped(update.difference, update, weight, what).to(weight.device)
    if update.magnitude is not None:
        after = _with_magnitude(after, update.magnitude.float().to(weight.device), what)
    return (before + strength * (after - before)).to(weight.dtype)


def _shaped(difference: Tensor, update: Update, weight: Tensor, what: str) -> Tensor:
    """The difference in the weight's shape: a linear one for a 1x1 convolution, or the reverse,
    differs by two axes of size 1."""
    shape = update.shape or tuple(weight.shape)
    fits = len(shape) == weight.ndim and all(map(ge, shape, weight.shape))
    if not fits or difference.numel() != math.prod(shape) or len(difference) != shape[0]:
        raise CheckpointError(
            f"{what} by {update.factors}, but its weight is {tuple(weight.shape)}"
        )
    # Channels that a file adds (``reshape_weight``) get no input here, so they are cut off.
    return difference.reshape(shape)[tuple(slice(side) for side in weight.shape)]


def _with_magnitude(weight: Tensor, magnitude: Tensor, what: str) -> Tensor:
    """DoRA, eq. 5: W' = m (W + difference) / ||W + difference||, with one norm per output (m is
    [o, 1 ...]) or, as in the paper and by default in LyCORIS, per input (m is [1, i, ...])."""
    if magnitude.numel() == len(weight) == len(magnitude):
        axes = tuple(range(1, weight.ndim))
    elif weight.ndim > 1 and magnitude.numel() == weight.shape[1]:
        axes = (0, *range(2, weight.ndim))
    else:
        raise CheckpointError(
            f"{what} to {magnitude.numel()} norms, but its weight is {tuple(weight.shape)}"
        )
    length = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    return weight * (magnitude.reshape(length.shape) / (length + torch.finfo(length.dtype).eps))


def apply(
    module: nn.Module,
    lora: Mapping[str, Tensor],
    strength: float = 1.0,
    kind: Kind = "unet",
    table: Mapping[str, str] | None = None,
    name: str = THE_FILE,
) -> nn.Module:
    """A clone of ``module`` with the file merged; it shares all unchanged tensors."""
    state = module.state_dict()
    merged = merge(state, lora, strength, kind, table, name)
    clone = shared_clone(module)
    changed = {k: v for k, v in merged.items() if v is not state[k]}
    clone.load_state_dict(changed, strict=False, assign=True)
    return clone
