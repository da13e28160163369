"""Windows over the queue of rolling denoising (FIFO-Diffusion, Kim et al. 2024).

The queue holds one frame per sampling step, cleanest first: the frame at position p has p + 1 steps
left. Every step of the queue takes each frame one noise level down; the first one leaves clean, and
a new one of pure noise joins at the end.
"""

from __future__ import annotations

from typing import NamedTuple


class QueueWindow(NamedTuple):
    """Queue positions that the model sees together. Those in `updated` are taken one step down, the
    others are context."""

    seen: range
    updated: range


def leading_context(window: int, lookahead: bool) -> int:
    """Finished frames in front of the queue as context: half a window, or 0 without lookahead."""
    return window // 2 if lookahead else 0


def queue_windows(steps: int, window: int, *, lookahead: bool = False) -> list[QueueWindow]:
    """The model's calls in one step of a queue of `steps` frames; each frame is updated once.

    Positions count from the first frame in front, finished ones included. Without lookahead,
    windows lie side by side. With it, each window updates only its noisier half, so that every
    frame is denoised beside half a window of cleaner ones. A remainder at the noisy end gets a
    window moved back to fit. Raises ValueError for fewer steps than a window has frames.
    """
    if window < 1 or (lookahead and window < 2):
        raise ValueError(
            f"A rolling window needs at least {2 if lookahead else 1} frames, got {window}."
        )
    if steps < window:
        raise ValueError(
            f"Rolling needs one noise level for each frame of its queue: {steps} steps are fewer "
            f"than the {window} frames of a window; take at least {window} steps."
        )
    front = leading_context(window, lookahead)
    stop, stride = front + steps, window - front
    ends = [min(start + stride, stop) for start in range(front, stop, stride)]
    starts = range(front, stop, stride)
    return [
        QueueWindow(range(max(end - window, 0), max(end, window)), range(start, end))
        for start, end in zip(starts, ends, strict=True)
    ]
