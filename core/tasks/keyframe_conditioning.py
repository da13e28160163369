"""Frame interpolation by a network that reads key frames as extra input channels and re-synthesises
every frame, key frames included (LaVie, section 3.3).

The extra channels of a frame are the latents of its nearest key frame, or a mask and the latents of
a video that is mid-grey between the key frames.
"""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..networks.video_shape import check_video
from .interpolation import FACTOR, interpolated_frames
from .segment import DenoiserFor, SegmentCondition
from .windows import fuse_weights, sliding_windows, windowed


def key_of_frame(keys: int) -> Tensor:
    """[4K - 3] the key frame that conditions each frame: key k serves frames 4k - 1 .. 4k + 2."""
    if keys < 1:
        raise ValueError(f"Expected at least 1 key frame, got {keys}.")
    return (torch.arange(interpolated_frames(keys)) + 1) // FACTOR


def copied_keys(keys: Tensor) -> Tensor:
    """The condition [b 4K-3 c h w] of the published network: each frame's key frame as latents."""
    check_video(keys)
    return keys[:, key_of_frame(keys.shape[1]).to(keys.device)]


def generated_mask(frames: int) -> Tensor:
    """[frames] 0 on every fourth frame, which is given, and 1 on those to be generated."""
    return (torch.arange(frames) % FACTOR != 0).float()


def masked_latents(latents: Tensor, mask: Tensor) -> Tensor:
    """The condition [b t 1+c h w] of a network with a mask: the mask [t], then the latents of the
    video whose frames to be generated are mid-grey."""
    check_video(latents)
    if mask.shape != latents.shape[1:2]:
        raise ValueError(f"A mask of {len(mask)} frames does not fit {latents.shape[1]} frames.")
    b, _, _, h, w = latents.shape
    plane = repeat(mask.to(latents), "t -> b t 1 h w", b=b, h=h, w=w)
    return torch.cat([plane, latents], dim=2)


def interpolating_denoiser(
    denoiser_for: DenoiserFor,
    condition: Tensor,
    *,
    window: int = 61,
    overlap: int = 13,
) -> Denoiser:
    """A denoiser of as many frames as `condition` [b t c h w] has.

    A video longer than `window` is denoised in windows that begin on key frames; their overlaps are
    averaged at every step.
    """
    frames = condition.shape[1]
    if frames <= window:
        return denoiser_for(SegmentCondition(frames=range(frames), concatenated=condition))
    if (window - 1) % FACTOR or (window - overlap) % FACTOR or not 0 <= overlap < window:
        raise ValueError(
            f"Windows of {window} frames that share {overlap} do not begin on key frames: the "
            f"former must be 1 more than a multiple of {FACTOR}, and so must the latter."
        )
    windows = sliding_windows(frames, window, overlap)
    weights = fuse_weights("pyramid", windows, frames, overlap)

    def of(at: tuple[int, ...]) -> Denoiser:
        part = range(at[0], at[-1] + 1)
        concatenated = condition[:, part.start : part.stop]
        return denoiser_for(SegmentCondition(frames=part, concatenated=concatenated))

    bound = {at: of(at) for at in windows}
    return windowed(bound.__getitem__, windows, weights)
