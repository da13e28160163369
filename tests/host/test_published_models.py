"""LaVie's networks at toy size give the same latents in ComfyUI as in the standalone host."""

from __future__ import annotations

import pytest
import torch
from lavie_toys import FILES, config_of, state_of
from toy_prompts import SETTINGS, distance, given, ksampler, latents, nodes, sampler, saved
from videoldm.nodes.choices import AS_PUBLISHED

SAME, TEXT = 1e-3, 32
"""SAME is relative to the standard deviation; TEXT is the width of the toy family's prompts."""


@pytest.fixture(scope="module")
def files(comfyui):
    for seed, (kind, name) in enumerate(FILES.items()):
        state = state_of(config_of(kind, context_width=TEXT), 10 * seed)
        torch.save({"ema": state}, comfyui.base / "models" / "videoldm" / name)
    return FILES


def loaded(name: str) -> tuple[str, dict]:
    return "VideoLDM_LoadVideoModel", {"model": name}


def prepared(call, name: str) -> dict:
    """The model of a file and the prompts of `nodes`, in the standalone host."""
    _, clip, _ = call("VideoLDM_LoadImageModel", model="toy/image_model.safetensors")
    positive, negative = (call("CLIPTextEncode", clip=clip, text=text)[0]
                          for text in ("a red circle", ""))  # fmt: skip
    return {"model": call("VideoLDM_LoadVideoModel", model=name)[0], "positive": positive,
            "negative": negative}  # fmt: skip


@pytest.mark.parametrize("schedule, steps", [("trailing", 3), (AS_PUBLISHED, 3)])
def test_text_to_video(comfyui, standalone, files, schedule, steps):
    settings = SETTINGS | {"schedule": schedule, "steps": steps, "sampler_name": "ddim"}
    prompt = nodes(n60=loaded(files["base"]), n61=sampler("60", **settings), n62=ksampler("60"),
                   n63=("VideoLDM_EjectTemporalLayers", {"model": ["60", 0]}),
                   n64=ksampler("63"), n70=saved("61"), n71=saved("62"),
                   n72=saved("64"))  # fmt: skip
    found = latents(comfyui, prompt)
    (here,) = standalone("VideoLDM_VideoSampler", **prepared(standalone, files["base"]), **settings)
    assert distance(found["61"], here["samples"]) <= SAME
    assert distance(found["62"], found["64"]) > 0.01, "the layers do nothing in core's sampler"


def test_interpolation(comfyui, standalone, files):
    keys = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    settings = {"steps": 3, "cfg": 2.0, "keep_keys": False, "passes": 1, "sampler_name": "ddim",
                "schedule": AS_PUBLISHED}  # fmt: skip
    wires = {"model": ["60", 0], "positive": ["4", 0], "negative": ["5", 0], "latent": ["20", 0]}
    interpolate = "VideoLDM_InterpolateFrames", wires | settings
    prompt = nodes(n20=given(comfyui, "keys", keys), n60=loaded(files["interpolation"]),
                   n61=interpolate, n70=saved("61"))  # fmt: skip
    found = latents(comfyui, prompt)["61"]
    (here,) = standalone("VideoLDM_InterpolateFrames", latent={"samples": keys},
                         **prepared(standalone, files["interpolation"]), **settings)  # fmt: skip
    assert found.shape == (9, 4, 8, 8)
    assert distance(found, here["samples"]) <= SAME


def test_upsampling(comfyui, standalone, files):
    clip = {"file": "rendered: shapes", "count": 4, "width": 16, "height": 16}
    settings = {"steps": 3, "cfg": 2.0, "noise_level": 20, "sampler_name": "ddim",
                "schedule": AS_PUBLISHED}  # fmt: skip
    wires = {"model": ["60", 0], "positive": ["4", 0], "negative": ["5", 0], "images": ["20", 0]}
    prompt = nodes(n20=("VideoLDM_LoadVideo", clip), n60=loaded(files["vsr"]),
                   n61=("VideoLDM_UpsampleVideo", wires | settings), n70=saved("61"))  # fmt: skip
    found = latents(comfyui, prompt)["61"]
    images = standalone("VideoLDM_LoadVideo", **clip)[0]
    here, _ = standalone("VideoLDM_UpsampleVideo", images=images,
                         **prepared(standalone, files["vsr"]), **settings)  # fmt: skip
    assert found.shape == (4, 4, 16, 16)
    assert distance(found, here["samples"]) <= SAME
