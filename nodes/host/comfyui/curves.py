"""ComfyUI's CURVE to core's curves and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from comfy_api.latest import _input as host_types

from ....core.diffusion.curves import Curve, Line

# Older releases have no CURVE; then only our own curves are on wires.
CurveInput = getattr(host_types, "CurveInput", object)
KINDS = {
    getattr(host_types, "LinearCurve", None): "linear",
    getattr(host_types, "MonotoneCubicCurve", None): "smooth",
}
POINTS = 256
"""Samples of a curve of another kind."""


class DrawnCurve(CurveInput):
    """Core's curve on a wire; to other nodes, a CURVE over 0 .. 1."""

    def __init__(self, curve: Curve):
        self.curve = curve

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(float(x), self.interp(x)) for x in np.linspace(0, 1, POINTS)]

    def interp(self, x: float) -> float:
        """The product of all lines, ignoring masks and sites; x from 0 to 1 is the position along
        each line."""
        value = 1.0
        for curve in (self.curve, *(one.curve for one in self.curve.local)):
            value *= curve.factor
            for line in curve.lines:
                value *= line(x if line.over == "steps" else x * line.points[-1][0])
        return value


def read_curve(value: Any) -> Curve | None:
    """Core's curve of a CURVE, over steps unless it is one of ours; None for other values."""
    if isinstance(value, DrawnCurve):
        return value.curve
    if isinstance(value, dict) and "points" in value:
        value = CurveInput.from_raw(value)
    if CurveInput is object or not isinstance(value, CurveInput):
        return None
    kind = KINDS.get(type(value))
    if kind is None:
        places = np.linspace(0, 1, POINTS)
        return Curve(lines=(Line(tuple(zip(places, value.to_lut(POINTS), strict=True))),))
    return Curve(lines=(Line(tuple(value.points), kind),))
