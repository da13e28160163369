"""The world `driving`: a road seen through the windscreen, with other cars ahead.

Lengths are in metres, times in base frames (a base video is 0..15). A pinhole camera at height
CAMERA_HEIGHT looks along z; x points right. The image height is the unit of image lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .driving_figures import (
    CAR_HEIGHT,
    CAR_WIDTH,
    Spot,
    car_inside,
    car_margin,
    draw_car,
    draw_tree,
    tree_inside,
)
from .driving_ground import (
    CAMERA_HEIGHT,
    DASH_PERIOD,
    FOCAL,
    HORIZON,
    LANE_WIDTH,
    LIGHTS,
    draw_ground,
    draw_sky,
)
from .raster import Box, height_width, sweep

WORLD_ID = 2
INTERVALS = 15.0

CAR_COLORS = {
    "red": (0.86, 0.12, 0.12),
    "blue": (0.14, 0.32, 0.88),
    "white": (0.93, 0.93, 0.95),
    "yellow": (0.97, 0.80, 0.12),
    "black": (0.09, 0.09, 0.11),
}
EGO_MOTIONS = {"keeps its lane": 0.0, "drifts left": -1.0, "drifts right": 1.0}
CAR_MOTIONS = ("approaches", "recedes", "keeps")
CAR_LENGTH = 3.8  # metres
LANE_COUNTS = {2: "two", 3: "three"}
LANE_NAMES = {2: ("left", "right"), 3: ("left", "middle", "right")}
CROWDEDNESS = ("empty road", "little traffic", "some traffic", "heavy traffic")
"""By the number of other cars."""
LIGHT_WORDS = {"day": "by day", "dusk": "at dusk", "night": "at night"}

SLOWEST, FASTEST = 0.12 * DASH_PERIOD, 0.34 * DASH_PERIOD  # metres per base frame
TYPICAL_SPEEDS = (0.75 * SLOWEST + 0.25 * FASTEST, 0.25 * SLOWEST + 0.75 * FASTEST)

TREE_SPACING = 9.0
TREE_NEAR, TREE_FAR, TREE_FADE = 4.0, 46.0, 10.0


@dataclass(frozen=True, kw_only=True)
class Car:
    """Another car in lane `lane` (0: leftmost), between `near` and `far` metres ahead."""

    color: str
    rgb: tuple[float, float, float]
    lane: int
    near: float
    far: float
    motion: str


@dataclass(frozen=True, kw_only=True)
class DrivingScene:
    """Everything a rendering depends on; `speed` is in metres per base frame."""

    light: str
    lanes: int
    side: str
    tree: str
    speed: float
    start: float
    camera_x: float
    ego: str
    drift: float
    cars: tuple[Car, ...]
    look: tuple[float, ...]


def sample(seed: int) -> DrivingScene:
    """Sample a scene."""
    rng = np.random.default_rng((WORLD_ID, seed))
    lanes = int(rng.integers(2, 4))
    light = str(rng.choice(list(LIGHTS)))
    own_lane = 1 if lanes == 3 else int(rng.integers(2))
    taken = rng.permutation(lanes)[: rng.choice((0, 1, 2, 3), p=(0.1, 0.35, 0.35, 0.2))]
    ego = str(rng.choice(list(EGO_MOTIONS)))
    return DrivingScene(
        light=light,
        lanes=lanes,
        side=str(rng.choice(("grass", "sidewalk"))),
        tree=str(rng.choice(("round", "pine"))),
        speed=float(rng.uniform(SLOWEST, FASTEST)),
        start=float(rng.uniform(0, 1000)),
        camera_x=float(lane_centre(lanes, own_lane) + rng.uniform(-0.25, 0.25)),
        ego=ego,
        drift=float(EGO_MOTIONS[ego] * rng.uniform(1.3, 1.8)),
        cars=tuple(_sample_car(rng, int(lane), own_lane, light) for lane in sorted(taken)),
        look=tuple(rng.random(12).tolist()),
    )


def _sample_car(rng: np.random.Generator, lane: int, own_lane: int, light: str) -> Car:
    colors = [c for c in CAR_COLORS if (light, c) != ("night", "black")]
    color = str(rng.choice(colors))
    red, green, blue = np.clip(CAR_COLORS[color] + rng.uniform(-0.04, 0.04, 3), 0, 1).tolist()
    near = rng.uniform(6.0, 8.0) if lane == own_lane else rng.uniform(9.0, 10.5)
    return Car(
        color=color,
        rgb=(red, green, blue),
        lane=lane,
        near=float(near),
        far=float(near + rng.uniform(4.0, 8.0)),
        motion=str(rng.choice(CAR_MOTIONS)),
    )


def lane_centre(lanes: int, lane: int) -> float:
    """x of a lane's centre; the road's centre is at 0."""
    return LANE_WIDTH * (lane - (lanes - 1) / 2)


def caption(scene: DrivingScene, *, motion: bool = True) -> str:
    """Describe road, light, cars and, with `motion`, the camera's motion."""
    count, light = LANE_COUNTS[scene.lanes], LIGHT_WORDS[scene.light]
    parts = [f"driving on a {count} lane road {light}"]
    names = LANE_NAMES[scene.lanes]
    parts += [f"a {car.color} car in the {names[car.lane]} lane" for car in scene.cars]
    if motion:
        parts.append(f"the camera {scene.ego}")
    return ", ".join(parts)


def words() -> set[str]:
    """Every word of the captions."""
    places = [name for names in LANE_NAMES.values() for name in names]
    parts = (*LIGHT_WORDS.values(), *CAR_COLORS, *places, *EGO_MOTIONS, *LANE_COUNTS.values())
    return set(" ".join(("driving on a lane road car in the camera", *parts)).split())


def labels(scene: DrivingScene) -> str:
    """Light and traffic only, such as "night, heavy traffic"."""
    return f"{scene.light}, {CROWDEDNESS[len(scene.cars)]}"


# Positions.


def _camera(scene: DrivingScene, times: np.ndarray) -> np.ndarray:
    return scene.camera_x + scene.drift * (sweep(times / INTERVALS) - 0.5)


def _travelled(scene: DrivingScene, times: np.ndarray) -> np.ndarray:
    return scene.start + scene.speed * times


def _distance(car: Car, times: np.ndarray) -> np.ndarray:
    path = sweep(times / INTERVALS)
    if car.motion == "approaches":
        path = 1 - path
    elif car.motion == "keeps":
        path = 0.45 + 0.06 * np.sin(2 * np.pi * times / 40)
    return car.near + (car.far - car.near) * path


def projected(x: np.ndarray, z: np.ndarray, camera: np.ndarray, height: int, width: int) -> Spot:
    """Project points on the ground, in metres, to the image, in pixels."""
    scale = FOCAL * height / z
    return Spot(
        x=width / 2 + scale * (x - camera),
        base=HORIZON * height + scale * CAMERA_HEIGHT,
        scale=scale,
    )


def _car_spots(
    scene: DrivingScene, car: Car, times: np.ndarray, height: int, width: int
) -> tuple[Spot, Spot]:
    """The projected middles of the car's rear and front."""
    camera, z = _camera(scene, times), _distance(car, times)
    x = np.full(len(times), lane_centre(scene.lanes, car.lane))
    return tuple(projected(x, end, camera, height, width) for end in (z, z + CAR_LENGTH))


def boxes(
    scene: DrivingScene, time: float = 0.0, *, size: int | tuple[int, int] = 64
) -> tuple[Box, ...]:
    """Bounding boxes of the rears of the other cars, clipped to the image."""
    height, width = height_width(size)
    found = []
    for car in scene.cars:
        rear, _ = _car_spots(scene, car, np.array([float(time)]), height, width)
        x, base, scale = float(rear.x[0]), float(rear.base[0]), float(rear.scale[0])
        half = scale * CAR_WIDTH / 2
        found.append(
            Box(
                label=f"{car.color} car",
                x0=min(max((x - half) / width, 0.0), 1.0),
                y0=min(max((base - scale * CAR_HEIGHT) / height, 0.0), 1.0),
                x1=min(max((x + half) / width, 0.0), 1.0),
                y1=min(max(base / height, 0.0), 1.0),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """One slot beside the road in all frames; `number` [t] says which tree is in it."""

    side: int
    number: np.ndarray
    spot: Spot
    size: np.ndarray
    alpha: np.ndarray


def _trees(scene: DrivingScene, times: np.ndarray, height: int, width: int) -> list[_Tree]:
    """The trees from far to near."""
    camera, travelled = _camera(scene, times), _travelled(scene, times)
    first = np.ceil((travelled + TREE_NEAR) / TREE_SPACING)
    found = []
    for slot in reversed(range(int((TREE_FAR - TREE_NEAR) / TREE_SPACING) + 1)):
        for side in (-1, 1):
            number = first + slot
            chance = _chance(scene, 2 * number + (side > 0))
            z = number * TREE_SPACING - travelled + (0.25 * TREE_SPACING if side > 0 else 0)
            x = side * (scene.lanes * LANE_WIDTH / 2 + 3.1 + 1.2 * chance)
            alpha = np.clip((TREE_FAR - z) / TREE_FADE, 0, 1)
            spot = projected(x, z, camera, height, width)
            tree = _Tree(side=side, number=number, spot=spot, size=0.8 + 0.5 * chance, alpha=alpha)
            found.append(tree)
    return found


def _chance(scene: DrivingScene, number: np.ndarray) -> np.ndarray:
    """A pseudorandom number in [0, 1) for each tree, the same in every frame."""
    wave = np.sin(number * 12.9898 + 78.233 * scene.look[0]) * 43758.5453
    return wave - np.floor(wave)


# Rendering.


def render(scene: DrivingScene, *, times: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Render float32 `[t, 3, h, w]` in [-1, 1]."""
    height, width = height_width(size)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    canvas = np.empty((len(times), 3, height, width), dtype=np.float32)
    canvas[:] = draw_sky(scene.light, scene.look, height, width)
    draw_ground(
        canvas,
        light=scene.light,
        lanes=scene.lanes,
        side=scene.side,
        camera=_camera(scene, times),
        travelled=_travelled(scene, times),
    )
    for tree in _trees(scene, times, height, width):
        draw_tree(canvas, scene.tree, scene.light, tree.spot, tree.size, tree.alpha)
    _draw_cars(canvas, scene, times)
    np.clip(canvas, 0, 1, out=canvas)
    canvas *= 2
    canvas -= 1
    return canvas


def _draw_cars(canvas: np.ndarray, scene: DrivingScene, times: np.ndarray) -> None:
    """Draw from far to near, an order that may change from frame to frame."""
    if not scene.cars:
        return
    height, width = canvas.shape[-2:]
    spots = [_car_spots(scene, car, times, height, width) for car in scene.cars]
    scales = np.stack([rear.scale for rear, _ in spots])
    order, frames = np.argsort(scales, axis=0), np.arange(len(times))
    colors = np.array([car.rgb for car in scene.cars])
    for chosen in order:
        rear, front = (
            Spot(
                x=np.stack([pair[end].x for pair in spots])[chosen, frames],
                base=np.stack([pair[end].base for pair in spots])[chosen, frames],
                scale=np.stack([pair[end].scale for pair in spots])[chosen, frames],
            )
            for end in (0, 1)
        )
        draw_car(canvas, scene.light, rear, front, colors[chosen])


# Motion.

SKY, GROUND, FIRST_CAR, FIRST_TREE = 0, 1, 2, 1000


def flow(
    scene: DrivingScene, *, time: float, next_time: float, size: int | tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements `[2, h, w]` (dx, dy in pixels) from `time` to `next_time`, and a mask `[h, w]`.

    The mask is 1 where the pixel shows a single surface that is visible again. It is 0 on the sides
    and shadows of cars. At night, the headlights' light on the road does not move along with it.
    """
    height, width = height_width(size)
    if time == next_time:
        return np.zeros((2, height, width), np.float32), np.ones((height, width), np.float32)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    owner, pure = _owner(scene, time, x, y, height, width)
    moved_x, moved_y = _move_ground(scene, time, next_time, x, y, height, width)
    moved_x, moved_y = np.where(owner == SKY, x, moved_x), np.where(owner == SKY, y, moved_y)
    before = _figures(scene, time, height, width)
    after = _figures(scene, next_time, height, width)
    for name, (spot, _) in before.items():
        then = after[name][0] if name in after else spot
        ratio, mine = then.scale[0] / spot.scale[0], owner == name
        moved_x = np.where(mine, then.x[0] + ratio * (x - spot.x[0]), moved_x)
        moved_y = np.where(mine, then.base[0] + ratio * (y - spot.base[0]), moved_y)
    owner_then, pure_then = _owner(scene, next_time, moved_x, moved_y, height, width)
    inside = (moved_x >= 0.5) & (moved_x <= width - 0.5)
    inside &= (moved_y >= 0.5) & (moved_y <= height - 0.5)
    valid = pure & pure_then & (owner == owner_then) & inside
    return np.stack([moved_x - x, moved_y - y]).astype(np.float32), valid.astype(np.float32)


def road_motions(scene: DrivingScene) -> np.ndarray:
    """How the road moves at its left and right, far and near: `[8, 2]` as (x, y) in fractions of
    the image's sides per base frame, first for a slow camera, then for a fast one.
    """
    across, below = np.meshgrid((0.25, 0.75), HORIZON + (1 - HORIZON) * np.array((0.2, 0.4)))
    found = []
    for speed in TYPICAL_SPEEDS:
        moving = replace(scene, speed=speed)
        x, y = _move_ground(moving, 7.0, 8.0, across, below, 1, 1)
        found.append(np.stack([x - across, y - below], axis=-1).reshape(4, 2))
    return np.concatenate(found)


def _move_ground(
    scene: DrivingScene,
    time: float,
    next_time: float,
    x: np.ndarray,
    y: np.ndarray,
    height: int,
    width: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Move points of the road plane; one that passes the camera ends far outside the image."""
    below = np.maximum(y - HORIZON * height, 1e-6)
    z = FOCAL * CAMERA_HEIGHT * height / below
    camera = _camera(scene, np.array([time, next_time], dtype=np.float64))
    side = (x - width / 2) * z / (FOCAL * height) + camera[0]
    z = np.maximum(z - scene.speed * (next_time - time), 1e-3)
    moved_x = width / 2 + FOCAL * height * (side - camera[1]) / z
    return moved_x, HORIZON * height + FOCAL * CAMERA_HEIGHT * height / z


def _figures(
    scene: DrivingScene, time: float, height: int, width: int
) -> dict[int, tuple[Spot, _Tree | None]]:
    """What stands on the ground by number: trees, then cars, each from far to near."""
    times = np.array([float(time)])
    found = {}
    for tree in _trees(scene, times, height, width):
        name = FIRST_TREE + 2 * int(tree.number[0]) + (tree.side > 0)
        if tree.alpha[0] > 0:
            found[name] = (tree.spot, tree)
    cars = [_car_spots(scene, car, times, height, width)[0] for car in scene.cars]
    for index in sorted(range(len(cars)), key=lambda i: cars[i].scale[0]):
        found[FIRST_CAR + index] = (cars[index], None)
    return found


def _owner(
    scene: DrivingScene, time: float, x: np.ndarray, y: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The number of the surface at each point, and whether no edge is within reach of sampling."""
    below = y - HORIZON * height
    owner = np.where(below > 0, GROUND, SKY)
    pure = np.abs(below) > 1.5
    times = np.array([float(time)])
    for name, (spot, tree) in _figures(scene, time, height, width).items():
        solid = True
        if tree is not None:
            inside = tree_inside(scene.tree, x[None], y[None], spot, tree.size)[0]
            margin, solid = inside, tree.alpha[0] > 0.99
        else:
            front = _car_spots(scene, scene.cars[name - FIRST_CAR], times, height, width)[1]
            inside = car_inside(x[None], y[None], spot)[0]
            margin = np.maximum(inside, car_margin(x[None], y[None], spot, front)[0])
        owner = np.where(inside > 0, name, owner)
        pure = np.where((inside > 1.5) & solid, True, pure & (margin < -1.5))
    return owner, pure
