"""Models with temporal layers support what ComfyUI and other packs do to models."""

from __future__ import annotations

import json

import pytest
import torch
from comfyui_server import RunFailed
from node_inputs import strategy
from safetensors.torch import save_file
from toy_prompts import (
    FRAMES,
    MODEL,
    SETTINGS,
    SIDE,
    denoising,
    distance,
    given,
    inject,
    ksampler,
    latents,
    nodes,
    sampler,
    saved,
    windows,
)
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.sites import UNetLayout, block_sites
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.temporal_layers_spec import layout_from_dict
from videoldm.core.weights.checkpoints import Header, read_header, save

SAME = 1e-3
"""Relative to the standard deviation: the same numbers are computed in two ways."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# Patches of other nodes.


def with_attention(how):
    return lambda model, node: ({f"n{node}": ("TestAttention", {"model": [model, 0], "how": how})},
                                {"model": [str(node), 0]})  # fmt: skip


def with_lora(model, node):
    name = "toy_patch.safetensors"
    lora = ("LoraLoaderModelOnly", {"model": [model, 0], "lora_name": name, "strength_model": 1.0})
    return {f"n{node}": lora}, {"model": [str(node), 0]}


def with_controlnet(model, node):
    clip = {"file": "rendered: shapes", "count": FRAMES, "width": SIDE, "height": SIDE}
    apply = {"positive": ["4", 0], "negative": ["5", 0], "image": ["61", 0],
             "control_net": ["60", 0], "strength": 1.0, "start_percent": 0.0,
             "end_percent": 1.0}  # fmt: skip
    extra = {"n60": ("TestControlNet", {"model": ["1", 0]}), "n61": ("VideoLDM_LoadVideo", clip),
             f"n{node}": ("ControlNetApplyAdvanced", apply)}  # fmt: skip
    return extra, {"model": [model, 0], "positive": [str(node), 0], "negative": [str(node), 1]}


PATCHES = {
    "attention patched": with_attention("patch"), "attention replaced": with_attention("replace"),
    "a LoRA": with_lora, "a ControlNet": with_controlnet,
}  # fmt: skip


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_a_patch_acts_on_an_injected_model_as_on_the_image_model(comfyui, patch):
    write_lora(comfyui)
    image, on_image = patch("1", 40)
    off, on_off = patch("30", 41)
    video, on_video = patch("3", 42)
    prompt = nodes(
        **{**image, **off, **video}, n30=inject(strength=0.0),
        n50=ksampler("1", **on_image), n51=ksampler("30", **on_off),
        n52=ksampler("3", **on_video), n53=sampler("3", **on_video),
        n70=saved("50"), n71=saved("51"), n72=saved("52"), n73=saved("53"), n74=saved("8"),
        n75=saved("9"),
    )  # fmt: skip
    found = latents(comfyui, prompt)
    assert torch.equal(found["50"], found["51"]), "layers that are switched off change a patch"
    assert distance(found["52"], found["8"]) > 0.01, "the patch does nothing to a video"
    assert distance(found["52"], found["50"]) > 0.01, "the layers do nothing beside the patch"
    assert distance(found["53"], found["9"]) > 0.01, "our sampler does not see the patch"


def write_lora(comfyui) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
    state = {f"{name}.lora_{way}.weight": normal(*shape)
             for way, shape in (("up", (32, 4)), ("down", (4, 32)))}  # fmt: skip
    folder = comfyui.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "toy_patch.safetensors")


def test_windows_of_our_sampler_see_the_controls_of_their_own_frames(comfyui):
    def part(first):
        return "ImageFromBatch", {"image": ["61", 0], "batch_index": first, "length": 3}

    def controlled(hints):
        return "ControlNetApplyAdvanced", {
            "positive": ["4", 0],
            "negative": ["5", 0],
            "control_net": ["60", 0],
            "image": [hints, 0],
            "strength": 1.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
        }

    makers, _ = with_controlnet("3", 40)
    prompt = nodes(
        **makers, n30=part(0), n31=part(3), n32=("ImageInvert", {"image": ["31", 0]}),
        n33=("ImageBatch", {"image1": ["30", 0], "image2": ["32", 0]}),
        n34=("RepeatImageBatch", {"image": ["32", 0], "amount": 2}),
        n43=controlled("33"), n44=controlled("34"),
        n50=sampler("3", positive=["43", 0], negative=["43", 1], **SLIDING),
        n51=sampler("3", positive=["44", 0], negative=["44", 1], **SLIDING),
        n70=saved("50"), n71=saved("51"),
    )  # fmt: skip
    found = latents(comfyui, prompt)
    assert distance(found["50"][3:], found["51"][3:]) <= SAME
    assert distance(found["50"][:3], found["51"][:3]) > 10 * SAME


# --------------------------------------------------------------------------------------------------
# Windows and layouts of latents.

SLIDING = strategy("sliding windows", window=3, overlap=0, free_noise=False)


def test_a_context_window_of_core_is_a_clip_of_its_own(comfyui):
    cut = {f"n{40 + k}": ("LatentFromBatch", {
        "samples": ["20", 0], "batch_index": 3 * k, "length": 3}) for k in range(2)}  # fmt: skip
    prompt = nodes(
        n20=given(comfyui, "frames", normal(FRAMES, 4, 8, 8)), n21=windows("3", 3, 0), **cut,
        n50=denoising("21", "20"), n51=denoising("3", "40"), n52=denoising("3", "41"),
        n53=denoising("3", "20"), n70=saved("50"), n71=saved("51"), n72=saved("52"),
        n73=saved("53"),
    )  # fmt: skip
    found = latents(comfyui, prompt)
    assert distance(found["50"], torch.cat([found["51"], found["52"]])) <= SAME
    assert distance(found["50"], found["53"]) > 0.01


def test_our_sampler_in_cores_windows_does_what_it_does_in_its_own(comfyui):
    prompt = nodes(n21=windows("3", 3, 0), n50=sampler("21"), n51=sampler("3", **SLIDING),
                   n70=saved("50"), n71=saved("51"), n72=saved("9"))  # fmt: skip
    found = latents(comfyui, prompt)
    assert distance(found["50"], found["51"]) <= SAME
    assert distance(found["50"], found["9"]) > 0.01


@pytest.mark.parametrize("control", [False, True], ids=["plain", "with a ControlNet"])
def test_frames_as_batch_and_latents_with_time_give_the_same(comfyui, control):
    clips = normal(2, FRAMES, 4, 8, 8)
    extra, on = with_controlnet("3", 40) if control else ({}, {})
    prompt = nodes(
        **extra, n20=given(comfyui, "with_time", clips.transpose(1, 2)),
        n21=given(comfyui, "first", clips[0]), n22=given(comfyui, "second", clips[1]),
        n50=denoising("3", "20", **on), n51=denoising("3", "21", **on),
        n52=denoising("3", "22", **on), n70=saved("50"), n71=saved("51"), n72=saved("52"),
    )  # fmt: skip
    found = latents(comfyui, prompt)
    assert found["50"].shape == (2, 4, FRAMES, 8, 8)
    both = torch.stack([found["51"], found["52"]])
    assert distance(found["50"].transpose(1, 2), both) <= SAME


def test_core_windows_go_along_the_time_of_latents_that_have_it(comfyui):
    clip = normal(1, FRAMES, 4, 8, 8)
    prompt = nodes(
        n20=given(comfyui, "with_time", clip.transpose(1, 2)),
        n21=given(comfyui, "batch", clip[0]), n22=windows("3", 3, 1, dim=2),
        n23=windows("3", 3, 1), n50=denoising("22", "20"), n51=denoising("23", "21"),
        n70=saved("50"), n71=saved("51"),
    )  # fmt: skip
    found = latents(comfyui, prompt)
    assert distance(found["50"][0].transpose(0, 1), found["51"]) <= SAME


# --------------------------------------------------------------------------------------------------
# Layers that reach inside the image network's modules.

INSIDE = {
    "before the feed-forward, with pooled norms": {"pooled_host_norms": True},
    "after the feed-forward, with sparse attention": {
        "block_place": "after_feed_forward", "block_positions": "none", "sparse_causal": True,
    },
    "between levels, too": {"modules": True, "told_noise": False, "pooled_host_norms": True},
    "with noise levels of their own": {"betas": ("linear", 1e-4, 2e-2)},
}  # fmt: skip


@pytest.mark.parametrize("changes", INSIDE.values(), ids=INSIDE)
def test_layers_inside_transformer_blocks_do_what_they_do_elsewhere(comfyui, standalone, changes):
    layers = "toy/inside.safetensors"
    write_layers(comfyui, layers, changes)
    comfyui.clear()
    prompt = nodes(n2=("VideoLDM_LoadTemporalLayers", {"layers": layers}), n50=sampler("1"),
                   n70=saved("9"), n71=saved("50"), n72=saved("8"), n51=ksampler("1"),
                   n52=("VideoLDM_EjectTemporalLayers", {"model": ["3", 0]}), n53=ksampler("52"),
                   n73=saved("51"), n74=saved("53"))  # fmt: skip
    found = latents(comfyui, prompt)
    model, clip, _ = standalone("VideoLDM_LoadImageModel", model=MODEL)
    (loaded,) = standalone("VideoLDM_LoadTemporalLayers", layers=layers)
    (video,) = standalone("VideoLDM_InjectTemporalLayers", model=model, layers=loaded)
    positive, negative = (standalone("CLIPTextEncode", clip=clip, text=text)[0]
                          for text in ("a red circle", ""))  # fmt: skip
    (here,) = standalone("VideoLDM_VideoSampler", model=video, positive=positive,
                         negative=negative, **SETTINGS)  # fmt: skip
    apart = distance(found["9"], here["samples"])
    print(f"relative distance {apart:.1e}; to the image model {distance(found['9'], found['50'])}")
    assert apart <= SAME
    assert distance(found["9"], found["50"]) > 0.01
    assert distance(found["8"], found["51"]) > 0.01
    assert torch.equal(found["53"], found["51"]), "ejecting does not give the image model back"


def write_layers(comfyui, name: str, changes: dict) -> None:
    folder = comfyui.base / "models" / "videoldm"
    known = read_header(folder / "toy" / "text_to_video.safetensors").config["layout"]
    layout = layout_from_dict(known)
    ends = ("down.0.out", "mid.out", "up.1.out", "down.0.res.0") if "modules" in changes else ()
    spec = spec_from_table(layout, sites=(*block_sites(layout), *ends), learned_blend=False,
                           norm_groups=8, **changes)  # fmt: skip
    layers = TemporalLayers(spec)
    generator = torch.Generator().manual_seed(6)
    for weight in layers.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    header = Header(family="embedded", kind="temporal_layers", config=spec.as_dict())
    save(folder / name, layers.state_dict(), header, dtype=None)


def test_layers_of_another_layout_are_refused_in_one_sentence(comfyui):
    layout = UNetLayout(channels=(32, 64), layers=1, depths=(1, 0))
    spec = spec_from_table(layout, norm_groups=8)
    header = Header(family="embedded", kind="temporal_layers", config=spec.as_dict())
    path = comfyui.base / "models" / "videoldm" / "other.safetensors"
    save(path, TemporalLayers(spec).state_dict(), header, dtype=None)
    prompt = nodes(n2=("VideoLDM_LoadTemporalLayers", {"layers": path.name}), n70=saved("9"))
    with pytest.raises(RunFailed, match="made for a U-Net with 2 levels of 32 to 64 channels, but"):
        comfyui.run(comfyui.filled(prompt))


# --------------------------------------------------------------------------------------------------
# One run after another, and memory.


@pytest.mark.parametrize("node", ["8", "9"], ids=["core's sampler", "ours"])
@pytest.mark.parametrize("unload", [False, True], ids=["models kept", "models unloaded"])
def test_a_run_is_the_same_after_another_with_other_settings(comfyui, node, unload):
    def again(prompt: dict) -> torch.Tensor:
        comfyui.post("/free", {"unload_models": unload, "free_memory": True})
        return latents(comfyui, prompt)[node]

    other = nodes(n70=saved(node), n2=("VideoLDM_LoadTemporalLayers", {
        "layers": "toy/interpolation.safetensors"}))  # fmt: skip
    schedule = {"8": ("scheduler", "karras"), "9": ("schedule", "karras")}[node]
    other[node]["inputs"] |= {schedule[0]: schedule[1], "seed": 8}
    other["30"] = {"class_type": "ModelSamplingDiscrete", "inputs": {
        "model": ["3", 0], "sampling": "v_prediction", "zsnr": True}}  # fmt: skip
    other[node]["inputs"]["model"] = ["30", 0]
    first = again(nodes(n70=saved(node)))
    assert not torch.equal(again(other), first)
    assert torch.equal(again(nodes(n70=saved(node))), first)


def test_memory_management_knows_models_and_can_make_them_anew(comfyui):
    # A seed that no other test has: for cached outputs, no model would be loaded.
    prompt = nodes(
        n9=sampler("3", seed=275),
        n21=("TestReport", {"model": ["3", 0], "clip": ["1", 1], "vae": ["10", 0],
                            "after": ["9", 0]}),
    )  # fmt: skip
    history = comfyui.run(comfyui.filled(prompt))
    found = json.loads(history["outputs"]["21"]["text"][0])
    assert len(found) == 4
    assert all(one["same"] for one in found), found
    unet, layers = found[2:]
    assert layers["model"] == "TemporalLayers"
    for one in (unet, layers):
        assert one["managed"], "it was not loaded by ComfyUI"
        assert one["cast"], "ComfyUI cannot cast or offload its weights"
