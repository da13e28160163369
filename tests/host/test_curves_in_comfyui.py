"""Curves in ComfyUI: its samplers' steps, its CURVE, and the same latents in both hosts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from comfyui_server import PATH, PYTHON, missing
from test_core_numbers import compared
from toy_family import wake
from toy_prompts import distance, inject, ksampler, nodes, sampler, saved

HERE = Path(__file__).resolve().parent
STEPS = 4
ONCE = ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "lcm", "ddim", "uni_pc", "lms"]
TWICE = ["heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "heunpp2",
         "exp_heun_2_x0", "seeds_2"]  # fmt: skip
SAME = 1e-4
"""Of the spread of latents."""


@pytest.fixture(scope="module")
def found(toy_family):
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    for file in toy_family.glob("*.safetensors"):
        wake(file)
    command = [PYTHON, HERE / "inside_curves.py", PATH, toy_family, *ONCE, *TWICE]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*ONCE, *TWICE])
def test_a_step_of_comfyuis_samplers_is_a_step(found, name):
    """A callback comes behind the first evaluation of its step; what follows belongs to it, too."""
    events = found["steps"][name]
    told = [event[1] for event in events if event[0] == "evaluated"]
    print(name, told)
    assert {event[2] for event in events if event[0] == "evaluated"} == {STEPS}
    assert sorted(set(told)) == list(range(STEPS))
    assert told == sorted(told)
    if name == "uni_pc":  # Its callback comes before the evaluation.
        return
    for before, event in zip(events, events[1:], strict=False):
        if event[0] == "reported":
            assert before[:2] == ["evaluated", event[1]]
    if name in TWICE:
        assert len(told) > STEPS + 1
        assert told.count(0) >= 2


def test_comfyuis_curves_are_read_as_it_evaluates_them(found):
    curves = found["curves"]
    print(curves)
    assert max(curves["LinearCurve"], curves["MonotoneCubicCurve"]) < 1e-12
    assert curves["raw"] == pytest.approx(0.5)
    assert curves["other"]


def curve(points: str, over: str, /, **more) -> tuple[str, dict]:
    values = {"points": points, "over": over, "interpolation": "smooth", **more}
    return "VideoLDM_StrengthCurve", values


def curved(**curves: str) -> tuple[str, dict]:
    kind, inputs = inject()
    return kind, inputs | {name: [key, 0] for name, key in curves.items()}


def test_curves_give_the_same_in_both_hosts(comfyui):
    extra = dict(
        n20=curve("[[0, 0], [3, 1.5], [5, 0.5]]", "frames"),
        n21=curve("[[0, 1], [0, 0.2], [1, 0]]", "steps", times=["20", 0]),
        n22=curve("[[0, 1], [5, 1.6]]", "frames"),
        n23=curved(curve="21", keys="22", queries="20"),
        n24=ksampler("23", sampler_name="heun"),
        n25=sampler("23", sampler_name="heun"),
        n26=ksampler("23", sampler_name="dpmpp_2m"),
    )  # fmt: skip
    kept = {f"n{30 + k}": saved(str(24 + k)) for k in range(3)}
    pairs = compared(comfyui, nodes(**extra, **kept, n40=saved("8")))
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME


def test_a_constant_curve_is_the_number_bit_for_bit_in_comfyui(comfyui):
    half, whole = "[[0, 0.5], [5, 0.5]]", "[[0, 1], [1, 1]]"
    extra = dict(
        n20=curve(half, "frames"), n21=curve(whole, "steps"), n22=curve("[[0, 0]]", "steps"),
        n23=curved(curve="20", keys="21"), n24=inject(strength=0.5), n25=curved(curve="22"),
        n30=ksampler("23"), n31=ksampler("24"), n32=ksampler("25"), n33=ksampler("1"),
    )  # fmt: skip
    kept = {f"n{40 + k}": saved(str(30 + k)) for k in range(4)}
    pairs = compared(comfyui, nodes(**extra, **kept))
    for number, drawn in (("31", "30"), ("33", "32")):
        for host in (0, 1):
            assert distance(pairs[number][host], pairs[drawn][host]) == 0
    assert distance(pairs["31"][1], pairs["33"][1]) > 0.01
