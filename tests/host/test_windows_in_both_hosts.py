"""Prompt travel, windows, FreeInit and Reference Window give the same latents in both hosts, with
ComfyUI's KSampler and the Video Sampler."""

from __future__ import annotations

import pytest
from test_core_numbers import compared
from toy_prompts import distance, inject, ksampler, nodes, sampler, saved, windows

SAME = 1e-4
"""Relative to the standard deviation of latents."""
TRAVEL = '"0": "a red circle", "5": "a blue square moves left"'
WEIGHTED = '"0:2": "a (red:`0.2, 1.8`) circle", "5": "a blue square moves (left:`1: 0, 4: 2`)"'


def travelling(text: str = TRAVEL, frames: int = 6) -> tuple[str, dict]:
    return "VideoLDM_LongHorizonSegments", {"clip": ["1", 1], "segments": text, "frames": frames,
                                            "frame_rate": 8.0}  # fmt: skip


def cores(model: str, **changed) -> tuple[str, dict]:
    kind, inputs = windows(model, 3, 1)
    return kind, {**inputs, **changed}


def again(model: str, iterations: int = 2) -> tuple[str, dict]:
    return "VideoLDM_FreeInit", {"model": [model, 0], "iterations": iterations, "order": 4,
                                 "filter": "gaussian", "spatial_cutoff": 0.25,
                                 "temporal_cutoff": 0.25}  # fmt: skip


def read(model: str, **changed) -> tuple[str, dict]:
    return "VideoLDM_ReferenceWindow", {"model": [model, 0], "first_frame": 1, "strength": 0.8,
                                        "negative_strength": 0.5, "begin": 0.0, "end": 0.6,
                                        **changed}  # fmt: skip


SLIDING = {"strategy": "sliding windows", "strategy.window": 3, "strategy.overlap": 1,
           "strategy.context_frames": 1, "strategy.free_noise": True}  # fmt: skip
ROLLING = {"strategy": "rolling", "strategy.window": 3, "strategy.lookahead": True,
           "strategy.eta": 0.5}  # fmt: skip
PREDICTION = {"strategy": "prediction", "strategy.window": 3, "strategy.context_frames": 1}
CASES = {
    "travel, core's": (ksampler("3", positive=["11", 0]),),
    "travel, ours": (sampler("3", positive=["11", 0]),),
    "travel in ours' windows": (sampler("3", positive=["11", 0], **SLIDING),),
    "travel along arcs by changing weights, core's": (ksampler("3", positive=["12", 0]),),
    "travel along arcs by changing weights, in ours' windows": (
        sampler("3", positive=["12", 0], **SLIDING),),
    "travel in core's windows": (ksampler("W", positive=["11", 0]), cores("3")),
    "rolling, ours": (sampler("3", **ROLLING),),
    "rolling, ours, travel": (sampler("3", positive=["11", 0], **ROLLING | {
        "strategy.lookahead": False}),),
    "core's windows with the frame before": (ksampler("W"), cores("3", causal_window_fix=True)),
    "core's looped windows": (ksampler("W"), cores("3", context_schedule="looped_uniform",
                                                   closed_loop=True, fuse_method="pyramid")),
    "ours' looped windows": (sampler("3", **SLIDING, **{
        "strategy.window_schedule": "looped", "strategy.fuse": "flat", "strategy.strides": 2}),),
    "FreeInit, core's": (ksampler("W"), again("3")),
    "FreeInit, core's, ancestral": (ksampler("W", sampler_name="euler_ancestral"), again("3", 3)),
    "FreeInit, ours": (sampler("W"), again("3")),
    "FreeInit, ours, windows": (sampler("W", **SLIDING), again("3")),
    "reference, core's": (ksampler("W"), cores("R"), read("3")),
    "reference, core's, with the frame before": (
        ksampler("W"), cores("R", causal_window_fix=True), read("3", first_frame=0)),
    "reference, ours": (sampler("R", **SLIDING), read("3", first_frame=0)),
    "reference beside the windows, ours": (sampler("R", **SLIDING), read("3")),
    "reference, rolling, ours": (sampler("R", **ROLLING), read("3", end=1.0)),
    "prediction, ours": (sampler("51", **PREDICTION),),
    "reference, prediction, ours": (sampler("R", **PREDICTION), read("51", end=1.0)),
    "prediction by a model of its own, ours": (
        sampler("3", **PREDICTION, **{"strategy.prediction_model": ["51", 0]}),),
    "reference, prediction by a model of its own, ours": (
        sampler("R", **PREDICTION, **{"strategy.prediction_model": ["51", 0]}),
        read("3", end=1.0)),
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(comfyui):
    """Latents (standalone, ComfyUI) by name, all from one run."""
    kind, inputs = travelling(WEIGHTED)
    extra, names = {"n11": travelling(), "n12": (kind, {**inputs, "blend": "spherical"})}, {}
    layers = {"layers": "toy/prediction.safetensors"}
    extra |= {"n50": ("VideoLDM_LoadTemporalLayers", layers), "n51": inject("1", "50")}
    for k, (name, (sampled, *models)) in enumerate(CASES.items()):
        first = 100 + 5 * k
        key = str(first)
        chain = [str(first + 2 + at) for at in range(len(models))]
        for at, (kind, inputs) in enumerate(models):
            source = chain[at + 1] if at + 1 < len(models) else inputs["model"][0]
            extra[f"n{chain[at]}"] = (kind, {**inputs, "model": [source, 0]})
        kind, inputs = sampled
        wired = {**inputs, "model": [chain[0], 0]} if chain else inputs
        extra |= {f"n{key}": (kind, wired), f"n{first + 1}": saved(key)}
        names[key] = name
    prompt = nodes(n98=saved("8"), n99=saved("9"), **extra)
    found = compared(comfyui, prompt)
    return {names.get(key, key): pair for key, pair in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_same_in_both_hosts(pairs, name):
    far = distance(*pairs[name])
    print(name, far)
    assert far < SAME


@pytest.mark.parametrize("name", CASES)
def test_it_changes_something(pairs, name):
    plain = pairs["9" if "ours" in name else "8"][1]
    assert distance(pairs[name][1], plain) > 0.01


def test_a_reference_is_read(pairs):
    for read, without in (
        ("reference, core's, with the frame before", "core's windows with the frame before"),
        ("reference, ours", "reference beside the windows, ours"),
        ("reference, core's", "reference, core's, with the frame before"),
        ("reference, rolling, ours", "rolling, ours"),
        ("reference, prediction, ours", "prediction, ours"),
        (
            "reference, prediction by a model of its own, ours",
            "prediction by a model of its own, ours",
        ),
    ):
        assert distance(pairs[read][1], pairs[without][1]) > 1e-3
