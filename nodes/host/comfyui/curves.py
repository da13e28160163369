"""CURVE of ComfyUI's: what core makes of it, and core's curves as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from comfy_api.latest import _input as host_types

from ....core.diffusion.curves import Curve, Line

# Releases before CURVE have none; what is on the wire then is ours alone.
CurveInput = getattr(host_types, "CurveInput", object)
KINDS = {
    getattr(host_types, "LinearCurve", None): "linear",
    getattr(host_types, "MonotoneCubicCurve", None): "smooth",
}
POINTS = 256
"""Of a curve of another kind, which is looked up at as many places."""


class DrawnCurve(CurveInput):
    """Core's curve on a wire; for other nodes its values from 0 to 1."""

    def __init__(self, curve: Curve):
        self.curve = curve

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(float(x), self.interp(x)) for x in np.linspace(0, 1, POINTS)]

    def interp(self, x: float) -> float:
        """The product of the lines, masks and sites aside, at x from 0 to 1 of each."""
        value = 1.0
        for curve in (self.curve, *(one.curve for one in self.curve.local)):
            value *= curve.factor
            for line in curve.lines:
                value *= line(x if line.over == "steps" else x * line.points[-1][0])
        return value


def read_curve(value: Any) -> Curve | None:
    """The curve that a CURVE stands for, over steps unless it is ours; None for other values."""
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
