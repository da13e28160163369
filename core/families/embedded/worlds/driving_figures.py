"""Cars and trees of the world `driving`, drawn where they stand on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .driving_ground import CAMERA_HEIGHT, LIGHTS
from .raster import Window, blend, paint, per_frame, ramp, window

CAR_WIDTH, CAR_HEIGHT = 1.9, 1.5
HALF = CAR_WIDTH / 2


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where something stands, `[t]` each: foot point (`x`, `base`) in pixels, pixels per metre."""

    x: np.ndarray
    base: np.ndarray
    scale: np.ndarray


# Trees.


def _tree_parts(
    kind: str, x: np.ndarray, y: np.ndarray, spot: Spot, size: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distances in pixels to crown and trunk, and the crown's shading in [-1, 1]."""
    unit = per_frame(spot.scale * size)
    right = (x - per_frame(spot.x)) / unit
    up = (per_frame(spot.base) - y) / unit
    trunk = np.minimum(0.16 - np.abs(right), np.minimum(up, 1.9 - up)) * unit
    if kind == "pine":
        # The slanted edge's normal has length sqrt(1 + 0.36**2).
        crown = np.minimum((4.6 - up) * 0.36 - np.abs(right), up - 0.8) * unit * 0.94
    else:
        crown = (1 - np.sqrt((right / 1.25) ** 2 + ((up - 2.7) / 1.5) ** 2)) * unit * 1.35
    return crown, trunk, np.clip(0.45 * (up - 2.6) - 0.35 * right, -1, 1)


def tree_inside(
    kind: str, x: np.ndarray, y: np.ndarray, spot: Spot, size: np.ndarray | float
) -> np.ndarray:
    """The signed distance to the tree's outline in pixels, positive inside."""
    crown, trunk, _ = _tree_parts(kind, x, y, spot, size)
    return np.maximum(crown, trunk)


def draw_tree(
    canvas: np.ndarray, kind: str, light: str, spot: Spot, size: np.ndarray, alpha: np.ndarray
) -> None:
    """Draw one tree; `size` and `alpha` are `[t]`."""
    reach, top = 1.7 * spot.scale * size, 4.7 * spot.scale * size
    height, width = canvas.shape[-2:]
    area = window(height, width, spot.x - reach, spot.base - top, spot.x + reach, spot.base)
    if area is None:
        return
    crown, trunk, shade = _tree_parts(kind, area.x, area.y, spot, size)
    view = canvas[:, :, area.rows, area.columns]
    visible, colors = per_frame(alpha), LIGHTS[light]
    blend(view, ramp(trunk) * visible, paint(colors.trunk))
    blend(view, ramp(crown) * visible, paint(colors.crown) * (1 + 0.35 * shade[:, None]))


# Cars.


def _rear_axes(x: np.ndarray, y: np.ndarray, spot: Spot) -> tuple[np.ndarray, ...]:
    """|x| from the car's middle and height above ground, both in metres, and the scale."""
    scale = per_frame(spot.scale)
    return np.abs(x - per_frame(spot.x)) / scale, (per_frame(spot.base) - y) / scale, scale


def _rectangle(
    side: np.ndarray, up: np.ndarray, x0: float, x1: float, y0: float, y1: float
) -> np.ndarray:
    horizontal = (x1 - x0) / 2 - np.abs(side - (x0 + x1) / 2)
    return np.minimum(horizontal, (y1 - y0) / 2 - np.abs(up - (y0 + y1) / 2))


def _trapezoid(
    side: np.ndarray, up: np.ndarray, bottom: float, top: float, y0: float, y1: float
) -> np.ndarray:
    slope = (bottom - top) / (y1 - y0)
    slanted = (bottom - slope * (up - y0) - side) / float(np.hypot(1, slope))
    return np.minimum(slanted, (y1 - y0) / 2 - np.abs(up - (y0 + y1) / 2))


def _rounded(side: np.ndarray, up: np.ndarray, half: float, y0: float, y1: float) -> np.ndarray:
    radius = 0.12
    over_x = side - (half - radius)
    over_y = np.abs(up - (y0 + y1) / 2) - ((y1 - y0) / 2 - radius)
    corner = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return radius - corner - np.minimum(np.maximum(over_x, over_y), 0)


def _cabin(side: np.ndarray, up: np.ndarray) -> np.ndarray:
    return _trapezoid(side, up, 0.90, 0.70, 0.80, CAR_HEIGHT)


def _body(side: np.ndarray, up: np.ndarray) -> np.ndarray:
    return _rounded(side, up, HALF, 0.24, 0.98)


def _wheels(side: np.ndarray, up: np.ndarray) -> np.ndarray:
    return _rectangle(side, up, 0.56, 0.84, 0.0, 0.34)


def car_inside(x: np.ndarray, y: np.ndarray, rear: Spot) -> np.ndarray:
    """The signed distance to the outline of the car's rear in pixels, positive inside."""
    side, up, scale = _rear_axes(x, y, rear)
    return scale * np.maximum(np.maximum(_cabin(side, up), _body(side, up)), _wheels(side, up))


def car_margin(x: np.ndarray, y: np.ndarray, rear: Spot, front: Spot) -> np.ndarray:
    """The signed distance to a rectangle around rear, side and shadow, positive inside."""
    reach, ahead = per_frame(1.25 * rear.scale), per_frame(HALF * front.scale)
    left = np.minimum(per_frame(rear.x) - reach, per_frame(front.x) - ahead)
    right = np.maximum(per_frame(rear.x) + reach, per_frame(front.x) + ahead)
    top = per_frame(rear.base - CAR_HEIGHT * rear.scale)
    bottom = per_frame(rear.base + 0.25 * rear.scale)
    return np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y))


def draw_car(canvas: np.ndarray, light: str, rear: Spot, front: Spot, rgb: np.ndarray) -> None:
    """Draw one car per frame; `rgb` is `[t, 3]`."""
    height, width = canvas.shape[-2:]
    reach, ahead = 1.5 * rear.scale, HALF * front.scale
    area = window(
        height,
        width,
        np.minimum(rear.x - reach, front.x - ahead),
        rear.base - 1.6 * rear.scale,
        np.maximum(rear.x + reach, front.x + ahead),
        rear.base + 0.3 * rear.scale,
    )
    if area is None:
        return
    view = canvas[:, :, area.rows, area.columns]
    color = paint(rgb) * np.float32(LIGHTS[light].body)
    side, up, scale = _rear_axes(area.x, area.y, rear)
    shadow = 1 - np.sqrt((side / 1.2) ** 2 + ((up - 0.02) / 0.17) ** 2)
    blend(view, np.clip(shadow * 2.2, 0, 0.6), paint((0.03, 0.03, 0.05)))
    _draw_side(view, area, rear, front, color)
    _draw_rear(view, side, up, scale, color)
    _draw_lamps(view, side, up, scale, light)


def _draw_side(view: np.ndarray, area: Window, rear: Spot, front: Spot, color: np.ndarray) -> None:
    """Draw the flank between the rear and the front, as far as the camera sees it."""
    facing = np.sign(per_frame(front.x - rear.x))  # +1: the right flank is seen
    near = per_frame(rear.x) + facing * per_frame(HALF * rear.scale)
    far = per_frame(front.x) + facing * per_frame(HALF * front.scale)
    length = np.maximum(facing * (far - near), 1e-3)
    along = facing * (area.x - near) / length
    shown = ramp(np.minimum(facing * (area.x - near) + 1.5, facing * (far - area.x)))
    shown = shown * (facing * (far - near) > 0)
    part = np.clip(along, 0, 1)
    # Heights above ground shrink along the flank as the scale does.
    scale = per_frame(rear.scale) + part * per_frame(front.scale - rear.scale)
    ground = per_frame(rear.base) + part * per_frame(front.base - rear.base)
    up = (ground - area.y) / scale
    body = ramp(np.minimum(up - 0.22, 0.95 - up) * scale)
    blend(view, shown * body, color * np.float32(0.62))
    # The cabin leans inwards: its half width at this height moves both ends of the flank.
    half = np.clip(0.90 - 0.286 * (up - 0.80), 0.70, 0.90)
    near = per_frame(rear.x) + facing * half * per_frame(rear.scale)
    far = per_frame(front.x) + facing * half * per_frame(front.scale)
    length = np.maximum(facing * (far - near), 1e-3)
    part = facing * (area.x - near) / length
    ends = np.minimum(part * length + 1.5, (0.72 - part) * length)
    visible = facing * (far - near) > 0
    cabin = np.minimum(np.minimum(up - 0.9, 1.46 - up) * scale, ends)
    blend(view, visible * ramp(cabin), color * np.float32(0.55))
    glass = np.minimum(np.minimum(up - 0.98, 1.36 - up) * scale, ends - 0.08 * length)
    blend(view, visible * ramp(glass), paint((0.09, 0.11, 0.15)))


def _draw_rear(
    view: np.ndarray, side: np.ndarray, up: np.ndarray, scale: np.ndarray, color: np.ndarray
) -> None:
    blend(view, ramp(_wheels(side, up) * scale), paint((0.05, 0.05, 0.06)))
    blend(view, ramp(_cabin(side, up) * scale), color * np.float32(0.88))
    glass = paint((0.13, 0.17, 0.23)) * (0.6 + 0.9 * np.clip(up - 0.75, 0, 0.7)[:, None])
    blend(view, ramp(_trapezoid(side, up, 0.78, 0.62, 0.96, 1.40) * scale), glass)
    shade = np.clip(0.72 + 0.34 * up, 0.72, 1.05)
    blend(view, ramp(_body(side, up) * scale), color * shade[:, None])
    bumper = _rectangle(side, up, -0.90, 0.90, 0.26, 0.40)
    blend(view, ramp(bumper * scale) * 0.75, paint((0.07, 0.07, 0.08)))
    plate = _rectangle(side, up, -0.24, 0.24, 0.48, 0.62)
    blend(view, ramp(plate * scale) * 0.8, paint((0.80, 0.80, 0.76)))


def _draw_lamps(
    view: np.ndarray, side: np.ndarray, up: np.ndarray, scale: np.ndarray, light: str
) -> None:
    colors = LIGHTS[light]
    lamp = _rectangle(side, up, 0.62, 0.91, 0.66, 0.85)
    blend(view, ramp(lamp * scale), paint(colors.lamp))
    if colors.glow:
        reach = np.clip(1 - np.hypot(side - 0.77, up - 0.75) / 0.62, 0, 1) ** 2
        view += np.float32(colors.glow) * reach[:, None] * paint(colors.lamp)


assert CAMERA_HEIGHT > CAR_HEIGHT, "roofs are not drawn"
