"""Adapters as layers beside a network's own modules; see :mod:`...networks.weight_updates`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...networks.weight_updates import WeightUpdate, WeightUpdates
from ...weights.checkpoints import CheckpointError
from .adapters import Factors, scale_of
from .merging import THE_FILE, Update, factors_by_module, update_of

LOW_RANK = {"up", "down", "mid", "alpha", "up_bias", "diff_b"}


def beside(
    root: nn.Module,
    lora: Mapping[str, Tensor],
    table: Mapping[str, str] | None = None,
    name: str = THE_FILE,
    ops=nn,
) -> WeightUpdates:
    """An adapter file's updates for the modules of a U-Net.

    table: see :func:`~.names.module_names`. Only the shapes of `root` are read. Raises
    CheckpointError for a file that does not fit, and for one whose effect depends on the weights
    that it changes.
    """
    found = factors_by_module(lora, dict(root.named_parameters()), "unet", table, name)
    made = {
        path: _update(root.get_submodule(path), spelling, factors, name, ops)
        for path, (spelling, factors) in found.items()
    }
    return WeightUpdates(made).eval().requires_grad_(False)


def _update(module: nn.Module, path: str, factors: Factors, name: str, ops) -> WeightUpdate:
    what = f"{name} changes {path}"
    plain = isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.groups == 1 and module.dilation == (1, 1)
    )
    whole = update_of(factors, path, name)
    if not plain or whole.value is not None or whole.magnitude is not None or whole.shape:
        raise CheckpointError(
            f"{what} in a way that depends on the weights there or is not linear, so its strength "
            "cannot vary over frames or steps: merge it with Load LoRA"
        )
    if set(factors) <= LOW_RANK and "down" in factors:
        parts, scale = _low_rank(module, factors, ops), scale_of(factors, len(factors["down"]))
    elif whole.difference is not None:
        parts, scale = [_like(module, whole.difference, ops)], 1.0
    else:
        parts, scale = [], 1.0
    _check(module, whole, what)
    bias = None if whole.bias is None else whole.bias.float().flatten()
    return WeightUpdate(parts, scale, bias)


def _check(module: nn.Module, update: Update, what: str) -> None:
    """Raise CheckpointError unless the difference has the size of the weight."""
    difference = update.difference
    size = module.weight[0].numel(), len(module.weight)
    if difference is not None and (difference[0].numel(), len(difference)) != size:
        raise CheckpointError(
            f"{what} by {update.factors}, but its weight is {tuple(module.weight.shape)}"
        )
    if update.bias is not None and update.bias.numel() != len(module.weight):
        raise CheckpointError(
            f"{what} by a bias of {update.bias.numel()}, but it has {len(module.weight)} outputs"
        )


def _low_rank(module: nn.Module, factors: Factors, ops) -> list[nn.Module]:
    """The layers down, mid, up; in a convolution, mid has the kernel if there is one, else down."""
    down, mid, up = (factors.get(half) for half in ("down", "mid", "up"))
    if isinstance(module, nn.Linear):
        return [_linear(one.flatten(1), ops) for one in (down, up)]
    if mid is None:
        return [_like(module, down, ops), _point(up, ops)]
    return [_point(down, ops), _like(module, mid, ops), _point(up, ops)]


def _linear(weight: Tensor, ops) -> nn.Module:
    made = ops.Linear(weight.shape[1], len(weight), bias=False)
    return _with(made, weight)


def _point(weight: Tensor, ops) -> nn.Module:
    rows = weight.flatten(1)
    made = ops.Conv2d(rows.shape[1], len(rows), 1, bias=False)
    return _with(made, rows[:, :, None, None])


def _like(module: nn.Module, weight: Tensor, ops) -> nn.Module:
    """A layer with this weight, and the kernel size, stride and padding of `module`."""
    if isinstance(module, nn.Linear):
        return _linear(weight.flatten(1), ops)
    kernel = module.kernel_size
    inner = weight.flatten(1).shape[1] // (kernel[0] * kernel[1])
    made = ops.Conv2d(
        inner, len(weight), kernel, stride=module.stride, padding=module.padding, bias=False
    )
    return _with(made, weight.reshape(len(weight), inner, *kernel))


def _with(module: nn.Module, weight: Tensor) -> nn.Module:
    module.weight = nn.Parameter(weight.detach().to(torch.float32).contiguous(), False)
    return module
