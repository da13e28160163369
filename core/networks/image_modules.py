"""A residual block of diffusers' image networks, on the frames of videos."""

from __future__ import annotations

from torch import Tensor, nn

from .layer_calls import activation, convolution
from .layers.group_norms import group_norm


def residual_block(
    block: nn.Module, h: Tensor, frames: int = 1, embedded: Tensor | None = None
) -> Tensor:
    """The block on ``h`` [(b t), c, h, w], whose norms take statistics over each `frames` of them;
    embedded: what the noise level adds between its convolutions, [(b t), c]."""
    z = activation(block.nonlinearity, group_norm(block.norm1, h, frames))
    z = convolution(block.conv1, z)
    if embedded is not None:
        z += embedded[:, :, None, None]
    z = activation(block.nonlinearity, group_norm(block.norm2, z, frames, own=True))
    h = h if block.conv_shortcut is None else convolution(block.conv_shortcut, h)
    z = convolution(block.conv2, block.dropout(z), plus=h)
    return z if block.output_scale_factor == 1 else z / block.output_scale_factor
