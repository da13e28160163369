"""The keyframe residual: what the autoencoder loses of keyframes, added to the frames between them.

A video that was interpolated in latents has lost detail in the autoencoder, even in its keyframes,
which are known. Their residual, the true frame minus the decoded one, changes little over time
where nothing moves: it is interpolated linearly and added to the decoded frames. Keyframes come out
exactly as they went in.

Where two keyframes agree, their linear blend is a second, better estimate of the frames between
them. The two estimates are averaged, weighted by the inverse of their variances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.video_shape import check_video

DECODED_SPREAD = 0.1
"""Standard deviation of decoded from true pixels in [-1, 1]; chosen on rendered videos."""

REACH = 1
"""Radius in pixels of the neighbourhood in which keyframes are compared."""


def with_keyframe_residual(
    decoded: Iterable[Tensor], keys: Tensor, spacing: int
) -> Iterator[Tensor]:
    """Yield the frames of ``decoded`` [b, t, 3, h, w] with the detail of ``keys`` [b, k, 3, h, w].

    Keyframe i is frame i * spacing of the video, which must end with a keyframe. At most
    ``spacing`` frames are held back at a time. Raises ValueError when the numbers do not match.
    """
    check_video(keys, 3)
    if spacing < 1:
        raise ValueError(f"the spacing of key frames must be at least 1, not {spacing}")
    return _restored(decoded, keys, spacing)


def _restored(decoded: Iterable[Tensor], keys: Tensor, spacing: int) -> Iterator[Tensor]:
    between: list[Tensor] = []
    key = loss = torch.zeros(())
    last = spacing * (keys.shape[1] - 1)
    for t, frame in enumerate(_frames(decoded)):
        if t > last:
            raise ValueError(
                f"{keys.shape[1]} key frames every {spacing} frames end at frame {last}, but the "
                f"video is longer"
            )
        if t % spacing:
            between.append(frame)
            continue
        before, key = (key, loss), keys[:, t // spacing].to(frame)
        loss = key - frame
        yield torch.stack([*_between(between, before, (key, loss), spacing), key], dim=1)
        between = []
    if between:
        raise ValueError(
            f"{len(between)} frames follow the last key frame, but the video must end with a key "
            f"frame, one every {spacing} frames"
        )


def _frames(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    return (frame for chunk in chunks for frame in chunk.unbind(1))


def _between(
    frames: list[Tensor],
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    spacing: int,
) -> list[Tensor]:
    """The frames between two keyframes, each of which comes with its residual."""
    if not frames:
        return []
    (key0, loss0), (key1, loss1) = before, after
    difference = _variance(key0, key1)
    made = []
    for n, frame in enumerate(frames, start=1):
        at = n / spacing
        frame, blend = frame + torch.lerp(loss0, loss1, at), torch.lerp(key0, key1, at)
        blend_variance = at * (1 - at) * difference
        trust = blend_variance / (blend_variance + DECODED_SPREAD**2)
        made.append(blend + trust * (frame - blend))
    return made


def _variance(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference [b, 1, h, w] of frames [b, 3, h, w] around each pixel."""
    squared = (one - other).square().mean(dim=1, keepdim=True)
    padded = F.pad(squared, (REACH,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * REACH + 1, stride=1)
