"""Linear layers and small convolutions on the CPU, each as one oneDNN matrix product.

In float32, torch's linear layers call the BLAS that torch was built with, which on some processors
is half as fast as oneDNN. Its convolutions reorder their weights on every call, which takes longer
than the convolution itself when there are few positions. In bfloat16 (on processors with native
support), a linear layer on non-contiguous tokens copies its weights once per video. Everything
else, including layers with hooks or in need of gradients, is left to the layer itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from einops import rearrange
from torch import Tensor, nn

from .parts import few_at_a_time, is_watched

FEW_POSITIONS = 1024
"""Up to this many positions, a 3x3 convolution is faster as a product with its unfolded patches."""

PATCHES = 2**23
"""Most elements of one unfolded patch matrix (32 MB in float32). Larger tensors go back to the
system when freed, so every call would page-fault their memory in again."""

# The op that torch.compile substitutes for linear layers on CPUs; some builds lack both names.
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_MULTIPLIES_BFLOAT16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)()
_PRECISIONS = {torch.float32, torch.bfloat16} if _MULTIPLIES_BFLOAT16 else {torch.float32}


def linear(layer: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """layer(x) + plus for ``x`` [..., i] and ``plus`` [..., o]."""
    if not _is_plain(layer, nn.Linear, x):
        return _sum(layer(x), plus)
    return product(x, layer.weight, layer.bias, plus)


def convolution(layer: nn.Module, h: Tensor, plus: Tensor | None = None) -> Tensor:
    """layer(h) + plus for ``h`` [n, c, h, w]; input and output are in channels-last memory."""
    if not _is_plain(layer, nn.Conv2d, h) or not _is_simple(layer):
        return _sum(layer(h), plus)
    stride = layer.stride[0]
    pixels = rearrange(h, "n c h w -> n h w c")
    if layer.kernel_size == (3, 3):
        if len(h) * h.shape[-2] * h.shape[-1] > FEW_POSITIONS * stride**2:
            return _sum(layer(h), plus)
    matrix = rearrange(layer.weight, "o i kh kw -> o (kh kw i)")
    plus = None if plus is None else rearrange(plus, "n c h w -> n h w c")
    if layer.kernel_size == (1, 1):
        out = product(pixels, matrix, layer.bias, plus)
    else:
        out = _product_of_patches(pixels, matrix, layer, plus)
    return rearrange(out, "n h w c -> n c h w")


def _product_of_patches(
    pixels: Tensor, matrix: Tensor, layer: nn.Conv2d, plus: Tensor | None
) -> Tensor:
    """A 3x3 convolution of ``pixels`` [n, h, w, c] by unfolding, a few images at a time."""
    stride = layer.stride[0]
    parts = min(len(pixels), -(-9 * pixels.numel() // (PATCHES * stride**2)))
    plus_parts = [None] * parts if plus is None else plus.tensor_split(parts)
    out = [
        product(patches(part, stride), matrix, layer.bias, plus_part)
        for part, plus_part in zip(pixels.tensor_split(parts), plus_parts, strict=True)
    ]
    return out[0] if parts == 1 else torch.cat(out)


def patches(pixels: Tensor, stride: int = 1) -> Tensor:
    """[n, h, w, c] -> [n, h / s, w / s, 9c]: each position's 3x3 patch, flattened row by row."""
    padded = F.pad(pixels, (0, 0, 1, 1, 1, 1))
    rows, columns = (padded.shape[axis] - 2 for axis in (1, 2))
    return torch.cat(
        [
            padded[:, i : i + rows : stride, j : j + columns : stride]
            for i in range(3)
            for j in range(3)
        ],
        dim=-1,
    )


def gated(first: nn.Module, last: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """GEGLU feed-forward on ``x`` [..., c], plus ``plus`` [..., c]. The two halves of the first
    layer's weights give the value and the gate."""
    if not _is_plain(first, nn.Linear, x):
        value, gate = first(x).chunk(2, dim=-1)
        return linear(last, value * F.gelu(gate), plus)
    weight, gate_weight = first.weight.chunk(2)
    bias, gate_bias = (None, None) if first.bias is None else first.bias.chunk(2)
    gate = _LINEAR(x, gate_weight, gate_bias, "gelu", [], "none")
    return linear(last, _LINEAR.binary(x, gate, weight, bias, "mul"), plus)


def feed_forward(module: nn.Module, x: Tensor, plus: Tensor) -> Tensor:
    """Feed-forward (diffusers' or this pack's) on ``x`` [..., c], plus ``plus`` [..., c]."""
    if not isinstance(module, FeedForward):
        return module(x, plus)
    first, last = module.net[0], module.net[-1]
    if type(first) is not GEGLU or not _is_plain(first.proj, nn.Linear, x):
        return module(x) + plus
    return gated(first.proj, last, x, plus)


def plus_feed_forward(norm: nn.Module, module: nn.Module, tokens: Tensor) -> Tensor:
    """tokens + module(norm(tokens)); see :func:`.parts.few_at_a_time`."""
    return few_at_a_time(
        lambda part: feed_forward(module, norm(part), part), tokens, None, norm, module, own=True
    )


def activation(function: nn.Module, h: Tensor) -> Tensor:
    """function(h), in place for SiLU."""
    return F.silu(h, inplace=True) if isinstance(function, nn.SiLU) else function(h)


def product(x: Tensor, matrix: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
    """x [..., i] @ ``matrix`` [o, i].T + ``bias`` [o] + ``plus`` [..., o]."""
    if plus is None:
        return _LINEAR(x, matrix, bias, "none", [], "")
    return _LINEAR.binary(x, plus, matrix, bias, "add")


def _sum(out: Tensor, plus: Tensor | None) -> Tensor:
    """out + plus; ``out`` is a layer's fresh output and may be overwritten."""
    return out if plus is None else out.add_(plus)


def _is_plain(layer: nn.Module, kind: type, x: Tensor) -> bool:
    """Whether the layer is exactly torch's own, without hooks, and oneDNN applies to it and x."""
    return (
        _LINEAR is not None
        and type(layer) is kind
        and x.device.type == layer.weight.device.type == "cpu"
        and x.dtype == layer.weight.dtype
        and x.dtype in _PRECISIONS
        and not is_watched(layer)
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
    )


def _is_simple(layer: nn.Conv2d) -> bool:
    """Whether it is 1x1, or 3x3 with padding 1, with weights in channels-last memory already."""
    same = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    small = (layer.kernel_size, layer.padding, layer.stride) in (
        ((1, 1), (0, 0), (1, 1)),
        ((3, 3), (1, 1), (1, 1)),
        ((3, 3), (1, 1), (2, 2)),
    )
    return same and small and layer.weight.is_contiguous(memory_format=torch.channels_last)
