"""Each shipped workflow gives the same frames in ComfyUI as in `videoldm run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from templates import TEMPLATES, is_embedded, twin
from videoldm.core.families.embedded import loading as embedded

# The toy family only stands in for the embedded one; other models have their own tests.
WORKFLOWS = [file for file in TEMPLATES if is_embedded(twin(file))]
TOYS = {
    "VideoLDM_LoadImageModel": ("model", "toy/image_model.safetensors"),
    "VideoLDM_LoadUpsampler": ("upsampler", "toy/upsampler.safetensors"),
    "VideoLDM_LoadTemporalVAE": ("vae", "toy/temporal_decoder.safetensors"),
}
FRAMES = 192
"""The most frames of a video here, enough for every step of each strategy."""
SIDE = 32
"""Height and width of frames before upsampling: 8 latent positions of the toy."""
MOST, MEAN = 2, 0.1
"""The largest difference of two frames, and the mean difference of all, of 255."""


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_gives_the_same_frames_in_both_hosts(comfyui, headless, file):
    prompt = with_toys(twin(file))
    check_same(comfyui, headless, prompt)


@pytest.mark.slow
@pytest.mark.full_size
@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_the_embedded_models_give_the_same_frames_in_both_hosts(comfyui, headless, file):
    prompt = lossless(twin(file))
    absent = [path.name for path in needed(prompt) if not path.exists()]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not there")
    check_same(comfyui, headless, prompt)


def check_same(comfyui, headless, prompt, *, within: float = 600.0):
    """Both hosts give the same frames; within: seconds on an idle machine."""
    history = comfyui.run(prompt, within=within * max(1.0, comfyui.load))
    there = [read(path) for path in comfyui.files(history) if path.suffix == ".png"]
    comfyui.clear()  # frees memory for the models of the other host
    here = [read(one) for path in headless(prompt) for one in pngs(path)]
    assert len(there) == len(here) > 0
    distances = [np.abs(a.astype(int) - b) for a, b in zip(there, here, strict=True)]
    most, mean = max(d.max() for d in distances), np.mean([d.mean() for d in distances])
    print(f"{len(here)} frames, max {most}, mean {mean:.5f} of 255")
    assert max(frame.std() for frame in here) > 1, "a plain colour would always agree"
    assert most <= MOST
    assert mean <= MEAN


def with_toys(prompt: dict) -> dict:
    """The workflow with the toy family, small frames, at most `FRAMES` of them, and few steps."""
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] in TOYS:
            name, file = TOYS[node["class_type"]]
            inputs[name] = file
        if node["class_type"] == "VideoLDM_LoadTemporalLayers":
            part = inputs["layers"].partition(": ")[2]
            inputs["layers"] = f"toy/{part.replace(' ', '_')}.safetensors"
        if "steps" in inputs:
            inputs["steps"] = 2
        if isinstance(inputs.get("width"), int):
            inputs |= {"width": SIDE, "height": SIDE}
        if isinstance(inputs.get("frames"), int):
            inputs["frames"] = min(inputs["frames"], FRAMES)
        if inputs.get("strategy") == "rolling":  # which needs a step for each frame of its window
            inputs["strategy.window"] = inputs["steps"]
    return lossless(prompt)


def lossless(prompt: dict) -> dict:
    """The workflow with its videos saved as images."""
    for node in prompt.values():
        if node["class_type"] == "VideoLDM_SaveVideo":
            node["inputs"]["format"] = "png"
    return prompt


def needed(prompt: dict) -> list[Path]:
    """The embedded files that a workflow loads."""
    kinds = {
        "VideoLDM_LoadImageModel": ("image_model", "autoencoder"),
        "VideoLDM_LoadUpsampler": ("upsampler", "image_model", "autoencoder"),
        "VideoLDM_LoadTemporalVAE": ("temporal_decoder", "autoencoder"),
    }
    names = [name for node in prompt.values() for name in kinds.get(node["class_type"], ())]
    layers = [node["inputs"]["layers"] for node in prompt.values()
              if node["class_type"] == "VideoLDM_LoadTemporalLayers"]  # fmt: skip
    names += [one.partition(": ")[2].replace(" ", "_") for one in layers]
    return [embedded.path_of(name) for name in sorted(set(names))]


def pngs(path: Path) -> list[Path]:
    return sorted(path.glob("*.png")) if path.is_dir() else [path]


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))
