"""Curve inputs: a number, one number per frame, a mask or a drawn curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.diffusion.curves import FULL, Curve, Line, per_frame
from ...core.graph.messages import written
from ...core.graph.wording import counted
from ..checks import curve_faults, require
from .texts import read_places, read_points

if TYPE_CHECKING:
    from ..host.interface import Conditioning, Host, Wire


def curve_of(host: Host, value: Wire) -> Curve:
    """The curve of an input value; None is a constant 1.

    ComfyUI's CURVE runs over sampling steps; a list has one number per frame, a MASK one image per
    frame.
    """
    if value is None:
        return FULL
    drawn = host.read_curve(value)
    if drawn is not None:
        return drawn
    if isinstance(value, Tensor):
        return _masked(value)
    if _is_number(value):
        return Curve(float(value))
    if isinstance(value, (list, tuple)) and value and all(map(_is_number, value)):
        return per_frame([float(one) for one in value])
    raise ValueError(
        f"a curve, a number, a list of numbers or a mask was expected, got {written(value)}"
    )


def without_sites(host: Host, value: Wire, what: str) -> Curve:
    """The curve for something without sites, such as guidance; ValueError if it has sites."""
    curve = curve_of(host, value)
    if curve.places:
        raise ValueError(
            f"{what} has no sites, but its curve is for {', '.join(curve.places)} alone: such "
            "curves are for Inject Temporal Layers"
        )
    return curve


def unmasked(host: Host, value: Wire, what: str) -> Curve:
    """The curve for something that acts on whole frames; ValueError if it has masks or sites."""
    curve = without_sites(host, value, what)
    if curve.masks:
        raise ValueError(
            f"{what} acts on whole frames, but its curve has {counted(len(curve.masks), 'mask')}: "
            "use a curve, a number or a list of numbers"
        )
    return curve


def _masked(mask: Tensor) -> Curve:
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3:
        raise ValueError(f"a mask has the shape [n, h, w], got {list(mask.shape)}")
    return Curve(masks=(mask,))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def control_strength(
    host: Host, positive: Conditioning, negative: Conditioning, curve: Wire
) -> list[Conditioning]:
    """Both prompts with the strength of their last ControlNet multiplied by the curve; ValueError
    if neither has a ControlNet."""
    if not any(more.get("control") for _, more in (*positive, *negative)):
        raise ValueError(
            "none of the prompts has a ControlNet whose strength could change: put Apply "
            "ControlNet before this node"
        )
    strength = without_sites(host, curve, "a ControlNet")
    return host.control_strength([positive, negative], strength)


def drawn_curve(
    host: Host, points: str, over: str, interpolation: str, times: Wire, sites: str = ""
) -> Wire:
    """A CURVE through points, multiplied by `times`. With sites, the product is 1 elsewhere; sites
    that `times` has of its own are kept."""
    require(curve_faults, dict(points=points, over=over, sites=sites))
    line = Line(read_points(points, over), interpolation, over)
    curve, places = Curve(lines=(line,)) * curve_of(host, times), read_places(sites)
    return host.curve(curve.within(places) if places else curve)
