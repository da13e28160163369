"""What can be known to be wrong with a node's inputs before anything runs.

Each rule takes the values that are known and the names of the inputs that something is connected
to. Nodes ask in `validate_inputs`, when what comes over wires is not known; their stages ask again
when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ..core.graph import InputSpec
from ..core.graph.values import check
from .choices import AS_PUBLISHED, CONTINUING, RENDERED, RENDERED_FRAMES, SINGLE_CLIP
from .host import io

Values = Mapping[str, Any]
Rule = Callable[[Values, Collection[str]], Iterator[str]]

ABSENT = object()
"""The default of an argument of `validate_inputs`: neither a value nor a wire (which is None)."""


def verdict(node: type[io.ComfyNode], rule: Rule, **given: Any) -> bool | str:
    """What `validate_inputs` answers: True, or the first thing that is wrong.

    Hosts leave range and choices of an input to the node that validates it, so both are looked at.
    """
    there = {name: value for name, value in given.items() if value is not ABSENT}
    values = {}
    for one in (one for one in node.define_schema().inputs if one.id in given):
        value = there.get(one.id, getattr(one, "default", None))
        if value is not None and (one.id not in there or there[one.id] is not None):
            try:
                values[one.id] = check(value, _spec(one))
            except ValueError as error:
                return f'input "{one.id}" {error}'
    return next(rule(values, there.keys()), True)


def require(rule: Rule, values: Values, connected: Collection[str] = ()) -> None:
    """Raise ValueError for the first thing that is wrong, now that all values are known."""
    for fault in rule(values, connected):
        raise ValueError(fault)


def _spec(one: io.Input) -> InputSpec:
    options = getattr(one, "options", None)
    return InputSpec(
        name=one.id,
        type=one.get_io_type(),
        minimum=getattr(one, "min", None),
        maximum=getattr(one, "max", None),
        options=None if options is None else tuple(options),
    )


def _known(values: Values, *names: str) -> list[Any] | None:
    """The values of these names, or None if one is not known yet."""
    found = [values.get(name) for name in names]
    return None if None in found else found


def _not_below(values: Values, small: str, large: str) -> Iterator[str]:
    both = _known(values, small, large)
    if both and both[0] >= both[1]:
        yield f"{small} {both[0]} must be smaller than {large} {both[1]}"


# --------------------------------------------------------------------------------------------------
# Rules.


def sampler_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of the Video Sampler."""
    strategy = values.get("strategy")
    yield from _not_below(values, "overlap", "window")
    if strategy in CONTINUING:
        yield from _not_below(values, "context_frames", "window")
    if strategy == "hierarchical" and "interpolation_model" not in connected:
        yield (
            "the strategy hierarchical needs the input interpolation_model: connect a model with "
            "interpolation layers"
        )
    yield from _denoise_faults(values, connected)
    yield from _anchor_faults(values, connected)
    alone = "context" not in connected or values.get("denoise") != 1 or strategy in CONTINUING
    if not alone and values.get("frames") == 1:
        yield "1 context frame leaves nothing to make in a video of 1 frame: set frames to 2"


def _denoise_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    denoise, anchors, strategy = (values.get(name) for name in ("denoise", "anchors", "strategy"))
    if denoise is None or denoise == 1:
        return
    if strategy is not None and strategy != SINGLE_CLIP:
        yield (
            f"denoise {denoise} changes a video that is there, which only the strategy "
            f"{SINGLE_CLIP} does: set denoise to 1 for {strategy}"
        )
    elif anchors == 0 and "context" not in connected:
        yield (
            f"denoise {denoise} below 1 starts from a video or from anchors, but nothing is "
            "connected to context and anchors is 0: connect a latent, or set denoise to 1"
        )
    yield from schedule_faults(values, connected)


def _anchor_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    anchors, strategy = values.get("anchors"), values.get("strategy")
    clip = "window" if strategy in CONTINUING else "frames"
    frames = values.get(clip)
    if not anchors or "context" in connected or strategy == "sliding windows":
        return
    if anchors == 1 or (frames is not None and anchors > frames):
        yield f"anchors {anchors} must be 0, or 2 to the {frames or 'number of'} frames of a clip"


def schedule_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of sampling nodes with a schedule and a denoise."""
    both = _known(values, "schedule", "denoise")
    if both and both[0] == AS_PUBLISHED and both[1] < 1:
        yield (
            f'the schedule "{AS_PUBLISHED}" begins from noise alone, but denoise is {both[1]}: '
            "set it to 1, or take another schedule"
        )


def interpolation_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Interpolate Frames."""
    if values.get("window_keys") == 1:
        yield "window_keys 1 has nothing to interpolate between: set it to 0, or to 2 or more"
    yield from schedule_faults(values, connected)


def upsampling_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Upsample Video."""
    yield from _not_below(values, "overlap", "chunk")
    if values.get("tile"):
        yield from _not_below(values, "tile_overlap", "tile")
    if values.get("borders") == "independent" and values.get("same_noise"):
        yield (
            "same_noise needs the borders continued or blended: independent clips draw the noise "
            "of the published script"
        )


def clip_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of nodes that take a video or images."""
    given = [name for name in ("video", "images") if name in connected]
    if len(given) != 1:
        both = "both" if given else "none"
        yield f"exactly 1 of the inputs video and images is needed, got {both}: connect one of them"


def loading_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Load Video, for the clips that it renders itself."""
    wanted = _known(values, "file", "start", "count", "stride")
    if not wanted or wanted[0] not in RENDERED:
        return
    _, start, count, stride = wanted
    available = len(range(start, RENDERED_FRAMES, stride))
    if not available or count > available:
        yield (
            f"{count or 1} frames from frame {start} with stride {stride} were asked for, but the "
            f"rendered clip of {RENDERED_FRAMES} frames has {available} of them"
        )


def segment_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Long-Horizon Segments."""
    from .stages.texts import read_segments

    yield from _unreadable(read_segments, values.get("segments"))


def box_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Prompt with Bounding Boxes."""
    from .stages.texts import read_boxes

    yield from _unreadable(read_boxes, values.get("boxes"))


def site_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Of Inject Temporal Layers."""
    from .stages.texts import read_sites

    yield from _unreadable(read_sites, values.get("sites"))


def _unreadable(read: Callable[[str], Any], text: str | None) -> Iterator[str]:
    if text is None:
        return
    try:
        read(text)
    except ValueError as error:
        yield str(error)
