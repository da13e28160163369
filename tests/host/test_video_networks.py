"""Networks made for video give the same in ComfyUI as in core; see inside_video_networks.py."""

from __future__ import annotations

import pytest
from inside_process import found_inside

SAME = 1e-4


@pytest.fixture(scope="module")
def found():
    return found_inside("inside_video_networks.py")


def test_our_sampling_in_comfyui_is_that_of_core(found):
    for kind in ("evaluation", "a level per frame"):
        assert len(found[kind]) == 6
        assert {name: off for name, off in found[kind].items() if off > SAME} == {}


def test_core_s_ksampler_takes_five_axes(found):
    assert {tuple(one["shape"]) for one in found["ksampler"].values()} == {(1, 4, 4, 8, 8)}
    assert {name: one["off"] for name, one in found["ksampler"].items() if one["off"] > SAME} == {}


def test_every_frame_may_have_a_prompt_of_its_own(found):
    assert len(found["by frame"]) == 3
    off = {(name, whose): value for name, both in found["by frame"].items()
           for whose, value in both.items() if value > SAME}  # fmt: skip
    assert off == {}


def test_the_vae_of_videos_has_latents_with_a_time_axis(found):
    assert found["vae"] == {"latents": [1, 4, 4, 16, 16], "pixels": [8, 32, 32, 3]}
