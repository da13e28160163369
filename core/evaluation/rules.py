"""Recognise colour, shape and motion of the objects of the world `shapes` from pixels, by rule.

Objects of that world are much brighter, in their strongest channel, than any background. Bright
areas are split into connected components of one colour, tracked through the frames, and described
by the Fourier coefficients of their outline: a triangle's third harmonic, a square's fourth and a
star's fifth stand out, and their phases turn with the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import ndimage

from ..families.embedded.worlds.shapes import COLORS, DIRECTIONS, SHAPES

COLOR_NAMES = tuple(COLORS)
PALETTE = np.array([COLORS[name] for name in COLOR_NAMES])
# Values of the strongest channel, in [0, 1], at which a pixel counts as empty and as fully covered.
EMPTY, FULL = 0.45, 0.75
# Strongest harmonic of each outline, and its amplitude relative to the mean radius; circles: none.
HARMONICS = {"triangle": (3, 0.136), "square": (4, 0.069), "star": (5, 0.133)}
ANGLES = 72
# Thresholds over a video: distance (fraction of the shorter side), log area ratio, angle (radians).
LEAST_DISTANCE, LEAST_GROWTH, LEAST_TURN = 0.15, 0.5, np.deg2rad(35)
# Share of a video's frames that must show a wrong number of objects for it to count.
LASTING = 0.25
# Smallest area of an object in a frame, as a fraction of the image.
LEAST_AREA = 9 / 64**2


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """One object of a video. area: mean fraction of the image. centres: (x, y) in [0, 1] per frame,
    [t, 2], NaN where the object was not found."""

    color: str
    shape: str
    motion: str
    area: float
    centres: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Blob:
    frame: int
    color: int
    area: float
    x: float
    y: float
    outline: np.ndarray  # complex [6]: Fourier coefficients relative to the mean radius


def recognise(frames: np.ndarray) -> list[Recognised]:
    """Find at most two objects in `[t, 3, h, w]` frames in [-1, 1], the largest first."""
    blobs = [found[:2] for found in _all_blobs(frames)]
    found = [_describe(track, np.shape(frames)) for track in _tracks(blobs)]
    return sorted(found, key=lambda thing: -thing.area)


def miscounted(frames: np.ndarray, wanted: int) -> tuple[bool, bool]:
    """(surplus, missing): whether more than a quarter of the frames of a video `[t, 3, h, w]` in
    [-1, 1] have more, or fewer, than `wanted` connected areas of one colour."""
    counts = np.array([len(found) for found in _all_blobs(frames)])
    return bool((counts > wanted).mean() > LASTING), bool((counts < wanted).mean() > LASTING)


def matches(
    recognised: Sequence[Recognised], wanted: Sequence[tuple[str, str, str]]
) -> dict[str, float]:
    """The fractions of objects with the right `color`, `shape` and `motion`.

    Objects are paired for the best total; missing and surplus objects count as wrong.
    """
    total = max(len(recognised), len(wanted))
    if total == 0:
        return {"color": 1.0, "shape": 1.0, "motion": 1.0}
    seen: list[tuple[str, str, str] | None] = [(r.color, r.shape, r.motion) for r in recognised]
    seen += [None] * (total - len(seen))
    best = max((_agreement(order, wanted) for order in permutations(seen)), key=sum)
    names = ("color", "shape", "motion")
    return {name: float(right) / total for name, right in zip(names, best, strict=True)}


def _agreement(
    seen: Sequence[tuple[str, str, str] | None], wanted: Sequence[tuple[str, str, str]]
) -> np.ndarray:
    right = np.zeros(3)
    for thing, wish in zip(seen, wanted, strict=False):
        if thing is not None:
            right += [a == b for a, b in zip(thing, wish, strict=True)]
    return right


# From pixels to blobs.


def _all_blobs(frames: np.ndarray) -> list[list[_Blob]]:
    """The blobs of every frame, the largest first."""
    frames = np.asarray(frames, dtype=np.float64)
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"frames must have shape [t, 3, h, w], not {list(frames.shape)}")
    pixels = np.clip(frames / 2 + 0.5, 0, 1)
    allowed = _colors_present(pixels)
    return [_blobs(picture, index, allowed) for index, picture in enumerate(pixels)]


def _bright(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=-3) > (EMPTY + FULL) / 2


def _color_index(picture: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Index of the nearest allowed palette colour by channel ratios, `[..., h, w]`."""
    strongest = np.maximum(picture.max(axis=-3, keepdims=True), 1e-3)
    ratio = np.moveaxis(picture / strongest, -3, -1)
    distance = ((ratio[..., None, :] - PALETTE[allowed]) ** 2).sum(axis=-1)
    return allowed[distance.argmin(axis=-1)]


def _colors_present(pixels: np.ndarray) -> np.ndarray:
    """Indices of the one or two palette colours of the interiors of bright areas."""
    inside = np.stack([_eroded(_bright(picture)) for picture in pixels])
    index = _color_index(pixels, np.arange(len(PALETTE)))
    votes = np.bincount(index[inside], minlength=len(PALETTE))
    order = np.argsort(-votes, kind="stable")[:2]
    return order[votes[order] > max(0.06 * votes.sum(), 0)] if votes.sum() else order[:1]


def _eroded(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(mask, border_value=1)


def _blobs(picture: np.ndarray, frame: int, allowed: np.ndarray) -> list[_Blob]:
    """The blobs of one frame, the largest first."""
    bright = _bright(picture)
    index = _color_index(picture, allowed)
    cover = np.clip((picture.max(axis=0) - EMPTY) / (FULL - EMPTY), 0, 1)
    found = []
    for color in allowed:
        labels, count = ndimage.label(bright & (index == color))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        for label in range(1, count + 1):
            mask = labels == label
            if sizes[label] >= LEAST_AREA * mask.size and _eroded(mask).any():
                found.append(_blob(cover, mask, bright, frame, int(color)))
    return sorted(found, key=lambda blob: -blob.area)


def _blob(cover: np.ndarray, mask: np.ndarray, bright: np.ndarray, frame: int, color: int) -> _Blob:
    # Keep the soft edge, except towards another object.
    around = ndimage.binary_dilation(mask, iterations=2) & (mask | ~bright)
    around |= ndimage.binary_closing(mask)
    cover = cover * around
    y, x = np.indices(cover.shape)
    area = float(cover.sum())
    centre_x, centre_y = float((x * cover).sum() / area), float((y * cover).sum() / area)
    outline = _outline(cover, centre_x, centre_y)
    return _Blob(frame=frame, color=color, area=area, x=centre_x, y=centre_y, outline=outline)


def _outline(cover: np.ndarray, x: float, y: float) -> np.ndarray:
    """The first six Fourier coefficients of radius over angle, relative to the mean radius."""
    reach = 2.2 * np.sqrt(cover.sum() / np.pi) + 2
    step = 0.25
    distance = np.arange(step / 2, reach, step)
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    rows = y + np.sin(angle)[:, None] * distance
    columns = x + np.cos(angle)[:, None] * distance
    along = ndimage.map_coordinates(cover, [rows, columns], order=1, mode="constant")
    radius = along.sum(axis=1) * step
    coefficients = np.fft.fft(radius)[:6]
    return coefficients / max(abs(coefficients[0]), 1e-6)


# From blobs to objects.


def _tracks(frames: list[list[_Blob]]) -> list[list[_Blob]]:
    """Track as many objects as the median frame has; frames with fewer are skipped."""
    counts = [len(blobs) for blobs in frames]
    number = int(np.median(counts)) if counts else 0
    tracks: list[list[_Blob]] = [[] for _ in range(number)]
    for blobs in frames:
        if len(blobs) < number:
            continue
        for track, blob in zip(tracks, _assign(tracks, blobs), strict=True):
            track.append(blob)
    return tracks


def _assign(tracks: list[list[_Blob]], blobs: list[_Blob]) -> Sequence[_Blob]:
    """Choose and order the blobs so that each continues its track."""
    if not tracks or not tracks[0]:
        return blobs[: len(tracks)]

    def cost(order: Sequence[_Blob]) -> float:
        pairs = zip(tracks, order, strict=True)
        return sum(_step_cost(track[-1], blob) for track, blob in pairs)

    return min(permutations(blobs, len(tracks)), key=cost)


def _step_cost(before: _Blob, after: _Blob) -> float:
    return np.hypot(after.x - before.x, after.y - before.y) + 1000 * (after.color != before.color)


def _describe(track: list[_Blob], size: tuple[int, ...]) -> Recognised:
    count, _, height, width = size
    centres = np.full((count, 2), np.nan)
    for blob in track:
        centres[blob.frame] = (blob.x + 0.5) / width, (blob.y + 0.5) / height
    shape = _shape(track)
    colors = np.bincount([blob.color for blob in track])
    return Recognised(
        color=COLOR_NAMES[int(colors.argmax())],
        shape=shape,
        motion=_motion(track, shape, min(height, width)),
        area=float(np.mean([blob.area for blob in track])) / (height * width),
        centres=centres,
    )


def _shape(track: list[_Blob]) -> str:
    """The shape whose harmonics' amplitudes are nearest to the area-weighted mean of the track."""
    weights = np.array([blob.area for blob in track])
    amplitudes = np.average(np.abs([blob.outline for blob in track]), axis=0, weights=weights)
    distance = {}
    for shape in SHAPES:
        ideal = np.zeros(len(amplitudes))
        n, amplitude = HARMONICS.get(shape, (0, 0.0))
        ideal[n] = amplitude
        distance[shape] = np.linalg.norm((amplitudes - ideal)[1:])
    return min(distance, key=lambda shape: distance[shape])


def _motion(track: list[_Blob], shape: str, side: int) -> str:
    """Classify the motion by straight-line fits over the frames."""
    if len(track) < 2:
        return "stays still"
    time = np.array([blob.frame for blob in track], dtype=np.float64)
    dx, dy = _change(time, [b.x for b in track]) / side, _change(time, [b.y for b in track]) / side
    growth = _change(time, np.log([blob.area for blob in track]))
    if max(abs(dx), abs(dy)) > LEAST_DISTANCE:
        return _direction(dx, dy)
    if abs(growth) > LEAST_GROWTH:
        return "grows" if growth > 0 else "shrinks"
    if shape != "circle" and abs(_turn(track, time, HARMONICS[shape][0])) > LEAST_TURN:
        return "rotates"
    return "stays still"


def _change(time: np.ndarray, values: Sequence[float] | np.ndarray) -> float:
    slope = np.polyfit(time, values, 1)[0]
    return float(slope * (time[-1] - time[0]))


def _direction(dx: float, dy: float) -> str:
    return max(DIRECTIONS, key=lambda name: DIRECTIONS[name][0] * dx + DIRECTIONS[name][1] * dy)


def _turn(track: list[_Blob], time: np.ndarray, harmonic: int) -> float:
    """The angle in radians by which the outline turns from the first to the last frame."""
    phases = np.unwrap(np.angle([blob.outline[harmonic] for blob in track]))
    return _change(time, phases) / harmonic
