"""Networks made for video inside of ComfyUI's own Python; see inside_video_networks.py."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from comfyui_server import PYTHON

PROGRAM = Path(__file__).with_name("inside_video_networks.py")
COMFYUI = os.environ.get("COMFYUI_PATH", "")
SAME = 1e-4

pytestmark = pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH is not set")


@pytest.fixture(scope="module")
def found():
    python = PYTHON
    command = [str(python), str(PROGRAM), COMFYUI]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_our_sampling_in_comfyui_is_that_of_core(found):
    assert len(found["evaluation"]) == 5
    assert {name: off for name, off in found["evaluation"].items() if off > SAME} == {}


def test_core_s_ksampler_takes_five_axes(found):
    assert {tuple(one["shape"]) for one in found["ksampler"].values()} == {(1, 4, 4, 8, 8)}
    assert {name: one["off"] for name, one in found["ksampler"].items() if one["off"] > SAME} == {}


def test_the_vae_of_videos_has_latents_with_a_time_axis(found):
    assert found["vae"] == {"latents": [1, 4, 4, 16, 16], "pixels": [8, 32, 32, 3]}
