"""ComfyUI loads the chosen model file, and errors name a missing part."""

from __future__ import annotations

import pytest
import torch
from comfyui_server import RunFailed
from safetensors.torch import save_file
from toy_prompts import MODEL, SETTINGS, distance, latents, nodes, sampler, saved
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.stable_diffusion_folders import build_unet
from videoldm.core.families.stable_diffusion_keys import unet_to_ldm
from videoldm.core.weights.checkpoints import read_header, read_state, save

SAME = 1e-3
"""Relative to the standard deviation: the same numbers are computed in two ways."""


def test_the_chosen_one_of_two_models_in_a_folder_is_loaded_as_standalone(comfyui, standalone):
    first = comfyui.base / "models" / "checkpoints" / MODEL
    state = {k: v * 1.2 if "attn2.to_v" in k else v for k, v in read_state(first).items()}
    save(first.with_name("second.safetensors"), state, read_header(first), dtype=None)
    second = ("VideoLDM_LoadImageModel", {"model": "toy/second.safetensors"})
    prompt = nodes(n50=sampler("1"), n51=second, n52=sampler("51"), n70=saved("50"),
                   n71=saved("52"))  # fmt: skip
    found = latents(comfyui, prompt)
    assert distance(found["50"], found["52"]) > 10 * SAME
    model, clip, _ = standalone("VideoLDM_LoadImageModel", model="toy/second.safetensors")
    prompts = {"positive": standalone("CLIPTextEncode", clip=clip, text="a red circle")[0],
               "negative": standalone("CLIPTextEncode", clip=clip, text="")[0]}  # fmt: skip
    # Nodes 4 and 5 encode with the first model's text encoder, which is the same.
    own = standalone("VideoLDM_VideoSampler", model=model, **prompts, **SETTINGS)[0]["samples"]
    assert distance(found["52"], own) < SAME


def test_a_unet_alone_loads_and_what_is_missing_is_named(comfyui):
    """With zeros at the full size of Stable Diffusion 1, which ComfyUI detects by shapes."""
    spec = sd.SPECS["stable diffusion 1"]
    shapes = unet_to_ldm(build_unet(spec.unet).state_dict(), spec.layout)
    state = {sd.UNET + k: torch.zeros(v.shape, dtype=torch.float16) for k, v in shapes.items()}
    path = comfyui.base / "models" / "checkpoints" / "unet.safetensors"
    save_file(state, path)
    load = ("VideoLDM_LoadImageModel", {"model": path.name})
    segments = ("VideoLDM_LongHorizonSegments", {"clip": ["50", 1]})
    decode = ("VideoLDM_TemporalVAEDecode", {"samples": ["7", 0], "vae": ["50", 2]})
    show = ("PreviewImage", {"images": ["51", 0]})
    ours = sampler("1", positive=["51", 0])
    try:
        for extra, words in (
            ({"n51": decode, "n52": show}, "the checkpoint holds no VAE; load one with Load VAE"),
            ({"n51": segments, "n52": ours, "n53": saved("52")}, "holds no text encoder; load one"),
        ):
            with pytest.raises(RunFailed, match=words):
                comfyui.run(comfyui.filled(nodes(n50=load, **extra)))
    finally:
        path.unlink()
