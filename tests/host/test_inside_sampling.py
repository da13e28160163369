"""Our sampling in ComfyUI calls its guider once per segment and leaves nothing behind."""

from __future__ import annotations

import pytest

SAME = 1e-4
"""Relative to the standard deviation of the values."""


@pytest.mark.parametrize(("strategy", "clips", "evaluations"), [
    ("single clip", 1, 3), ("heun", 1, 5), ("sliding windows", 1, 4 * 3), ("prediction", 3, 3 * 3),
])  # fmt: skip
def test_the_guider_is_called_once_per_clip(inside, strategy, clips, evaluations):
    found = inside["calls"][strategy]
    once = ("outer_sample", "prepare_sampling", "sampler_sample")
    assert {name: found[name] for name in once} == dict.fromkeys(once, clips)
    assert found["predict_noise"] == evaluations


def test_controlnets_are_readied_and_cleaned_up_per_clip_not_per_evaluation(inside):
    found = inside["calls"]
    assert found["single clip"]["pre_run"] == found["heun"]["pre_run"]
    assert found["single clip"]["cleanup"] == found["heun"]["cleanup"] > 0
    assert found["prediction"]["pre_run"] == 3 * found["single clip"]["pre_run"]


def test_an_evaluation_outside_of_a_sampling_is_the_same(inside):
    found = inside["evaluation_alone"]
    assert found["same"] and found["sense"] > 0.1


def test_more_windows_with_controlnets_than_are_kept_ready(inside):
    found = inside["many_windows"]
    assert found["finite"] and found["apart"] < SAME


def test_the_controlnets_of_a_clip_have_its_hints_and_stay_one_for_both_prompts(inside):
    found = inside["controls_of_a_clip"]
    assert found["shared"] and found["copied"]
    assert found["hints"] == [3, 3, 3] and found["before"] == 6


def test_ranges_of_noise_levels_become_masks_of_frames(inside):
    assert all(inside["ranges_of_frames"].values()), inside["ranges_of_frames"]


def test_a_run_that_was_stopped_leaves_nothing_behind(inside):
    assert inside["interrupted"] == {"ended": True, "same": True}
