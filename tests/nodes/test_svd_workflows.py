"""Workflows of Stable Video Diffusion and ModelScope have the published settings and run."""

from __future__ import annotations

import json
from pathlib import Path

import lavie_toys
import modelscope_toys
import pytest
import svd_toys
from videoldm.core.graph.ui_format import convert
from videoldm.core.media.files import open_video
from videoldm.nodes import node_registry
from videoldm.nodes.headless import main

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SVD, LONG, TEXT = "image_to_video_svd", "svd_long", "modelscope_text_to_video"
DEFLICKER = "deflicker_any_sd_latent"
FILES = {"svd_xt.safetensors": "checkpoints", "text2video_pytorch_model.pth": "videoldm",
         "v2-1_512-ema-pruned.safetensors": "checkpoints"}  # fmt: skip
SMALL = ["3.width=32", "3.height=16", "5.width=32", "5.height=16", "5.steps=2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    svd_toys.write_single(folder / "checkpoints", "svd_xt.safetensors")
    modelscope_toys.write(folder / "videoldm" / "ms.safetensors", text=lavie_toys.TEXT)
    lavie_toys.write_image_models(folder)
    return folder


def run(models, tmp_path, name, settings):
    chosen = [part for one in settings for part in ("--set", one)]
    code = main(["run", str(WORKFLOWS / f"{name}.json"), "--models", str(models), "--output",
                 str(tmp_path), "--device", "cpu", "--quiet", *chosen])  # fmt: skip
    assert code == 0
    (path,) = tmp_path.rglob("*.mp4")
    video = open_video(path)
    return video.frames, video.width, video.height, float(video.frame_rate)


@pytest.mark.parametrize("name, settings, expected", [
    (SVD, [*SMALL, "5.frames=4"], (4, 32, 16, 7)),
    (LONG, [*SMALL, "5.frames=7", "5.strategy.window=4", "6.chunk=4", "6.overlap=2"],
     (7, 32, 16, 7)),
    (TEXT, ["1.model=" + lavie_toys.SD, "2.model=ms.safetensors", "5.width=32", "5.height=16",
            "5.frames=3", "5.steps=2"], (3, 32, 16, 8)),
    (DEFLICKER, ["1.count=5", "1.width=32", "1.height=16", "4.chunk=4", "4.overlap=2"],
     (5, 32, 16, 15)),
])  # fmt: skip
def test_it_runs_headless(models, tmp_path, name, settings, expected):
    assert run(models, tmp_path, name, settings) == expected


@pytest.mark.parametrize("name", [SVD, LONG, TEXT, DEFLICKER])
def test_the_twin_is_the_workflow_and_names_published_files(name):
    ui = json.loads((WORKFLOWS / f"{name}.json").read_text())
    twin = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    converted = convert(ui, node_registry()).api
    assert converted.keys() == twin.keys()
    for key, node in twin.items():
        there = converted[key]
        assert there["class_type"] == node["class_type"]
        assert {one: there["inputs"].get(one) for one in node["inputs"]} == node["inputs"]
    assert ui["models"]
    for model in ui["models"]:
        assert model["directory"] == FILES[model["name"]]
        assert model["url"].startswith("https://huggingface.co/")
        assert model["url"].endswith(f"/resolve/main/{model['name']}")


def test_settings_are_those_of_the_originals():
    inputs = {key: node["inputs"] for key, node in twin(SVD).items()}
    sampler, start, guidance = inputs["5"], inputs["3"], inputs["4"]
    assert (sampler["frames"], sampler["steps"], sampler["cfg"]) == (25, 30, 3.0)
    assert (sampler["sampler_name"], sampler["schedule"]) == ("euler", "as published")
    assert (start["width"], start["height"], start["fps"]) == (1024, 576, 7)
    assert (start["motion"], start["augmentation"]) == (127, 0.02)
    assert guidance["min_cfg"] == 1.5 and inputs["6"]["chunk"] == 14
    text = twin(TEXT)["5"]["inputs"]
    assert (text["frames"], text["steps"], text["cfg"]) == (16, 50, 9.0)
    assert (text["sampler_name"], text["schedule"]) == ("ddim", "as published")


def twin(name):
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
