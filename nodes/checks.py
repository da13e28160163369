"""Input checks that run before a node is executed.

A rule takes the known values and the names of the connected inputs, and yields error messages.
`validate_inputs` applies it while values from other nodes are still unknown; the stage applies it
again when they are known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..core.graph import InputSpec
from ..core.graph.values import check
from .choices import (
    AS_PUBLISHED,
    CONTINUING,
    FROM_CONTEXT,
    RENDERED,
    RENDERED_FRAMES,
    ROLLING,
    SPARSE_FIRST,
)
from .host import io

Values = Mapping[str, Any]
Rule = Callable[[Values, Collection[str]], Iterator[str]]

ABSENT = object()
"""Default of arguments of `validate_inputs`: no value and no connection (which is None)."""


def verdict(node: type[io.ComfyNode], rule: Rule, **given: Any) -> bool | str:
    """The result of `validate_inputs`: True, or the first error.

    Hosts skip their own checks of range and options for inputs that a node validates itself, so
    both are checked here.
    """
    try:
        values = dict(_known_values(node.define_schema().inputs, given))
    except ValueError as error:
        return str(error)
    connected = [name for name, value in given.items() if value is not ABSENT]
    return next(rule(values, connected), True)


def _known_values(
    inputs: Sequence[io.Input], given: Values, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of each input whose value is known, including the inputs of a dynamic
    combo's chosen option; raises ValueError for a value out of range."""
    for one in inputs:
        if isinstance(one, io.DynamicCombo.Input):
            yield from _chosen_values(one, given.get(one.id), prefix)
        elif one.id in given:
            value = given[one.id]
            value = getattr(one, "default", None) if value is ABSENT else value
            if value is not None:
                yield one.id, _checked(value, _spec(one), prefix)


def _chosen_values(one: io.Input, value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The choice of a dynamic combo, then the values of the inputs of that option."""
    options = {option.key: option.inputs for option in one.options}
    choice = value.get(one.id) if isinstance(value, Mapping) else None
    spec = InputSpec(name=one.id, type="COMBO", options=tuple(options))
    yield one.id, _checked(choice, spec, prefix)
    yield from _known_values(options[choice], value, f"{prefix}{one.id}.")


def _checked(value: Any, spec: InputSpec, prefix: str) -> Any:
    try:
        return check(value, spec)
    except ValueError as error:
        raise ValueError(f'input "{prefix}{spec.name}" {error}') from error


def require(rule: Rule, values: Values, connected: Collection[str] = ()) -> None:
    """Raise ValueError with the first error, once all values are known."""
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
    """The values of these inputs, or None if any of them is unknown."""
    found = [values.get(name) for name in names]
    return None if None in found else found


def _not_below(values: Values, small: str, large: str) -> Iterator[str]:
    both = _known(values, small, large)
    if both and both[0] >= both[1]:
        yield f"{small} {both[0]} must be smaller than {large} {both[1]}"


# --------------------------------------------------------------------------------------------------
# Rules.


def sampler_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Video Sampler."""
    strategy = values.get("strategy")
    yield from _not_below(values, "overlap", "window")
    if strategy in CONTINUING:
        yield from _not_below(values, "context_frames", "window")
    yield from _sparse_faults(values)
    if strategy == ROLLING:
        yield from _rolling_faults(values)
    yield from schedule_faults(values, connected)
    yield from _position_faults(values, connected)
    if "context" not in connected or strategy is None:
        return
    if strategy not in FROM_CONTEXT:
        yield (
            f"the strategy {strategy} takes no context frames: disconnect context, or choose "
            f"one of {', '.join(FROM_CONTEXT)}"
        )
    elif strategy not in CONTINUING and values.get("frames") == 1:
        yield "1 context frame leaves nothing to sample in a video of 1 frame: set frames to 2"


def _position_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """context_positions must lie in the video, and require context to be connected."""
    from .stages.texts import read_positions

    text = values.get("context_positions")
    faults = list(_parse_errors(lambda one: read_positions(one, values.get("frames")), text))
    yield from faults
    if text and text.strip() and "context" not in connected:
        yield (
            f"context_positions names the frames {text.strip()}, but context is not connected: "
            "connect their latents, or leave it empty"
        )


def _rolling_faults(values: Values) -> Iterator[str]:
    """The queue has at most one frame per step, and rolling sets its own noise levels. What steps 0
    stands for is only known with the model."""
    both = _known(values, "steps", "window")
    if both and 0 < both[0] < both[1]:
        yield (
            f"rolling needs one noise level for each frame of its queue: steps {both[0]} must be "
            f"at least window {both[1]}"
        )
    if values.get("schedule") == AS_PUBLISHED:
        yield f'the schedule "{AS_PUBLISHED}" cannot be used with rolling: choose another schedule'


def _sparse_faults(values: Values) -> Iterator[str]:
    """A segment has at least the frames that are sampled first."""
    sparse, segment = values.get("first_frames"), "frames"
    if values.get("first_segment") == SPARSE_FIRST:
        segment = "window"
    total = values.get(segment)
    if sparse is not None and total is not None and sparse > total:
        yield f"first_frames {sparse} must not exceed {segment} {total}"


def schedule_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of sampling nodes whose schedule may start below the highest noise level."""
    for name in ("denoise", "fill_denoise"):
        both = _known(values, "schedule", name)
        if both and both[0] == AS_PUBLISHED and both[1] < 1:
            yield (
                f'the schedule "{AS_PUBLISHED}" starts from pure noise, but {name} is {both[1]}: '
                "set it to 1, or choose another schedule"
            )


def interpolation_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Interpolate Frames."""
    if values.get("window_keys") == 1:
        yield "window_keys 1 leaves nothing to interpolate between: set it to 0, or to 2 or more"
    yield from schedule_faults(values, connected)


def upsampling_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Upsample Video."""
    yield from _not_below(values, "overlap", "chunk")
    if values.get("tile"):
        yield from _not_below(values, "tile_overlap", "tile")
    if values.get("borders") == "independent" and values.get("same_noise"):
        yield (
            "same_noise needs borders continued or blended: independent chunks draw their noise as "
            "the published script does"
        )


def video_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of nodes that take either a video or images."""
    given = [name for name in ("video", "images") if name in connected]
    if len(given) != 1:
        both = "both" if given else "none"
        yield f"exactly 1 of the inputs video and images is needed, got {both}: connect one of them"


def loading_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Load Video. The number of frames is only known for the rendered videos."""
    from ..core.graph.wording import counted

    for frame, second in (("start", "start_time"), ("count", "duration")):
        if values.get(frame) and values.get(second):
            yield (
                f"{frame} {values[frame]} and {second} {values[second]:g} say the same thing in "
                "frames and in seconds: set one of them to 0"
            )
    wanted = _known(values, "file", "start", "count", "stride")
    is_timed = any(values.get(name) for name in ("force_rate", "start_time", "duration"))
    if not wanted or wanted[0] not in RENDERED or is_timed:
        return
    _, start, count, stride = wanted
    available = len(range(start, RENDERED_FRAMES, stride))
    if not available or count > available:
        yield (
            f"{counted(count or 1, 'frame')} from frame {start} with stride {stride} were asked "
            f"for, but the rendered video of {RENDERED_FRAMES} frames has {available} of them"
        )


def reference_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Reference Window."""
    both = _known(values, "begin", "end")
    if both and both[0] > both[1]:
        yield f"begin {both[0]} must not be after end {both[1]}"


def segment_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Long-Horizon Segments."""
    from .stages.prompt_travel import Clock
    from .stages.texts import read_segments

    known = _known(values, "frames", "frame_rate")
    if known:
        clock = Clock(frames=known[0], rate=known[1])
        yield from _parse_errors(lambda text: read_segments(text, clock), values.get("segments"))


def box_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Prompt with Bounding Boxes."""
    from .stages.texts import read_boxes

    yield from _parse_errors(read_boxes, values.get("boxes"))


def site_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Inject Temporal Layers."""
    from .stages.texts import read_frames, read_sites

    yield from _parse_errors(read_sites, values.get("sites"))
    yield from _parse_errors(read_frames, values.get("image_frames"))


def curve_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Strength Curve."""
    from .stages.texts import read_places, read_points

    over = values.get("over")
    yield from _parse_errors(lambda text: read_points(text, over), values.get("points"))
    yield from _parse_errors(read_places, values.get("sites"))


def frame_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of nodes that assign images to frames."""
    from .stages.texts import absolute_frames

    yield from _parse_errors(absolute_frames, values.get("frames"))


def camera_faults(values: Values, connected: Collection[str]) -> Iterator[str]:
    """Rules of Camera Control."""
    from .stages.camera_texts import read_camera

    both = _known(values, "moves", "frames")
    if both:
        yield from _parse_errors(lambda text: read_camera(text, both[1]), both[0])


def _parse_errors(read: Callable[[str], Any], text: str | None) -> Iterator[str]:
    if text is None:
        return
    try:
        read(text)
    except ValueError as error:
        yield str(error)
