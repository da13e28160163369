"""A residual block of diffusers' image networks, applied to the frames of videos."""

from __future__ import annotations

from torch import Tensor, nn

from .layer_calls import activation, convolution
from .layers.group_norms import group_norm


def residual_block(
    block: nn.Module,
    h: Tensor,
    frames: int = 1,
    embedded: Tensor | None = None,
    *,
    inplace: bool = False,
) -> Tensor:
    """The block on ``h`` [(b t), c, h, w]; its norms pool statistics over each `frames` frames.

    embedded: the projected time embedding, added between its convolutions, [(b t), c]. inplace:
    ``h`` may be overwritten.
    """
    shortcut = block.conv_shortcut
    residual = h if shortcut is None else convolution(shortcut, h)
    z = group_norm(block.norm1, h, frames, inplace=inplace and shortcut is not None)
    z = convolution(block.conv1, activation(block.nonlinearity, z))
    if embedded is not None:
        z += embedded[:, :, None, None]
    z = activation(block.nonlinearity, group_norm(block.norm2, z, frames, inplace=True))
    z = convolution(block.conv2, block.dropout(z), plus=residual)
    return z if block.output_scale_factor == 1 else z / block.output_scale_factor
