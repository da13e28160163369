"""The worlds: reproducible from a seed; exact captions, boxes and flow; alike at every size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from videoldm.core.families.embedded import worlds
from videoldm.core.families.embedded.worlds import driving, shapes
from videoldm.core.families.embedded.worlds.raster import OVERSHOOT, band, pulse, sweep

WORLD_NAMES = tuple(worlds.WORLDS)
SEEDS = range(12)


def warped(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Sample `[3, h, w]` bilinearly at each pixel plus its displacement."""
    height, width = image.shape[1:]
    rows, columns = np.indices((height, width))
    x = np.clip(columns + displacement[0], 0, width - 1.001)
    y = np.clip(rows + displacement[1], 0, height - 1.001)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - left, y - top
    upper = image[:, top, left] * (1 - fx) + image[:, top, left + 1] * fx
    lower = image[:, top + 1, left] * (1 - fx) + image[:, top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


# Both worlds.


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_a_seed_gives_the_same_clip_and_another_seed_another_one(world: str) -> None:
    first, again = (worlds.random_video(world, 3, frames=2, size=32) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.caption, first.boxes) == (again.caption, again.boxes)
    assert worlds.sample_scene(world, 3) != worlds.sample_scene(world, 4)


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_frames_are_float32_in_range_and_of_the_wanted_size(world: str) -> None:
    for seed in SEEDS:
        frames = worlds.random_video(world, seed, frames=3, size=(24, 40)).frames
        assert frames.shape == (3, 3, 24, 40) and frames.dtype == np.float32
        assert frames.min() >= -1 and frames.max() <= 1 and frames.std() > 0.05


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_a_frame_does_not_depend_on_the_frames_rendered_with_it(world: str) -> None:
    for seed in SEEDS:
        scene = worlds.sample_scene(world, seed)
        together = worlds.render(scene, times=np.arange(16), size=32)
        alone = worlds.render(scene, times=np.array([11.0]), size=32)
        np.testing.assert_allclose(together[11], alone[0], atol=1e-5)


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_the_interpolated_rate_shows_the_base_frames_in_between(world: str) -> None:
    base = worlds.random_video(world, 5, frames=4, size=32).frames
    fine = worlds.random_video(world, 5, frames=13, size=32, rate=0.25).frames
    np.testing.assert_allclose(fine[::4], base, atol=1e-5)


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_a_large_rendering_reduced_by_area_is_close_to_a_small_one(world: str) -> None:
    for seed in SEEDS:
        scene, times = worlds.sample_scene(world, seed), np.array([0.0, 9.0])
        small = worlds.render(scene, times=times, size=64)
        large = worlds.render(scene, times=times, size=256)
        reduced = large.reshape(2, 3, 64, 4, 64, 4).mean(axis=(3, 5))
        assert np.abs(small - reduced).mean() < 0.02, seed


@pytest.mark.parametrize("world", WORLD_NAMES)
@pytest.mark.parametrize("step", [1.0, 0.25, -1.0])
def test_flow_leads_to_the_same_surface_in_the_next_frame(world: str, step: float) -> None:
    for seed in SEEDS:
        scene, time = worlds.sample_scene(world, seed), 6.0
        here, there = worlds.render(scene, times=np.array([time, time + step]), size=96)
        displacement, valid = worlds.flow(scene, time=time, next_time=time + step, size=96)
        error = np.abs(warped(there, displacement) - here).mean(axis=0)
        assert valid.mean() > 0.4, seed
        # Headlights shine on whatever is near, so at night surfaces change their brightness.
        # Backwards everything shrinks, which bilinear sampling does not average.
        limit = 0.05 if getattr(scene, "light", "") == "night" else 0.015 if step > 0 else 0.03
        assert error[valid > 0].mean() < limit, seed


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_flow_explains_what_standing_still_does_not(world: str) -> None:
    gain = []
    for seed in SEEDS:
        scene = worlds.sample_scene(world, seed)
        if getattr(scene, "light", "") == "night":
            continue
        here, there = worlds.render(scene, times=np.array([6.0, 7.0]), size=96)
        displacement, valid = worlds.flow(scene, time=6.0, next_time=7.0, size=96)
        moving = (valid > 0) & (np.abs(displacement).max(axis=0) > 0.5)
        if moving.sum() > 50:
            still = np.abs(there - here).mean(axis=0)[moving].mean()
            gain.append(
                (still, np.abs(warped(there, displacement) - here).mean(axis=0)[moving].mean())
            )
    still, followed = np.mean(gain, axis=0)
    assert followed < 0.5 * still


@pytest.mark.parametrize("world", WORLD_NAMES)
def test_flow_to_the_same_time_is_zero_and_valid_everywhere(world: str) -> None:
    displacement, valid = worlds.flow(
        worlds.sample_scene(world, 0), time=2.0, next_time=2.0, size=16
    )
    assert not displacement.any() and valid.all()


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown world 'sea'"):
        worlds.sample_scene("sea", 0)
    with pytest.raises(ValueError, match="unknown colour 'pink'"):
        worlds.shapes_scene(0, objects=[("pink", "star", "grows")])
    with pytest.raises(ValueError, match="circle cannot be seen to rotate"):
        worlds.shapes_scene(0, objects=[("red", "circle", "rotates")])
    with pytest.raises(ValueError, match="0x8"):
        worlds.render(worlds.sample_scene("shapes", 0), times=np.zeros(1), size=(0, 8))


def test_sweep_is_straight_in_the_base_clip_and_smooth_for_ever() -> None:
    np.testing.assert_allclose(sweep(np.linspace(0, 1, 16)), np.linspace(0, 1, 16), atol=1e-12)
    phase = np.linspace(-5, 9, 14001)
    path = sweep(phase)
    assert path.min() >= -OVERSHOOT - 1e-9 and path.max() <= 1 + OVERSHOOT + 1e-9
    assert np.abs(np.diff(path)).max() < 0.00101
    # The speed changes by 2 within 2 * REVERSAL, so by 0.0067 per step at most.
    assert np.abs(np.diff(path, 2)).max() < 0.0000071


def test_thin_bands_and_pulses_keep_their_area() -> None:
    centres = np.arange(20) + 0.5
    for middle in (9.5, 9.71, 10.0):
        assert band(np.abs(centres - middle), 0.1).sum() == pytest.approx(0.2)
    assert pulse(centres / 5, 1 / 5, 0.3).mean() == pytest.approx(0.3)


# Shapes.


def test_shapes_captions_name_the_wanted_objects() -> None:
    specs = [("yellow", "star", "rotates"), ("blue", "square", "moves up")]
    scene = worlds.shapes_scene(1, objects=specs, background="checkerboard")
    words = "a yellow star rotates and a blue square moves up on a checkerboard background"
    assert worlds.caption(scene) == words
    still = "a yellow star and a blue square on a checkerboard background"
    assert worlds.caption(scene, motion=False) == still
    scene = worlds.shapes_scene(1, objects=[("red", "circle", "moves right")], background="black")
    assert worlds.caption(scene) == "a red circle moves right on a black background"


def test_shapes_stay_in_the_frame_and_apart_for_ever() -> None:
    times = np.arange(0, 200, 0.5)
    for seed in range(300):
        states = [shapes._state(o, times, 64, 64) for o in shapes.sample(seed).objects]
        for x, y, radius, _ in states:
            reach = shapes.REACH * radius
            assert min((x - reach).min(), (y - reach).min()) >= -1e-6, seed
            assert max((x + reach).max(), (y + reach).max()) <= 64 + 1e-6, seed
        if len(states) == 2:
            (x0, y0, r0, _), (x1, y1, r1, _) = states
            gap = np.maximum(np.abs(x0 - x1), np.abs(y0 - y1)) - shapes.REACH * (r0 + r1)
            assert gap.min() > 0, seed


def test_of_two_shapes_the_first_is_to_the_left_or_above() -> None:
    for seed in range(200):
        objects = shapes.sample(seed).objects
        if len(objects) == 2:
            first, second = (shapes._state(o, np.arange(0, 16), 64, 64)[:2] for o in objects)
            left, above = (bool((b > a).all()) for a, b in zip(first, second, strict=True))
            assert left or above, seed


def test_linear_motions_go_far_and_the_way_the_words_say() -> None:
    for seed in range(100):
        for thing in shapes.sample(seed).objects:
            x, y, _, _ = shapes._state(thing, np.array([0.0, 15.0]), 64, 64)
            if thing.motion in shapes.DIRECTIONS:
                dx, dy = shapes.DIRECTIONS[thing.motion]
                assert 23.5 <= dx * np.diff(x)[0] + dy * np.diff(y)[0] <= 36
            else:
                assert not np.diff(x).any() and not np.diff(y).any()


def test_edges_move_with_a_shape_apart_as_it_grows_and_around_as_it_turns() -> None:
    for motion in shapes.MOTIONS:
        scene = worlds.shapes_scene(5, objects=[("red", "square", motion)])
        (thing,), ((left, right, upper, lower),) = scene.objects, shapes.edge_motions(scene)
        if motion in shapes.DIRECTIONS:
            expected = np.array(shapes.DIRECTIONS[motion]) * thing.amount / 64 / 15
            np.testing.assert_allclose([left, right, upper, lower], [expected] * 4, atol=1e-9)
            continue
        np.testing.assert_allclose([left, upper], [-right, -lower])
        apart = right[0] - left[0], lower[1] - upper[1]
        if motion == "rotates":
            assert right[0] == lower[1] == 0
            np.testing.assert_allclose(right[1], thing.amount * thing.radius / 64 / 15)
            assert right[1] == -lower[0] > 0  # clockwise
        else:
            assert right[1] == lower[0] == 0 and apart[0] == apart[1]
            assert (apart[0] > 0) == (motion == "grows")


def test_the_road_comes_closer_faster_where_it_is_near_and_with_a_fast_car() -> None:
    scene = dataclasses.replace(worlds.sample_scene("driving", 1), drift=0.0, camera_x=0.0)
    slow, fast = driving.road_motions(scene).reshape(2, 4, 2)
    for far_left, far_right, near_left, near_right in (slow, fast):
        mirrored = np.array((-1, 1)) * (far_right, near_right)
        np.testing.assert_allclose((far_left, near_left), mirrored)
        assert far_left[0] < 0 and 0 < far_left[1] < near_left[1]
    assert (fast[:, 1] > slow[:, 1]).all()


def test_every_shape_word_is_drawn_by_its_colour_at_its_box() -> None:
    for seed in SEEDS:
        scene = shapes.sample(seed)
        frame = worlds.render(scene, times=np.zeros(1), size=64)[0]
        for thing, box in zip(scene.objects, worlds.boxes(scene), strict=True):
            assert box.label == f"{thing.color} {thing.shape}"
            x, y = (round(32 * (a + b)) for a, b in ((box.x0, box.x1), (box.y0, box.y1)))
            seen = frame[:, min(y, 63), min(x, 63)] / 2 + 0.5
            assert np.abs(seen - np.array(thing.rgb)).max() < 0.2
        outside = np.ones((64, 64), dtype=bool)
        for box in worlds.boxes(scene):
            rows = slice(int(box.y0 * 64), int(np.ceil(box.y1 * 64)))
            outside[rows, int(box.x0 * 64) : int(np.ceil(box.x1 * 64))] = False
        assert (frame.max(axis=0)[outside] < 0).all(), seed


# Driving.


def test_driving_captions_tell_road_light_cars_and_camera() -> None:
    cars = [
        driving.Car(color=c, rgb=(1, 1, 1), lane=lane, near=9, far=12, motion="keeps")
        for c, lane in (("red", 0), ("white", 2))
    ]
    scene = dataclasses.replace(
        driving.sample(0), lanes=3, light="night", ego="drifts left", cars=tuple(cars)
    )
    still = (
        "driving on a three lane road at night, a red car in the left lane, "
        "a white car in the right lane"
    )
    assert worlds.caption(scene) == f"{still}, the camera drifts left"
    assert worlds.caption(scene, motion=False) == still


def test_dashes_are_never_aliased_and_no_black_car_drives_at_night() -> None:
    for seed in range(300):
        scene = driving.sample(seed)
        assert scene.speed < 0.4 * driving.DASH_PERIOD
        lanes = [car.lane for car in scene.cars]
        assert len(set(lanes)) == len(lanes) and all(lane < scene.lanes for lane in lanes)
        assert scene.light != "night" or all(car.color != "black" for car in scene.cars)


def test_cars_stay_in_sight_for_ever() -> None:
    for seed in range(100):
        scene = driving.sample(seed)
        for time in np.arange(0, 120, 3.0):
            for box in worlds.boxes(scene, time):
                assert box.x1 - box.x0 > 0.06 and box.y1 - box.y0 > 0.05, (seed, time)


def test_boxes_hold_the_pixels_of_the_cars_rear() -> None:
    checked = 0
    for seed in range(40):
        scene = driving.sample(seed)
        for index, car in enumerate(scene.cars):
            bare = dataclasses.replace(scene, light="day", cars=())
            alone = dataclasses.replace(bare, cars=(car,))
            painted = dataclasses.replace(car, rgb=(1.0, 0.0, 1.0))
            shown = worlds.render(dataclasses.replace(bare, cars=(painted,)), times=[0.0], size=128)
            body = (np.abs(shown[0] - [[[1]], [[-1]], [[1]]]) < 0.35).all(axis=0)
            y, x = np.nonzero(body)
            box = worlds.boxes(alone)[0]
            assert box == worlds.boxes(scene)[index] and box.label == f"{car.color} car"
            edges = np.array([x.min(), y.max() + 1, x.max() + 1]) / 128
            assert edges[0] == pytest.approx(box.x0, abs=0.02)
            assert edges[2] == pytest.approx(box.x1, abs=0.02)
            assert box.y0 - 0.02 < y.min() / 128 and edges[1] < box.y1 + 0.01
            checked += 1
    assert checked > 30


def test_drifting_moves_the_road_and_the_sky_stays() -> None:
    scene = dataclasses.replace(driving.sample(2), ego="drifts left", drift=-1.5, cars=())
    displacement, _ = worlds.flow(scene, time=0.0, next_time=1.0, size=64)
    assert not displacement[:, :10].any()
    # The camera goes left, so the ground straight ahead goes right, and down with the speed.
    assert displacement[0, 40, 32] > 0 and displacement[1, 40, 32] > 0
