"""Check a strategy against the script for long videos that was published with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.families import published_long_video
from ...core.tasks.long_video_script import LongVideoScript
from .strategy import Strategy
from .video_request import VideoRequest

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts


def script_for(
    host: Host, facts: ModelFacts, request: VideoRequest, given: bool
) -> LongVideoScript:
    """The script of the model's family, for a request in latent frames; warns if its video has
    another length. given: whether the video is to begin with context frames."""
    script, factor = published_long_video(facts.family), facts.temporal_factor
    check_script(script, request.strategy, factor, given)
    made = script.made(request.frames)
    if made != request.frames:
        host.warn(
            f"as published, the video has {made * factor} frames, not {request.frames * factor}"
        )
    return script


def check_script(script: LongVideoScript, strategy: Strategy, factor: int, given: bool) -> None:
    """Raise ValueError for settings other than the script's. factor: frames per latent frame."""
    for name, wanted, chosen in (("window", script.window * factor, strategy.window * factor),
                                 ("context_frames", script.context * factor,
                                  strategy.context_frames * factor),
                                 ("passes", script.passes, strategy.passes)):  # fmt: skip
        if wanted != chosen:
            raise ValueError(f"as published, {name} is {wanted}, not {chosen}")
    if strategy.match_colours:
        raise ValueError(f"as published, match_colours is 0, not {strategy.match_colours:g}")
    if given or strategy.sparse is not None:
        raise ValueError(
            "as published, a video begins with a window whose frames are made together, without "
            "given ones: disconnect context, and leave first_segment as it was"
        )
