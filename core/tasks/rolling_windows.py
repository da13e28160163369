"""Where the windows of rolling denoising lie in its queue.

The queue holds one frame for every sampling step, the cleanest first: position p stands before its
last p + 1 steps. Every step of the queue takes each frame one noise level down, the first one
leaves clean, and a new one of pure noise joins behind the last (Kim et al. 2024, FIFO-Diffusion).
"""

from __future__ import annotations

from typing import NamedTuple


class QueueWindow(NamedTuple):
    """Positions of the queue that the model sees together; `updated` are those it takes one step
    down, the others are context."""

    seen: range
    updated: range


def leading_context(window: int, lookahead: bool) -> int:
    """Finished frames that stay in front of the queue as context: with lookahead half a window."""
    return window // 2 if lookahead else 0


def queue_windows(steps: int, window: int, *, lookahead: bool = False) -> list[QueueWindow]:
    """The model's calls in one step of a queue of `steps` frames, which update each frame once.

    Positions count from the first frame in front, finished ones included. Plain: windows side by
    side. With lookahead each window updates its noisier half alone, so that every frame is denoised
    beside half a window of cleaner ones. What is left over at the noisy end gets a window moved
    back to fit. Raises ValueError for fewer steps than a window has frames.
    """
    if window < 1 or (lookahead and window < 2):
        raise ValueError(
            f"A rolling window needs at least {2 if lookahead else 1} frames, got {window}."
        )
    if steps < window:
        raise ValueError(
            f"Rolling takes one noise level for each frame in its queue: {steps} steps are fewer "
            f"than the {window} frames of a window, take at least {window} steps."
        )
    front = leading_context(window, lookahead)
    stop, stride = front + steps, window - front
    ends = [min(start + stride, stop) for start in range(front, stop, stride)]
    starts = range(front, stop, stride)
    return [
        QueueWindow(range(max(end - window, 0), max(end, window)), range(start, end))
        for start, end in zip(starts, ends, strict=True)
    ]
