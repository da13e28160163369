"""Plans of windows: which frames a model sees together, and how overlapping answers are fused.

A window is a tuple of frame numbers. Every plan covers every frame, which is checked where it is
made. Plans are independent of what they are used for: sampling, decoding or prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser

Window = tuple[int, ...]


# --------------------------------------------------------------------------------------------------
# Windows over one video.


def sliding_windows(frames: int, window: int, overlap: int) -> list[Window]:
    """Windows of `window` frames that share `overlap`; the last is moved left to fit the end."""
    starts = _starts(frames, window, overlap)
    return covering([tuple(range(s, min(s + window, frames))) for s in starts], frames)


def disjoint_windows(frames: int, window: int) -> list[Window]:
    """Consecutive windows without overlap; the last may be short."""
    _check_window(frames, window, 0)
    starts = range(0, frames, window)
    return covering([tuple(range(s, min(s + window, frames))) for s in starts], frames)


def looped_windows(
    frames: int,
    window: int,
    overlap: int,
    *,
    octaves: int = 1,
    step: int = 0,
    closed: bool = True,
) -> list[Window]:
    """Windows with strides 1, 2, 4, ... on a video whose end meets its beginning.

    octaves: the most strides to use; those far too wide for the video are left out.
    step: sampling step, which shifts the windows so that their seams do not stay in one place.
    closed: also cover the seam, for videos that play as a loop.
    """
    _check_window(frames, window, overlap)
    if frames < window:
        return [tuple(range(frames))]
    wide_enough = math.ceil(math.log2(frames / window)) + 1
    fraction = _bit_reversed_fraction(step)
    windows = []
    for stride in (2**k for k in range(min(octaves, wide_enough))):
        first = round(frames * fraction)
        last = first + frames - (0 if closed else overlap)
        starts = range(first + int(fraction * stride), last, window * stride - overlap)
        windows += [_strided(start, window, stride, frames) for start in starts]
    return covering(windows, frames)


def uniform_windows(
    frames: int, window: int, overlap: int, *, octaves: int = 1, step: int = 0
) -> list[Window]:
    """Like `looped_windows` for videos that do not loop: no window wraps from the end to the start.

    A window that would wrap is moved to end at the last frame. If the next window does not contain
    the frame at which it wrapped, a window starting there is added. Windows wider than the video
    are left out, and frames that no window covers then get windows of the sliding plan.
    """
    if frames <= window:
        _check_window(frames, window, overlap)
        return [tuple(range(frames))]
    loop = looped_windows(frames, window, overlap, octaves=octaves, step=step, closed=False)
    windows: list[Window] = []
    for i, (indices, following) in enumerate(zip(loop, loop[1:] + loop[:1], strict=True)):
        wrapped_at = next((b for a, b in zip(indices, indices[1:], strict=False) if b < a), None)
        if wrapped_at is None:
            windows.append(indices)
            continue
        windows.append(_moved_to_end(indices, frames))
        # The window after the last one is the first, as it was placed above.
        following = windows[0] if i == len(loop) - 1 else following
        if wrapped_at not in following:
            filler = tuple(range(wrapped_at, wrapped_at + window))
            windows.append(filler if filler[-1] < frames else _moved_to_end(filler, frames))
    windows = [w for w in dict.fromkeys(windows) if w[0] >= 0]
    missing = set(range(frames)).difference(*windows)
    spare = sliding_windows(frames, window, overlap)
    return covering(windows + [w for w in spare if missing.intersection(w)], frames)


def turned_window(frames: int, step: int) -> Window:
    """All frames of a looping video, starting at a different frame at every sampling step."""
    return _strided(round(frames * _bit_reversed_fraction(step)), frames, 1, frames)


def covering(windows: list[Window], frames: int) -> list[Window]:
    """Return the windows; ValueError unless they contain exactly the frames 0 .. frames - 1."""
    seen = set().union(*windows)
    wrong = sorted(seen.symmetric_difference(range(frames)))
    if wrong:
        raise ValueError(
            f"The windows do not cover 0..{frames - 1} exactly, see frames {wrong[:5]}."
        )
    return windows


def _starts(length: int, window: int, overlap: int) -> list[int]:
    """0, d, 2d, ... with d = window - overlap, the last one moved back to length - window."""
    _check_window(length, window, overlap)
    last = max(length - window, 0)
    return [*range(0, last, window - overlap), last]


def _check_window(frames: int, window: int, overlap: int) -> None:
    if frames < 1 or window < 1:
        raise ValueError(f"frames {frames} and window {window} must be at least 1.")
    if not 0 <= overlap < window:
        raise ValueError(f"overlap {overlap} must be smaller than window {window} and not below 0.")


def _bit_reversed_fraction(step: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: the binary digits of step reversed behind the point."""
    return int(f"{step:064b}"[::-1], 2) / 2**64


def _strided(start: int, window: int, stride: int, frames: int) -> Window:
    return tuple((start + k * stride) % frames for k in range(window))


def _moved_to_end(indices: Window, frames: int) -> Window:
    """The window unwrapped, with its stride, ending at the last frame; may begin below 0."""
    stride = (indices[1] - indices[0]) % frames
    return tuple(frames - 1 - stride * k for k in reversed(range(len(indices))))


# --------------------------------------------------------------------------------------------------
# Fusing: overlapping answers are averaged with weights, sum(w out) / sum(w).


def flat_weights(window: Window, frames: int, overlap: int) -> Tensor:
    return torch.ones(len(window))


def pyramid_weights(window: Window, frames: int, overlap: int) -> Tensor:
    """1, 2, ..., 2, 1: the middle of a window has seen the most context."""
    k = torch.arange(len(window))
    return torch.minimum(k + 1, len(window) - k).float()


def overlap_weights(window: Window, frames: int, overlap: int) -> Tensor:
    """Linear ramps over the overlap, except at the first and the last frame of the video."""
    weights = torch.ones(len(window))
    overlap = min(overlap, len(window))  # The last of disjoint windows may be short.
    # Not 0, so that a frame covered only by the end of a ramp keeps its answer.
    ramp = torch.linspace(1e-30, 1, overlap)
    if overlap and window[0] > 0:
        weights[:overlap] = ramp
    if overlap and window[-1] < frames - 1:
        weights[-overlap:] = torch.minimum(weights[-overlap:], ramp.flip(0))
    return weights


def relative_weights(window: Window, frames: int, overlap: int) -> Tensor:
    """A triangle over the window, at least 0.01."""
    k = torch.arange(len(window))
    middle = (len(window) - 1) / 2
    return (1 - (k - middle).abs() / (middle + 5e-3)).clamp(min=1e-2)


FUSE_WEIGHTS: dict[str, Callable[[Window, int, int], Tensor]] = {
    "flat": flat_weights,
    "pyramid": pyramid_weights,
    "overlap-linear": overlap_weights,
    "relative": relative_weights,
}


LEAST_WEIGHT = 0.02


def fuse_weights(name: str, plan: Sequence[Window], frames: int, overlap: int) -> list[Tensor]:
    """One weight tensor [window] for each window of the plan.

    Where the weights of a frame sum to less than LEAST_WEIGHT, as for frames that only ends of
    windows cover, they are rescaled to sum to 1, so that nothing is divided by almost 0; the mean
    is the same.
    """
    if name not in FUSE_WEIGHTS:
        raise ValueError(f"Unknown fuse method {name!r}; known are {', '.join(FUSE_WEIGHTS)}.")
    weights = [FUSE_WEIGHTS[name](window, frames, overlap).double() for window in plan]
    total = total_weights(plan, weights, frames)
    factor = torch.where(total < LEAST_WEIGHT, 1 / total, torch.ones_like(total))
    pairs = zip(plan, weights, strict=True)
    return [(one * factor[list(window)]).float() for window, one in pairs]


def total_weights(plan: Sequence[Window], weights: Sequence[Tensor], frames: int) -> Tensor:
    """The sum of the weights of every frame, [frames] float64."""
    total = torch.zeros(frames, dtype=torch.float64)
    for window, one in zip(plan, weights, strict=True):
        total.index_add_(0, torch.tensor(window), one.double())
    return total


def fuse(
    answers: Iterator[Tensor], plan: Sequence[Window], weights: Sequence[Tensor], like: Tensor
) -> Tensor:
    """Weighted mean of answers [b window ...], one per window, in the shape of like [b t ...].

    Answers are read one at a time, so that only the sum and one answer are in memory.
    """
    total = torch.zeros_like(like)
    weight = like.new_zeros(like.shape[1])
    for answer, window, w in zip(answers, plan, weights, strict=True):
        frames, w = torch.tensor(window, device=like.device), w.to(like)
        total.index_add_(1, frames, answer * w.reshape(-1, *[1] * (like.ndim - 2)))
        weight.index_add_(0, frames, w)
    return total / weight.reshape(-1, *[1] * (like.ndim - 2))


def windowed(
    denoiser_for_window: Callable[[Window], Denoiser],
    plan: Sequence[Window],
    weights: Sequence[Tensor],
) -> Denoiser:
    """A denoiser of a long video from denoisers of its windows; overlaps are averaged.

    The order of the plan does not matter, not even in the last bit: windows are visited sorted.
    """
    order = sorted(range(len(plan)), key=lambda i: plan[i])
    plan, weights = [plan[i] for i in order], [weights[i] for i in order]
    frames = 1 + max(max(window) for window in plan)
    covering(list(plan), frames)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if x.shape[1] != frames:
            raise ValueError(f"The windows cover {frames} frames, but the video has {x.shape[1]}.")
        answers = (
            denoiser_for_window(w)(x[:, list(w)], sigma[:, list(w)] if sigma.ndim > 1 else sigma)
            for w in plan
        )
        return fuse(answers, plan, weights, like=x)

    return denoise


# --------------------------------------------------------------------------------------------------
# Long videos: prediction from context frames, then interpolation between key frames.


class Chunk(NamedTuple):
    """Frames start .. stop - 1, sampled together; the first `context` of them are given."""

    start: int
    stop: int
    context: int

    @property
    def given(self) -> range:
        return range(self.start, self.start + self.context)

    @property
    def new(self) -> range:
        return range(self.start + self.context, self.stop)


def prediction_chunks(frames: int, window: int, context: int) -> list[Chunk]:
    """Chunks of `window` frames, each but the first continuing from the last `context` frames.

    All have the length that the model was trained on, so the last may run past `frames`.
    """
    _check_window(frames, window, 0)
    if not 0 <= context < window:
        raise ValueError(f"context {context} must be smaller than window {window} and not below 0.")
    chunks = [Chunk(0, window, 0)]
    while chunks[-1].stop < frames:
        start = chunks[-1].stop - context
        chunks.append(Chunk(start, start + window, context))
    return chunks


# --------------------------------------------------------------------------------------------------
# Space: tiles of images that are too large for one call.


class Tile(NamedTuple):
    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor, scale: int = 1) -> Tensor:
        """The view of x [... h w] under this tile, enlarged by `scale`."""
        top, left, height, width = (scale * side for side in self)
        return x[..., top : top + height, left : left + width]


def tiles(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Square tiles, row by row, sharing `overlap`; the last of a row is moved back inside."""
    size = min(tile, height), min(tile, width)
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return [Tile(top, left, *size) for top in rows for left in columns]


def tile_weights(tile: Tile, height: int, width: int, overlap: int) -> Tensor:
    """[tile.height tile.width] linear ramps over the overlap, none at the edges of the image."""
    rows = _edge_ramp(tile.top, tile.height, height, overlap)
    columns = _edge_ramp(tile.left, tile.width, width, overlap)
    return rows[:, None] * columns[None, :]


def _edge_ramp(start: int, size: int, length: int, overlap: int) -> Tensor:
    k = torch.arange(1.0, size + 1) / (overlap + 1)
    rising = k.clamp(max=1) if start > 0 else torch.ones(size)
    falling = k.flip(0).clamp(max=1) if start + size < length else torch.ones(size)
    return rising * falling


def tiled(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int) -> Tensor:
    """function(x) for x [... h w], in tiles; its output may be larger by a whole factor."""
    height, width = x.shape[-2:]
    total = weight = None
    for part in tiles(height, width, tile, overlap):
        answer = function(part.of(x))
        scale = answer.shape[-1] // part.width
        if total is None:
            total = answer.new_zeros(*answer.shape[:-2], scale * height, scale * width)
            weight = answer.new_zeros(scale * height, scale * width)
        scaled = Tile(*(scale * side for side in part))
        w = tile_weights(scaled, scale * height, scale * width, scale * overlap).to(answer)
        part.of(total, scale).add_(answer * w)
        part.of(weight, scale).add_(w)
    return total / weight
