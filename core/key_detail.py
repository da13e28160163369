"""What the autoencoder loses of given frames, handed on to the frames made between them.

Interpolating a clip happens in latents, so that also the given frames come back with the loss of
the autoencoder. That loss is known, though: the true frame minus the decoded one. Between two given
frames it changes little where nothing moves, so it is blended linearly over time and added to the
decoded frames; given frames come out exactly as they went in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .autoencoder import check_video


def restore_detail(decoded: Iterable[Tensor], keys: Tensor, spacing: int) -> Iterator[Tensor]:
    """Yield the frames of ``decoded`` [b, t, 3, h, w] with the detail of ``keys`` [b, k, 3, h, w].

    Key frame i is frame i * spacing of the video, which must end with a key frame. At most
    ``spacing`` frames are held back at a time. Raises ValueError when the numbers do not fit.
    """
    check_video(keys, 3)
    if spacing < 1:
        raise ValueError(f"the spacing of key frames must be at least 1, not {spacing}")
    return _restored(decoded, keys, spacing)


def _restored(decoded: Iterable[Tensor], keys: Tensor, spacing: int) -> Iterator[Tensor]:
    between: list[Tensor] = []
    loss = torch.zeros(())
    last = spacing * (keys.shape[1] - 1)
    for t, frame in enumerate(_frames(decoded)):
        if t > last:
            raise ValueError(
                f"{keys.shape[1]} key frames every {spacing} frames end at frame {last}, but the "
                f"video goes on"
            )
        if t % spacing:
            between.append(frame)
            continue
        key = keys[:, t // spacing].to(frame)
        before, loss = loss, key - frame
        yield torch.stack([*_blended(between, before, loss, spacing), key], dim=1)
        between = []
    if between:
        raise ValueError(
            f"{len(between)} frames follow the last whole step of {spacing} frames from key frame "
            f"to key frame"
        )


def _frames(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    return (frame for chunk in chunks for frame in chunk.unbind(1))


def _blended(frames: list[Tensor], before: Tensor, after: Tensor, spacing: int) -> list[Tensor]:
    return [
        frame + torch.lerp(before, after, n / spacing) for n, frame in enumerate(frames, start=1)
    ]
