"""ComfyUI's nodes and their stand-ins in the standalone host give the same numbers."""

from __future__ import annotations

import pytest
import torch
from node_inputs import strategy
from safetensors.torch import load_file
from standalone_nodes import standalone_nodes
from toy_prompts import denoising, distance, given, ksampler, latents, nodes, sampler, saved
from videoldm.core.graph import Executor, graph_from_api
from videoldm.nodes import node_registry
from videoldm.nodes.host import host
from videoldm.nodes.host.standalone.core_sampling import SAMPLER_NAMES, SCHEDULER_NAMES

SAME = 1e-4
"""Relative to the standard deviation of the values."""
SAMPLERS = [name for name in SAMPLER_NAMES if "sde" not in name]


def compared(
    comfyui, prompt: dict, changed: dict | None = None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The latents (in the standalone host, in ComfyUI) of all `saved` nodes of a prompt; `changed`
    replaces nodes in the standalone host."""
    there = latents(comfyui, prompt)
    comfyui.clear()
    prompt = prompt | (changed or {})
    with standalone_nodes(comfyui.base):
        ui = Executor(node_registry()).run(graph_from_api(prompt)).ui
        here = {}
        for key, one in prompt.items():
            if one["class_type"] == "SaveLatent":
                shown = ui[key]["latents"][0]
                path = host.folders.output / shown["subfolder"] / shown["filename"]
                here[one["inputs"]["samples"][0]] = load_file(path)["latent_tensor"].float()
    assert here.keys() == there.keys()
    return {key: (here[key], there[key]) for key in there}


def assert_same(pairs: dict, names: dict[str, str]) -> None:
    found = {names[key]: distance(*pair) for key, pair in pairs.items() if key in names}
    print(found)
    assert len(found) == len(names)
    assert {name: far for name, far in found.items() if not far < SAME} == {}


def numbered(wanted: dict, begin: int = 20) -> tuple[dict, dict[str, str]]:
    """The nodes of `wanted` (name -> node) under ids, each saved, and the names by id."""
    extra, names = {}, {}
    for k, (name, node) in enumerate(wanted.items()):
        key = str(begin + 2 * k)
        extra[f"n{key}"], extra[f"n{begin + 2 * k + 1}"] = node, saved(key)
        names[key] = name
    return extra, names


def without_ours(**extra) -> dict:
    prompt = nodes(**extra)
    return {key: one for key, one in prompt.items() if key not in ("8", "9", "10")}


@pytest.fixture
def start(comfyui):
    samples = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return given(comfyui, "start", samples)


def test_samplers(comfyui, start):
    wanted = {name: ksampler("3", sampler_name=name, scheduler="normal", steps=5)
              for name in SAMPLERS}  # fmt: skip
    wanted |= {f"{name} of a latent": ksampler("3", sampler_name=name, scheduler="karras",
                                               steps=4, denoise=0.6, latent_image=["12", 0])
               for name in SAMPLERS}  # fmt: skip
    extra, names = numbered(wanted)
    assert_same(compared(comfyui, without_ours(n12=start, **extra)), names)


def test_schedules_however_many_steps_they_have(comfyui, start):
    settings = {"latent_image": ["12", 0], "sampler_name": "euler_ancestral"}
    wanted = {}
    for name in SCHEDULER_NAMES:
        wanted[name] = ksampler("1", scheduler=name, steps=7)
        wanted[f"{name}, the end of 1,500"] = ksampler(
            "1", scheduler=name, steps=3, denoise=0.002, **settings
        )
        wanted[f"{name}, steps of 1,200"] = denoising(
            "1", "12", scheduler=name, steps=1200, start_at_step=900, end_at_step=903
        )
        wanted[f"{name}, UniPC"] = ksampler("1", scheduler=name, steps=6, sampler_name="uni_pc")
    extra, names = numbered(wanted)
    assert_same(compared(comfyui, without_ours(n12=start, **extra)), names)


def test_parts_of_a_sampling(comfyui, start):
    parts = {
        "all": {"add_noise": "enable"},
        "the first, to the end": {"add_noise": "enable", "end_at_step": 4},
        "the first, with noise": {"add_noise": "enable", "end_at_step": 4,
                                  "return_with_leftover_noise": "enable"},
        "the last": {"start_at_step": 4, "end_at_step": 10_000},
        "the middle": {"start_at_step": 2, "end_at_step": 5, "add_noise": "enable"},
        "none": {"start_at_step": 8, "end_at_step": 10_000},
        "none at all": {"end_at_step": 0},
    }  # fmt: skip
    wanted = {}
    for method in ("euler", "uni_pc_bh2", "ddpm"):
        for name, part in parts.items():
            settings = {"steps": 8, "end_at_step": 8, "sampler_name": method} | part
            wanted[f"{name}, {method}"] = denoising("3", "12", **settings)
    extra, names = numbered(wanted)
    assert_same(compared(comfyui, without_ours(n12=start, **extra)), names)


def test_mixed_prompts(comfyui):
    folder = comfyui.base / "models" / "embeddings"
    folder.mkdir(exist_ok=True)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(6))
    torch.save({"string_to_param": {"*": vectors}}, folder / "toy.pt")
    first, second = ["4", 0], ["13", 0]
    changed = {
        "14": ("ConditioningCombine", {"conditioning_1": first, "conditioning_2": second}),
        "15": ("ConditioningAverage", {"conditioning_to": first, "conditioning_from": second,
                                       "conditioning_to_strength": 0.3}),
        "16": ("ConditioningConcat", {"conditioning_to": first, "conditioning_from": second}),
        "17": ("ConditioningZeroOut", {"conditioning": first}),
        "18": ("ConditioningSetTimestepRange", {"conditioning": first, "start": 0.0, "end": 0.4}),
        "19": ("ConditioningSetTimestepRange", {"conditioning": second, "start": 0.4, "end": 1.0}),
        "20": ("ConditioningCombine", {"conditioning_1": ["18", 0], "conditioning_2": ["19", 0]}),
        "21": ("CLIPSetLastLayer", {"clip": ["1", 1], "stop_at_clip_layer": -1}),
        "22": ("CLIPTextEncode", {"clip": ["21", 0], "text": "a red circle (moves:1.3)"}),
        "23": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a (embedding:toy:1.2), circle"}),
    }  # fmt: skip
    extra = {f"n{key}": value for key, value in changed.items()}
    second_prompt = ("CLIPTextEncode", {"clip": ["1", 1], "text": "a blue square " * 8})
    used = {"combined": "14", "averaged": "15", "behind": "16", "zeros": "17",
            "for a while": "18", "one after the other": "20", "clip skip": "22",
            "textual inversion": "23"}  # fmt: skip
    wanted = {name: ksampler("3", positive=[key, 0], steps=5) for name, key in used.items()}
    wanted["negative"] = ksampler("3", negative=["14", 0], steps=4)
    rolling = strategy("rolling", window=3, lookahead=True)
    wanted["one after the other, rolling"] = sampler("3", positive=["20", 0], **rolling)
    more, names = numbered(wanted, begin=30)
    assert_same(compared(comfyui, without_ours(n13=second_prompt, **extra, **more)), names)


def test_resized_latents(comfyui, start):
    wanted = {}
    for method in ("nearest-exact", "bilinear", "area", "bicubic", "bislerp"):
        inputs = {"samples": ["12", 0], "upscale_method": method}
        wanted[f"{method} up"] = ("LatentUpscaleBy", inputs | {"scale_by": 1.5})
        wanted[f"{method} down"] = ("LatentUpscaleBy", inputs | {"scale_by": 0.45})
        for crop, size in (("center", (160, 72)), ("disabled", (0, 120)), ("center", (96, 8))):
            wanted[f"{method} {size} {crop}"] = ("LatentUpscale", inputs | {
                "width": size[0], "height": size[1], "crop": crop})  # fmt: skip
    extra, names = numbered(wanted)
    kept = {key: one for key, one in nodes(n12=start, **extra).items() if int(key) > 11}
    assert_same(compared(comfyui, kept), names)


def applied(net: str, image: str, /, positive: str = "4", negative: str = "5", **changed) -> tuple:
    return "ControlNetApplyAdvanced", {
        "positive": [positive, 0], "negative": [negative, int(negative != "5")],
        "control_net": [net, 0], "image": [image, 0], "strength": 1.0, "start_percent": 0.0,
        "end_percent": 1.0, **changed,
    }  # fmt: skip


def test_controlnets(comfyui, start):
    folder = comfyui.base / "models" / "controlnet"
    folder.mkdir(exist_ok=True)
    two = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(4))
    prompts = {
        "14": ("VAEDecode", {"samples": ["12", 0], "vae": ["1", 2]}),
        "15": ("VAEDecode", {"samples": ["13", 0], "vae": ["1", 2]}),
        "16": ("TestSavedControlNet", {"model": ["1", 0], "file": str(folder / "toy.safetensors")}),
        "17": applied("16", "14"),
        "18": applied("16", "15", strength=0.6),
        "19": applied("16", "14", start_percent=0.2, end_percent=0.7),
        "20": applied("16", "15", "17", "17", strength=0.4, end_percent=0.5),
        "21": ("ControlNetApply", {"conditioning": ["4", 0], "control_net": ["16", 0],
                                   "image": ["15", 0], "strength": 0.8}),
        "22": ("ConditioningCombine", {"conditioning_1": ["17", 0], "conditioning_2": ["4", 0]}),
    }  # fmt: skip
    extra = {f"n{key}": value for key, value in prompts.items()}
    used = {"an image per frame": "17", "two images": "18", "for a while": "19",
            "two of them": "20", "for both prompts": "21",
            "beside another prompt": "22"}  # fmt: skip
    wanted = {}
    for name, key in used.items():
        negative = ["5", 0] if key in ("21", "22") else [key, 1]
        both = {"positive": [key, 0], "negative": negative}
        wanted[name] = ksampler("3", steps=4, **both)
        wanted[f"{name}, ours"] = sampler("3", **both)
        windows = strategy("sliding windows", window=4, overlap=2)
        wanted[f"{name}, ours in windows"] = sampler("3", **both, **windows)
        rolling = strategy("rolling", window=3, lookahead=True)
        wanted[f"{name}, rolling"] = sampler("3", **both, **rolling)
    wanted["without"] = ksampler("3", steps=4)
    more, names = numbered(wanted, begin=30)
    prompt = without_ours(n12=start, n13=given(comfyui, "two", two), **extra, **more)
    loaded = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "toy.safetensors"}}
    pairs = compared(comfyui, prompt, {"16": loaded})
    assert_same(pairs, names)
    values = {names[key]: here for key, (here, _) in pairs.items()}
    assert all(distance(values[name], values["without"]) > 0.01 for name in used)
