"""From texts in nodes to prompts of segments, prompts with boxes, and strengths of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...core.networks.temporal_layers import Strength
from ..host.shared.conditioning import with_frames
from .curves import curve_of
from .prompt_travel import Clock
from .running import SEED
from .texts import read_boxes, read_segments, read_sites

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


def segments_conditioning(
    host: Host, clip: Wire, text: str, clock: Clock
) -> tuple[Conditioning, int]:
    """The prompts of all segments, each for its frames, and how many frames that makes."""
    conditioning, stop, encoded = [], 0, {}
    for segment in read_segments(text, clock):
        start = stop - segment.overlap
        stop = start + segment.frames
        if segment.prompt not in encoded:
            encoded[segment.prompt] = host.encode_text(clip, segment.prompt)
        entries = with_frames(encoded[segment.prompt], start, stop)
        seed = {} if segment.seed is None else {SEED: segment.seed}
        conditioning += [[tokens, {**more, **seed}] for tokens, more in entries]
    return conditioning, stop


def boxes_conditioning(host: Host, clip: Wire, text: str, boxes: str) -> Conditioning:
    return host.encode_boxes(clip, text, read_boxes(boxes))


def read_strength(
    host: Host, overall: float, kinds: Mapping[str, float], sites: str, curves: Mapping[str, Wire]
) -> Strength:
    """Strengths of temporal layers; for `sites` see `read_sites`, for `curves` `Strength`."""
    read = {name: curve_of(host, value) for name, value in curves.items()}
    return Strength(overall=overall, kinds=kinds, sites=read_sites(sites), **read)
