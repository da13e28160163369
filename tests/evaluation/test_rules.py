"""The rules read colour, shape and motion off rendered clips, clean ones and degraded ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from degraded import degraded  # noqa: E402
from videoldm.core.evaluation.rules import matches, miscounted, recognise  # noqa: E402
from videoldm.core.families.embedded import worlds  # noqa: E402

CLIPS = 80


def rates(seeds: range, *, degrade: bool) -> dict[str, float]:
    """The fractions recognised correctly, averaged over one clip per seed."""
    total = {"color": 0.0, "shape": 0.0, "motion": 0.0}
    for seed in seeds:
        scene = worlds.sample_scene("shapes", seed)
        frames = worlds.render(scene, times=np.arange(16), size=64)
        found = recognise(degraded(frames, seed) if degrade else frames)
        right = matches(found, [(o.color, o.shape, o.motion) for o in scene.objects])
        total = {name: total[name] + right[name] / len(seeds) for name in total}
    return total


def test_clean_clips_are_recognised() -> None:
    right = rates(range(1000, 1000 + CLIPS), degrade=False)
    assert right["color"] >= 0.99 and right["shape"] >= 0.97 and right["motion"] >= 0.98, right


def test_blurred_noisy_tinted_clips_are_recognised() -> None:
    right = rates(range(2000, 2000 + CLIPS), degrade=True)
    assert right["color"] >= 0.98 and right["shape"] >= 0.93 and right["motion"] >= 0.95, right


def test_the_rate_and_the_size_of_a_clip_do_not_matter() -> None:
    wish = [("green", "triangle", "rotates"), ("white", "circle", "moves down")]
    scene = worlds.shapes_scene(3, objects=wish)
    for times, size in ((np.arange(61) / 4, 64), (np.arange(16), 128), (np.arange(0, 16, 3), 48)):
        found = recognise(worlds.render(scene, times=times, size=size))
        assert matches(found, wish) == {"color": 1.0, "shape": 1.0, "motion": 1.0}


def test_a_frozen_clip_stays_still_and_has_no_motion_right() -> None:
    wish = [("cyan", "star", "rotates")]
    scene = worlds.shapes_scene(5, objects=wish)
    found = recognise(np.repeat(worlds.render(scene, times=np.zeros(1), size=64), 16, axis=0))
    assert [thing.motion for thing in found] == ["stays still"]
    assert matches(found, wish) == {"color": 1.0, "shape": 1.0, "motion": 0.0}


def test_two_objects_of_one_colour_are_told_apart() -> None:
    wish = [("red", "square", "moves left"), ("red", "star", "grows")]
    found = recognise(
        worlds.render(worlds.shapes_scene(8, objects=wish), times=np.arange(16), size=64)
    )
    assert matches(found, wish) == {"color": 1.0, "shape": 1.0, "motion": 1.0}


def test_an_empty_clip_holds_nothing_and_noise_is_no_object() -> None:
    assert recognise(np.full((4, 3, 32, 32), -0.9)) == []
    noise = np.random.default_rng(0).normal(-0.5, 0.2, (8, 3, 32, 32))
    assert recognise(noise) == []
    assert matches([], [("red", "circle", "grows")])["color"] == 0.0


def test_surplus_objects_count_as_wrong_and_the_order_is_free() -> None:
    wish = [("red", "square", "shrinks"), ("blue", "star", "moves right")]
    scene = worlds.shapes_scene(2, objects=wish, background="gray")
    found = recognise(worlds.render(scene, times=np.arange(16), size=64))
    assert matches(found, wish[::-1])["shape"] == 1.0
    assert matches(found, wish[:1]) == {"color": 0.5, "shape": 0.5, "motion": 0.5}
    assert found[0].area >= found[1].area and found[0].centres.shape == (16, 2)


def test_frames_of_a_wrong_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\[3, 8, 8\]"):
        recognise(np.zeros((3, 8, 8)))


# --------------------------------------------------------------------------------------------------
# Numbers of objects.


def one_and_two() -> tuple[np.ndarray, np.ndarray]:
    """A clip of one red star, and a clip of two identical ones."""
    wish = ("red", "star", "rotates")
    scene = worlds.shapes_scene(4, objects=[wish, ("red", "circle", "grows")], background="black")
    star = replace(scene.objects[0], radius=8.0, x=16.0, y=32.0)
    alone, both = ((star,), (star, replace(star, x=46.0)))
    times = np.arange(16)
    return tuple(  # type: ignore[return-value]
        worlds.render(replace(scene, objects=objects), times=times, size=64)
        for objects in (alone, both)
    )


@pytest.mark.parametrize("degrade", [False, True])
def test_rendered_clips_have_as_many_objects_as_told(degrade: bool) -> None:
    for seed in range(3000, 3040):
        scene = worlds.sample_scene("shapes", seed)
        frames = worlds.render(scene, times=np.arange(16), size=64)
        frames = degraded(frames, seed) if degrade else frames
        assert miscounted(frames, len(scene.objects)) == (False, False), seed


def test_a_duplicated_object_and_a_missing_one_are_counted() -> None:
    one, two = one_and_two()
    assert miscounted(one, 1) == miscounted(two, 2) == (False, False)
    assert miscounted(two, 1) == (True, False)
    assert miscounted(one, 2) == (False, True)
    assert miscounted(degraded(two, 0), 1) == (True, False)
    assert miscounted(np.full_like(one, -0.9), 1) == (False, True)


def test_a_duplicate_counts_if_it_is_there_in_over_a_quarter_of_the_frames() -> None:
    one, two = one_and_two()
    for frames, wrong in ((4, False), (5, True)):
        assert miscounted(np.concatenate([two[:frames], one[frames:]]), 1) == (wrong, False)
        assert miscounted(np.concatenate([one[:frames], two[frames:]]), 2) == (False, wrong)


def test_a_third_object_of_a_third_colour_is_one_too_many() -> None:
    specs = [("red", "star", "rotates"), ("blue", "circle", "grows")]
    scene = worlds.shapes_scene(4, objects=specs, background="black")
    third = replace(scene.objects[0], color="green", rgb=(0.0, 1.0, 0.0), x=55.0, y=8.0, radius=6.0)
    first, second = scene.objects
    placed = replace(first, x=14.0, y=44.0), replace(second, x=48.0, y=44.0, radius=7.0), third
    frames = worlds.render(replace(scene, objects=placed), times=np.arange(16), size=64)
    assert miscounted(frames, 2) == (True, False) and miscounted(frames, 3) == (False, False)
