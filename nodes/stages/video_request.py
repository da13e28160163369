"""A request to the Video Sampler, in the units of its model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .latent_frames import chosen, in_latent_frames
from .strategy import Strategy
from .texts import read_positions

if TYPE_CHECKING:
    from ..host.interface import Host, Wire

Prompts = tuple[list, list]
"""The positive and the negative CONDITIONING."""

NO_WORDS = [[None, {}]]


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """The Video Sampler's inputs; sizes in pixels, lengths in frames."""

    width: int
    height: int
    frames: int
    cfg: float
    guidance_rescale: float
    strategy: Strategy
    context: Any = None


def in_latents(factor: int, request: VideoRequest) -> VideoRequest:
    """The request with its lengths in latent frames of `factor` frames each."""
    if factor == 1:
        return request
    lengths = chosen(vars(request.strategy))
    if not request.strategy.has_segments:
        # They are defaults of 16 and 0 frames that nothing reads, and need not fit.
        lengths = {name: n for name, n in lengths.items() if name not in ("window", "overlap")}
    lengths = in_latent_frames(lengths, factor)
    own = replace(request.strategy, **lengths, context_positions=_latent_positions(factor, request))
    frames = in_latent_frames({"frames": request.frames}, factor)
    return replace(request, **frames, strategy=own)


def _latent_positions(factor: int, request: VideoRequest) -> str:
    """context_positions as numbers of the latent frames that contain these frames; ValueError if
    two share one."""
    found: dict[int, int] = {}
    for frame in read_positions(request.strategy.context_positions, request.frames):
        first = found.setdefault(frame // factor, frame)
        if first != frame:
            raise ValueError(
                f"context_positions names the frames {first} and {frame}, which share one latent "
                f"frame: the model has one for {factor} frames"
            )
    return ", ".join(map(str, found))


def prompts_for(host: Host, model: Wire, prompts: Prompts) -> Prompts:
    """The prompts, or empty ones and a warning for a model that was trained without text."""
    if host.facts(model).reads_text:
        return prompts
    if any(tokens is not None and tokens.shape[-1] > 1 for one in prompts for tokens, _ in one):
        host.warn("the model was trained without text, so the prompts have no effect")
    return NO_WORDS, NO_WORDS
