"""SparseCtrl, CameraCtrl and keyframe images give the same latents in both hosts."""

from __future__ import annotations

import pytest
from animatediff_flows import FLOWS, SAMPLERS, toy_flow, write_toys
from node_inputs import strategy
from test_core_numbers import compared
from toy_prompts import FRAMES, MODEL, SIDE, distance, ksampler, nodes, sampler, saved

SAME = 1e-4
"""Relative to the standard deviation of latents."""
FOLLOWED = 5 * SAME
"""With camera control. Features of its random pose encoder reach 2000, the hidden states that they
are added to spread by 4: rounding alone changes the latents by 1.5e-4 (seen with noise changed by
1e-7), and the hosts differ by 2.1e-4."""
WINDOWS = strategy("sliding windows", window=4, overlap=2)


@pytest.fixture(scope="module")
def files(comfyui):
    write_toys(comfyui.base / "models")
    comfyui.clear()


@pytest.mark.parametrize("name", FLOWS)
def test_workflows_give_the_same_latents_in_both_hosts(comfyui, files, name):
    prompt, changed = toy_flow(name, MODEL), {}
    samplers = [key for key, node in prompt.items() if node["class_type"] in SAMPLERS]
    for key in samplers:
        kind, inputs = saved(key)
        prompt[f"9{key}"] = {"class_type": kind, "inputs": inputs}
    for key, node in prompt.items():
        if node["class_type"] == "ControlNetLoader":
            # ComfyUI's loader only detects published sizes.
            file = comfyui.base / "models" / "controlnet" / "flow.safetensors"
            made = {"model": ["1", 0], "file": str(file)}
            changed[key] = {"class_type": node["class_type"], "inputs": {
                "control_net_name": file.name}}  # fmt: skip
            prompt[key] = {"class_type": "TestSavedControlNet", "inputs": made}
    far = {key: distance(*pair) for key, pair in compared(comfyui, prompt, changed).items()}
    print(far)
    assert far.keys() == set(samplers) and max(far.values()) < SAME


def with_layers(variant: str, **extra) -> dict:
    return nodes(
        n2=("VideoLDM_LoadTemporalLayers", {"layers": f"steer/{variant}.safetensors"}), **extra
    )


def clip(count: int) -> tuple[str, dict]:
    return "VideoLDM_LoadVideo", {
        "file": "rendered: shapes", "start": 0, "count": count, "stride": 9, "width": SIDE,
        "height": SIDE, "fit": "crop", "multiple_of": 1,
    }  # fmt: skip


def checked(comfyui, prompt: dict, plain: str, same: float = SAME) -> None:
    """Both hosts agree, and every other latent differs from that of node `plain`."""
    pairs = compared(comfyui, prompt)
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < same
    others = [distance(pairs[plain][0], pairs[key][0]) for key in pairs if key != plain]
    assert min(others) > 0.003, "it does nothing"


@pytest.mark.parametrize("name", ["rgb", "scribble"])
def test_sparse_ctrl(comfyui, files, name):
    told = {"control_net": f"steer/{name}.safetensors", "frames": "0, 4"}
    applied = {
        "positive": ["4", 0], "negative": ["5", 0], "control_net": ["30", 0], "image": ["31", 0],
        "vae": ["1", 2], "strength": 0.7, "start_percent": 0.0, "end_percent": 0.9,
    }  # fmt: skip
    steered = {"positive": ["32", 0], "negative": ["32", 1]}
    checked(comfyui, with_layers(
        "v3", n30=("VideoLDM_LoadSparseControl", told), n31=clip(2),
        n32=("ControlNetApplyAdvanced", applied),
        n8=ksampler("3"), n40=ksampler("3", **steered),
        n41=sampler("3", **steered, **WINDOWS),
        n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8")  # fmt: skip


def test_camera_control(comfyui, files):
    told = {
        "model": ["3", 0], "weights": "steer/camera.safetensors", "frames": FRAMES,
        "moves": "0-3: pan left 30\n2-5: zoom in 2, roll clockwise 40", "strength": 1.0,
    }  # fmt: skip
    checked(comfyui, with_layers(
        "v3", n30=("VideoLDM_CameraControl", told), n8=ksampler("3"), n40=ksampler("30"),
        n41=sampler("30", **WINDOWS), n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8", FOLLOWED)  # fmt: skip


@pytest.mark.parametrize("variant", ["pia", "animatelcm i2v"])
def test_keyframe_images(comfyui, files, variant):
    told = {
        "model": ["3", 0], "images": ["32", 0], "frames": "0, 5", "motion": "large motion",
        "motion_scale": 0.5,
    }  # fmt: skip
    checked(comfyui, with_layers(
        variant, n31=clip(2), n32=("VAEEncode", {"pixels": ["31", 0], "vae": ["1", 2]}),
        n33=("VideoLDM_KeyframeImages", told), n8=ksampler("3"), n40=ksampler("33"),
        n41=sampler("33", **WINDOWS), n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8")  # fmt: skip
