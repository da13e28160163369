"""Turn texts typed into nodes into conditioning and strengths of temporal layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...core.networks.temporal_layers import Strength
from ..choices import BLENDS
from ..host.shared.conditioning import BLEND, SPHERICAL, with_frames
from .curves import curve_of
from .prompt_travel import Clock
from .prompt_values import read_template
from .running import SEED
from .texts import length_of, placed, read_boxes, read_segments, read_sites

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


def segments_conditioning(
    host: Host, clip: Wire, text: str, clock: Clock, blend: str = BLENDS[0]
) -> tuple[Conditioning, int]:
    """The CONDITIONING of all segments, each entry for its own frames, and the total number of
    frames. blend: how one prompt fades into the next, see `choices.BLENDS`."""
    conditioning, encoded = [], {}
    segments = read_segments(text, clock)
    clock = replace(clock, frames=clock.frames or length_of(segments))
    for segment, start, stop in placed(segments):
        more = {} if segment.seed is None else {SEED: segment.seed}
        more |= {} if blend == BLENDS[0] else {BLEND: SPHERICAL}
        parts = list(read_template(segment.prompt, clock).parts(start, stop))
        for prompt, first, last in parts:
            if prompt not in encoded:
                encoded[prompt] = host.encode_text(clip, prompt)
            within = None if len(parts) == 1 else (start, stop)
            entries = with_frames(encoded[prompt], first, last, within)
            conditioning += [[tokens, {**own, **more}] for tokens, own in entries]
    return conditioning, length_of(segments)


def boxes_conditioning(host: Host, clip: Wire, text: str, boxes: str) -> Conditioning:
    return host.encode_boxes(clip, text, read_boxes(boxes))


def read_strength(
    host: Host, overall: float, kinds: Mapping[str, float], sites: str, curves: Mapping[str, Wire]
) -> Strength:
    """Strengths of temporal layers. sites: see `read_sites`. curves: by field of `Strength`."""
    read = {name: curve_of(host, value) for name, value in curves.items()}
    return Strength(overall=overall, kinds=kinds, sites=read_sites(sites), **read)
