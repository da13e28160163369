"""Roads, cars and steady marks are read off rendered clips whose scenes are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from degraded import degraded  # noqa: E402
from videoldm.core.evaluation import road_rules, roads  # noqa: E402
from videoldm.core.evaluation.car_rules import agreement, cars_of, read_cars  # noqa: E402
from videoldm.core.evaluation.road_rules import mark_flicker, read_road, rendered_road  # noqa: E402
from videoldm.core.families.embedded import worlds  # noqa: E402
from videoldm.core.families.embedded.worlds import driving  # noqa: E402

TIMES = np.arange(16)
SCENES = [worlds.sample_scene("driving", seed) for seed in range(7000, 7012)]


def shown(scene: worlds.DrivingScene, times: np.ndarray = TIMES, size: int = 64) -> np.ndarray:
    return worlds.render(scene, times=times, size=size)


def with_cars(scene: worlds.DrivingScene, *cars: driving.Car) -> worlds.DrivingScene:
    return replace(scene, cars=cars)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [shown(scene) for scene in SCENES]


# Roads.


@pytest.mark.parametrize("degrade", [False, True])
def test_camera_speed_and_dashes_are_read(clips, degrade) -> None:
    for seed, (scene, clip) in enumerate(zip(SCENES, clips, strict=True)):
        road = read_road(degraded(clip, seed) if degrade else clip, scene.lanes)
        assert road.light == scene.light
        assert np.abs(road.camera - driving._camera(scene, TIMES.astype(float))).max() < 0.08
        assert road.speed == pytest.approx(scene.speed, abs=0.04)
        apart = (road.start - scene.start + driving.DASH_PERIOD / 2) % driving.DASH_PERIOD
        assert apart == pytest.approx(driving.DASH_PERIOD / 2, abs=0.25)


def test_the_number_of_lanes_is_read(clips) -> None:
    counts = [read_road(clip).lanes for clip in clips]
    assert counts == [scene.lanes for scene in SCENES] and set(counts) == {2, 3}


def test_each_road_is_fitted_once_for_all_figures(clips, monkeypatch) -> None:
    counts, fit = [], road_rules._fit_camera
    monkeypatch.setattr(
        road_rules, "_fit_camera", lambda grey, lanes: counts.append(lanes) or fit(grey, lanes)
    )
    found: dict[str, list[float]] = {}
    roads._measure(clips[0], SCENES[0], found)
    assert sorted(counts) == [2, 3]
    assert all(found[name] == [1.0] for name in ("cars", "lanes", "light", "camera"))


def test_the_size_of_a_clip_does_not_matter() -> None:
    scene = SCENES[0]
    road = read_road(shown(scene, size=128))
    assert road.lanes == scene.lanes and road.speed == pytest.approx(scene.speed, abs=0.04)
    assert read_cars(shown(scene, size=128), road) == cars_of(scene)


def test_the_road_that_fits_is_drawn_as_the_world_draws_it() -> None:
    scene = with_cars(SCENES[2])
    drawn, true = rendered_road(read_road(shown(scene)), (64, 64)), shown(scene)
    # Between the trees and the lower edge: road and marks.
    assert np.abs(drawn - true)[..., 44:, 26:38].mean() < 0.02


# Marks.


def jumping(scene: worlds.DrivingScene, share: float) -> np.ndarray:
    """A clip in which a share of the frames have their dashes shifted by half a period."""
    moved = replace(scene, start=scene.start + driving.DASH_PERIOD / 2)
    wrong = np.arange(16) * share % 1 + share > 1 - 1e-9
    return np.where(wrong[:, None, None, None], shown(moved), shown(scene))


def test_marks_that_jump_flicker_and_steady_ones_do_not(clips) -> None:
    steady = [mark_flicker(clip) for clip in clips]
    assert max(steady) < 0.03
    for scene, flicker in zip(SCENES[:8], steady, strict=False):
        some, many = (mark_flicker(jumping(scene, share)) for share in (0.25, 0.5))
        assert many > some > 1.5 * flicker and many > 0.05


def test_marks_that_vanish_flicker() -> None:
    scene = with_cars(SCENES[3])
    clip, road = shown(scene), read_road(shown(scene))
    steady = mark_flicker(clip, road)
    grey = np.median(clip[:, :, 40:, 30:34], axis=(2, 3))
    clip[5:8, :, 26:] = np.minimum(clip[5:8, :, 26:], grey[5:8, :, None, None] + 0.1)
    assert mark_flicker(clip, road) > 10 * steady and steady > 0


def test_what_hides_a_mark_is_no_flicker() -> None:
    scene = next(one for one in SCENES if len(one.cars) == 3)
    near = [replace(car, near=6.5, far=12.0, motion="recedes") for car in scene.cars]
    assert mark_flicker(shown(with_cars(scene, *near))) < 0.03


# Cars.


@pytest.mark.parametrize("degrade", [False, True])
def test_cars_are_as_told(clips, degrade) -> None:
    shown_as = [degraded(clip, seed) if degrade else clip for seed, clip in enumerate(clips)]
    right = [
        agreement(read_cars(one, read_road(one, scene.lanes)), cars_of(scene))
        for scene, one in zip(SCENES, shown_as, strict=True)
    ]
    assert right == [1.0] * len(SCENES)


def test_a_wrong_lane_a_wrong_colour_and_a_missing_car_are_noticed() -> None:
    scene = next(one for one in SCENES if one.lanes == 3 and one.light == "day")
    rgb = driving.CAR_COLORS
    car = driving.Car(color="red", rgb=rgb["red"], lane=0, near=9.5, far=14.0, motion="keeps")
    told = [("red", "left")]
    seen = {
        "as told": car,
        "wrong lane": replace(car, lane=1),
        "wrong colour": replace(car, color="blue", rgb=rgb["blue"]),
    }
    found = {name: read_cars(shown(with_cars(scene, one))) for name, one in seen.items()}
    assert found == {"as told": told, "wrong lane": [("red", "middle")],
                     "wrong colour": [("blue", "left")]}  # fmt: skip
    assert [agreement(one, told) for one in found.values()] == [1.0, 0.0, 0.0]
    assert read_cars(shown(with_cars(scene))) == []
    both = read_cars(shown(with_cars(scene, car, replace(car, lane=2))))
    assert agreement(both, told) == 0.5 and agreement([], told) == 0.0 and agreement([], []) == 1.0


def test_a_car_that_is_there_in_few_frames_is_none() -> None:
    scene = next(one for one in SCENES if one.lanes == 2)
    car = driving.Car(color="yellow", rgb=driving.CAR_COLORS["yellow"], lane=1, near=9.0, far=13.0,
                      motion="keeps")  # fmt: skip
    clip, empty = shown(with_cars(scene, car)), shown(with_cars(scene))
    for frames, there in ((6, False), (11, True)):
        mixed = np.concatenate([clip[:frames], empty[frames:]])
        assert (read_cars(mixed) == [("yellow", "right")]) is there
