"""LaVie's workflows at full size give the same frames in ComfyUI and in `videoldm run`, and models
in diffusers folders give the same latents as in single files."""

from __future__ import annotations

import json

import full_size_files
import pytest
from comfyui_server import ROOT
from test_workflows import check_same, lossless
from toy_prompts import distance, ksampler, latents, saved

pytestmark = [pytest.mark.slow, pytest.mark.full_size]
GIGABYTES = 16
SAME = 1e-3  # relative to the standard deviation of the values
FILES = {
    "checkpoints/sd-v1-4.ckpt": ("sd15_single_file", "state_dict"),
    "checkpoints/x4-upscaler-ema.safetensors": ("sd_x4_upscaler_single_file", None),
    "videoldm/lavie_base.pt": ("lavie_base", "ema"),
    "videoldm/lavie_interpolation.pt": ("lavie_interpolation", "ema"),
    "videoldm/lavie_vsr.pt": ("lavie_vsr", "ema"),
}
FOLDERS = {"checkpoints/sd-v1-4.ckpt": "sd-v1-4", "checkpoints/x4-upscaler-ema.safetensors": "x4"}
SMALL = {"5": {"width": 64, "height": 64, "frames": 2, "steps": 2}, "9": {"steps": 1},
         "17": {"steps": 1, "chunk": 5, "overlap": 0}}  # fmt: skip


@pytest.fixture(scope="module")
def files(comfyui):
    """Files of random weights in the server's folders, removed afterwards."""
    full_size_files.require_memory(GIGABYTES)
    models = comfyui.base / "models"
    for name, (manifest, within) in FILES.items():
        full_size_files.write_published(manifest, models / name, within=within)
    yield models
    comfyui.clear()
    for name in FILES:
        (models / name).unlink()


# Both together have every stage; all at once needs more memory than many machines have.
@pytest.mark.parametrize("option", [2, 3])
def test_a_workflow_gives_the_same_frames_in_both_hosts(comfyui, headless, files, option):
    name = f"lavie_text_to_video_option_{option}.json"
    prompt = json.loads((ROOT / "workflows" / "api" / name).read_text())
    for key in SMALL.keys() & prompt.keys():
        prompt[key]["inputs"] |= SMALL[key]
    check_same(comfyui, headless, lossless(prompt), within=3600)


@pytest.fixture(scope="module")
def folders(files):
    """Write the image model and the upsampler of `files` as folders in models/diffusers."""
    for name, folder in FOLDERS.items():
        full_size_files.write_folder(files / name, files / "diffusers" / folder)


def sampled(model: str) -> dict:
    """A prompt that samples two images with an image model."""
    return {
        "1": ("VideoLDM_LoadImageModel", {"model": model}),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a red car"}),
        "5": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "7": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2}),
        "61": ksampler("1", steps=2),
        "62": ("VAEDecode", {"samples": ["61", 0], "vae": ["1", 2]}),
        "63": ("VAEEncode", {"pixels": ["62", 0], "vae": ["1", 2]}),
        "70": saved("61"),
        "71": saved("63"),
    }


def enlarged(upsampler: str) -> dict:
    """A prompt that upsamples two frames, decodes them and encodes them again."""
    settings = {"steps": 1, "cfg": 2.0, "noise_level": 20, "chunk": 2, "overlap": 0}
    wires = {"model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0], "images": ["7", 0]}
    clip = {"file": "rendered: shapes", "count": 2, "width": 64, "height": 64}
    return sampled("") | {
        "1": ("VideoLDM_LoadUpsampler", {"upsampler": upsampler}),
        "7": ("VideoLDM_LoadVideo", clip),
        "61": ("VideoLDM_UpsampleVideo", wires | settings),
    }


@pytest.mark.parametrize("graph, file", [(sampled, "sd-v1-4.ckpt"),
                                         (enlarged, "x4-upscaler-ema.safetensors")])  # fmt: skip
def test_a_folder_gives_what_its_single_file_gives(comfyui, folders, graph, file):
    found = []
    for name in (file, FOLDERS[f"checkpoints/{file}"]):
        comfyui.clear()
        nodes = {k: {"class_type": kind, "inputs": i} for k, (kind, i) in graph(name).items()}
        found.append(latents(comfyui, comfyui.filled(nodes), within=3600))
    for key in ("61", "63"):
        assert distance(found[1][key], found[0][key]) <= SAME
