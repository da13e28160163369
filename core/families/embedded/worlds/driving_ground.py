"""Sky and ground of the world `driving`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .raster import band, height_width, per_frame, pulse, ramp

FOCAL = 0.9
CAMERA_HEIGHT = 2.0
HORIZON = 0.4
LANE_WIDTH = 2.8
DASH_PERIOD = 6.0
DASH_DUTY = 0.45
SIDEWALK_WIDTH = 1.7

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Light:
    """The colours of one time of day."""

    zenith: Rgb
    middle: Rgb
    horizon: Rgb
    hills: Rgb
    grass: Rgb
    mown: Rgb
    sidewalk: Rgb
    road: Rgb
    line: Rgb
    crown: Rgb
    trunk: Rgb
    body: float  # brightness of car bodies
    lamp: Rgb  # tail lights
    glow: float  # how far tail lights shine


LIGHTS = {
    "day": Light(
        zenith=(0.24, 0.52, 0.90),
        middle=(0.50, 0.74, 0.96),
        horizon=(0.84, 0.92, 0.98),
        hills=(0.47, 0.63, 0.62),
        grass=(0.40, 0.63, 0.28),
        mown=(0.35, 0.57, 0.25),
        sidewalk=(0.70, 0.68, 0.65),
        road=(0.36, 0.37, 0.40),
        line=(0.95, 0.95, 0.93),
        crown=(0.20, 0.45, 0.19),
        trunk=(0.36, 0.26, 0.18),
        body=1.0,
        lamp=(0.72, 0.08, 0.08),
        glow=0.0,
    ),
    "dusk": Light(
        zenith=(0.20, 0.17, 0.42),
        middle=(0.78, 0.38, 0.44),
        horizon=(1.00, 0.74, 0.42),
        hills=(0.33, 0.21, 0.38),
        grass=(0.27, 0.28, 0.22),
        mown=(0.23, 0.24, 0.20),
        sidewalk=(0.45, 0.38, 0.40),
        road=(0.25, 0.23, 0.29),
        line=(0.85, 0.76, 0.70),
        crown=(0.13, 0.16, 0.14),
        trunk=(0.14, 0.10, 0.13),
        body=0.78,
        lamp=(1.00, 0.16, 0.10),
        glow=0.35,
    ),
    "night": Light(
        zenith=(0.02, 0.02, 0.08),
        middle=(0.04, 0.06, 0.15),
        horizon=(0.10, 0.13, 0.26),
        hills=(0.035, 0.045, 0.10),
        grass=(0.10, 0.15, 0.11),
        mown=(0.08, 0.13, 0.10),
        sidewalk=(0.25, 0.25, 0.28),
        road=(0.15, 0.15, 0.19),
        line=(0.80, 0.78, 0.70),
        crown=(0.035, 0.065, 0.06),
        trunk=(0.04, 0.04, 0.05),
        body=0.62,
        lamp=(1.00, 0.14, 0.10),
        glow=0.8,
    ),
}


def _rgb(color: Rgb) -> np.ndarray:
    return np.array(color, dtype=np.float32).reshape(3, 1, 1)


# Sky.


def draw_sky(light: str, look: tuple[float, ...], height: int, width: int) -> np.ndarray:
    """Draw `[3, h, w]`; everything below the hills' ridge has their colour."""
    colors = LIGHTS[light]
    x = (np.arange(width) + 0.5 - width / 2) / height
    y = (np.arange(height) + 0.5) / height
    up = np.clip(1 - y / HORIZON, 0, 1)
    stops = np.array([colors.horizon, colors.middle, colors.zenith])
    column = np.stack([np.interp(up, (0.0, 0.45, 1.0), stops[:, c]) for c in range(3)])
    sky = np.repeat(column.astype(np.float32)[:, :, None], width, axis=2)
    x, y = x.astype(np.float32), y.astype(np.float32)[:, None]
    if light == "night":
        _add_stars(sky, look, height, width)
    else:
        _add_clouds(sky, light, look, x, y)
    _add_disk(sky, light, look, x, y)
    ridge = HORIZON - 0.035 - 0.016 * np.sin(7 * x + 9 * look[1]) - 0.01 * np.sin(17 * x + look[2])
    cover = ramp((y - ridge) * height)
    sky += cover * (_rgb(colors.hills) - sky)
    return sky


def _add_stars(sky: np.ndarray, look: tuple[float, ...], height: int, width: int) -> None:
    number = np.arange(40)[:, None]
    # Multiples of irrational numbers spread evenly, without clusters or rows.
    x = np.mod(look[3] + number * 0.7548777, 1) * width
    y = np.mod(look[4] + number * 0.5698403, 1) * 0.36 * height
    half = (0.0030 + 0.0025 * np.mod(number * 0.618034, 1)) * height
    columns = band(np.abs(np.arange(width) + 0.5 - x), half)
    rows = band(np.abs(np.arange(height) + 0.5 - y), half)
    sky += (0.8 * rows.T @ columns).astype(np.float32)


def _add_disk(
    sky: np.ndarray, light: str, look: tuple[float, ...], x: np.ndarray, y: np.ndarray
) -> None:
    """Add the low sun at dusk, the moon at night."""
    if light == "day":
        return
    height = sky.shape[1]
    centre_x = (look[5] - 0.5) * 0.8
    centre_y, radius = (0.31, 0.05) if light == "dusk" else (0.08 + 0.08 * look[6], 0.035)
    color = (1.0, 0.90, 0.66) if light == "dusk" else (0.93, 0.93, 0.86)
    distance = np.hypot(x - centre_x, y - centre_y)
    sky += 0.35 * np.exp(-distance / 0.07) * (_rgb(color) - sky)
    sky += ramp((radius - distance) * height) * (_rgb(color) - sky)


def _add_clouds(
    sky: np.ndarray, light: str, look: tuple[float, ...], x: np.ndarray, y: np.ndarray
) -> None:
    color = (1.0, 1.0, 1.0) if light == "day" else (0.98, 0.62, 0.50)
    cover = np.zeros(sky.shape[1:], dtype=np.float32)
    for index in range(2):
        centre_x = (look[7 + index] - 0.5) * 1.2
        centre_y = 0.08 + 0.13 * look[9 + index]
        for step in (-1, 0, 1):
            size = 0.05 - 0.012 * abs(step)
            dx, dy = (x - centre_x - 0.07 * step) / (1.9 * size), (y - centre_y) / (0.55 * size)
            cover = np.maximum(cover, np.exp(-((dx * dx + dy * dy) ** 2)))
    sky += 0.7 * cover * (_rgb(color) - sky)


# Ground.


def draw_ground(
    canvas: np.ndarray,
    *,
    light: str,
    lanes: int,
    side: str,
    camera: np.ndarray,
    travelled: np.ndarray,
) -> None:
    """Draw the road plane below the horizon; `camera` (x) and `travelled` are `[t]` metres."""
    height, width = height_width(canvas.shape[-2:])
    top = int(HORIZON * height)
    below = np.maximum(np.arange(top, height) + 0.5 - HORIZON * height, 0.25)
    scale = below / CAMERA_HEIGHT  # pixels per metre, [rows]
    z = FOCAL * height / scale
    depth = z * z / (FOCAL * CAMERA_HEIGHT * height)  # metres of road in one pixel row
    phase = (z + travelled[:, None]) / DASH_PERIOD  # [t, rows]
    bands = pulse(phase, depth / DASH_PERIOD, 0.5)
    dashes = pulse(phase, depth / DASH_PERIOD, DASH_DUTY)
    joints = pulse(phase, depth / DASH_PERIOD, 0.06)
    rows = scale.astype(np.float32)[:, None]
    centre = np.arange(width) + 0.5 - width / 2
    across = centre.astype(np.float32) + (camera[:, None] * scale).astype(np.float32)[..., None]
    road, strip, lines = _ground_covers(across, rows, lanes, dashes, side, camera)
    colors = LIGHTS[light]
    shine = _shine(light, centre / height, z)
    haze = (0.75 * (1 - np.exp(-z / 70))).astype(np.float32)[:, None]
    first = np.float32(top + 1 - HORIZON * height)
    for channel in range(3):
        grass, mown = colors.grass[channel], colors.mown[channel]
        plane = (grass + (mown - grass) * bands).astype(np.float32)[..., None]
        if strip is not None:
            tone = (colors.sidewalk[channel] * (1 - 0.25 * joints)).astype(np.float32)[..., None]
            plane = plane + strip * (tone - plane)
        plane = plane + road * (np.float32(colors.road[channel]) - plane)
        plane += lines * np.float32(colors.line[channel] - colors.road[channel])
        plane *= shine
        plane += haze * (np.float32(colors.horizon[channel]) - plane)
        view = canvas[:, channel, top:]
        view[:, 1:] = plane[:, 1:]
        view[:, 0] += first * (plane[:, 0] - view[:, 0])


def _ground_covers(
    across: np.ndarray,
    rows: np.ndarray,
    lanes: int,
    dashes: np.ndarray,
    side: str,
    camera: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Coverage `[t, rows, w]` of road, sidewalk (or None) and markings; `across` is x in pixels."""
    half = lanes * LANE_WIDTH / 2 + 0.35
    outer = _steepness(across, half, camera)
    away = np.abs(across)
    road = ramp((half * rows - away) * outer)
    strip = None
    if side == "sidewalk":
        strip = ramp(((half + SIDEWALK_WIDTH) * rows - away) * outer)
    lines = band(np.abs(away - (half - 0.35) * rows) * outer, 0.08 * rows * outer)
    middle = 0.0 if lanes == 2 else LANE_WIDTH / 2
    inner = _steepness(across, middle, camera)
    marks = band(np.abs(away - middle * rows) * inner, 0.09 * rows * inner)
    lines += marks * dashes.astype(np.float32)[..., None]
    return road, strip, lines


def _steepness(across: np.ndarray, x: float, camera: np.ndarray) -> np.ndarray:
    """The factor from horizontal to perpendicular distances to the lines at +-x.

    A line along the road, `d` metres beside the camera, moves d / CAMERA_HEIGHT columns per row.
    """
    right, left = (1 / np.hypot(1, (s * x - camera) / CAMERA_HEIGHT) for s in (1, -1))
    return np.where(across > 0, per_frame(right), per_frame(left))


def _shine(light: str, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The brightness of the ground: the headlights' cone at night, else uniform."""
    if light != "night":
        return np.ones((1, 1), dtype=np.float32)
    beam = np.exp(-((x / 0.42) ** 2)) * (1.9 * np.exp(-((z / 13) ** 2)))[:, None]
    return (0.55 + beam).astype(np.float32)
