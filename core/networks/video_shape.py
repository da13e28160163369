"""A check of video shapes that imports none of the libraries for networks."""

from __future__ import annotations

from torch import Tensor


def check_video(video: Tensor, channels: int | None = None) -> None:
    """Raise ValueError unless this is a video [b t c h w], of `channels` if given."""
    if video.ndim != 5 or (channels is not None and video.shape[2] != channels):
        wanted = f"[b, t, {channels or 'c'}, h, w]"
        raise ValueError(f"expected a video {wanted}, got shape {list(video.shape)}")
