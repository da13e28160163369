"""Motion LoRAs through the nodes act as if merged, vary over frames and steps, in both hosts."""

from __future__ import annotations

import json

import pytest
import torch
from animatediff_toys import toy_config, toy_lora, toy_state
from safetensors.torch import save_file
from test_core_numbers import compared
from test_curves_in_comfyui import SAME, curve, saved_all
from toy_prompts import distance, inject, ksampler, nodes, sampler
from videoldm.core.networks.sites import UNetLayout

STRENGTH = 0.7


@pytest.fixture(scope="module")
def files(comfyui):
    """Write motion modules for the server's toy model, a LoRA for them, and both merged."""
    layout = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))
    config = toy_config("v2", layout=layout, heads=8, norm_groups=32)
    state, lora = toy_state(config), toy_lora(config)
    merged = dict(state)
    for key in lora:
        if key.endswith("_lora.down.weight"):
            path = key.removesuffix("_lora.down.weight").replace("processor.", "")
            path = f"{path}.0.weight" if path.endswith("to_out") else f"{path}.weight"
            up = lora[key.replace(".down.", ".up.")]
            merged[path] = merged[path] + STRENGTH * up @ lora[key]
    folders = comfyui.base / "models" / "videoldm" / "motion", comfyui.base / "models" / "loras"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in (("plain", state), ("merged", merged)):
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        save_file(tensors, folders[0] / f"{name}.safetensors")
    torch.save({"state_dict": lora}, folders[1] / "pan.ckpt")
    comfyui.clear()


def layers(name: str) -> tuple[str, dict]:
    return "VideoLDM_LoadTemporalLayers", {"layers": f"motion/{name}.safetensors"}


def motion_lora(key: str, **more) -> tuple[str, dict]:
    values = {"layers": [key, 0], "lora_name": "pan.ckpt", "strength": STRENGTH, **more}
    return "VideoLDM_LoadMotionLoRA", values


def test_a_motion_lora_through_its_node(comfyui, files):
    extra = dict(
        n2=layers("plain"), n11=layers("merged"), n12=motion_lora("2"), n13=inject(layers="12"),
        n14=inject(layers="11"), n30=ksampler("13"), n31=ksampler("14"), n32=sampler("13"),
        n33=sampler("14"), n34=ksampler("3"),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all("30", "31", "32", "33", "34")))
    for one, other in (("30", "31"), ("32", "33")):
        assert max(distance(pairs[one][host], pairs[other][host]) for host in (0, 1)) < SAME
    assert max(distance(*pair) for pair in pairs.values()) < SAME
    assert distance(pairs["30"][1], pairs["34"][1]) > 0.01


def test_motion_loras_over_frames_and_steps_add_up_in_both_hosts(comfyui, files):
    extra = dict(
        n2=layers("plain"), n20=curve("[[0, 0], [5, 1.5]]", "frames"),
        n21=curve("[[0, 1], [1, 0]]", "steps"), n12=motion_lora("2", curve=["20", 0]),
        n13=motion_lora("12", strength=-0.4, curve=["21", 0]), n14=inject(layers="13"),
        n30=ksampler("14", sampler_name="heun"), n31=sampler("14"), n32=ksampler("3"),
    )  # fmt: skip
    pairs = compared(comfyui, nodes(**extra, **saved_all("30", "31", "32")))
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    # Heun evaluates the network twice per step, and both weight updates round in every layer.
    assert max(far.values()) < 3 * SAME


def test_what_stands_beside_is_managed_and_can_be_made_anew(comfyui, files):
    extra = dict(
        n2=layers("plain"), n12=motion_lora("2"), n13=inject(layers="12"),
        n30=ksampler("13", seed=276),  # of no other test: cached outputs load no models
        n41=("TestReport", {"model": ["13", 0], "after": ["30", 0]}),
    )  # fmt: skip
    (told,) = comfyui.run(comfyui.filled(nodes(**extra)))["outputs"]["41"]["text"]
    found = json.loads(told)
    print(found)
    assert [one["model"] for one in found[1:]] == ["TemporalLayers", "WeightUpdates"]
    assert all(one["same"] and one["cast"] and one["managed"] for one in found)
