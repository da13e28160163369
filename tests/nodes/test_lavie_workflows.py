"""LaVie's workflows: four options in one file, the published settings, and runs at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import lavie_toys as toys
import pytest
from videoldm.core.families.lavie_sampling import PUBLISHED
from videoldm.core.graph.ui_format import convert
from videoldm.core.media.files import open_video
from videoldm.nodes import node_registry
from videoldm.nodes.headless import main

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = ("lavie_text_to_video", "lavie_as_published")
FILES = {"checkpoints": ("sd-v1-4.ckpt", "x4-upscaler-ema.safetensors"),
         "videoldm": tuple(toys.FILES.values())}  # fmt: skip
MUTED, BYPASSED = 2, 4
INTERPOLATION, SUPER_RESOLUTION = "Interpolation", "Super-resolution"
OPTIONS = {
    "lavie_text_to_video_option_1": {INTERPOLATION: BYPASSED, SUPER_RESOLUTION: MUTED},
    "lavie_text_to_video_option_2": {SUPER_RESOLUTION: MUTED},
    "lavie_text_to_video_option_3": {INTERPOLATION: BYPASSED},
    "lavie_text_to_video": {},
}


def read(name):
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def switched(ui, modes):
    """The workflow with groups, given by the start of their titles, bypassed or muted."""
    for group in ui["groups"]:
        mode = next((m for begin, m in modes.items() if group["title"].startswith(begin)), 0)
        x, y, width, height = group["bounding"]
        for node in ui["nodes"]:
            left, top = node["pos"]
            if x <= left < x + width and y <= top < y + height:
                node["mode"] = mode
    if INTERPOLATION in modes:
        next(n for n in ui["nodes"] if n["title"] == "Frame rate")["widgets_values_named"] = {
            "value": 8.0
        }
    return ui


def check_same(converted, twin):
    """Inputs that nodes have gained since the API twin was written have their defaults."""
    assert converted.keys() == twin.keys()
    registry = node_registry()
    for key, node in twin.items():
        there = converted[key]
        assert (there["class_type"], there["_meta"]) == (node["class_type"], node["_meta"])
        kept = {name: there["inputs"].get(name) for name in node["inputs"]}
        assert kept == node["inputs"], key
        live = registry[node["class_type"]].live_inputs(there["inputs"])
        defaults = {name: one.initial() for name, one in live.items()}
        gained = there["inputs"].keys() - node["inputs"].keys()
        assert all(there["inputs"][name] == defaults[name] for name in gained)


def values(name):
    """The inputs of each node, by its title."""
    return {node["_meta"]["title"]: node["inputs"] for node in read(f"api/{name}").values()}


@pytest.mark.parametrize("option", OPTIONS)
def test_switching_groups_gives_the_option(option):
    ui = switched(read("lavie_text_to_video"), OPTIONS[option])
    check_same(convert(ui, node_registry()).api, read(f"api/{option}"))


def test_the_published_twin_is_the_workflow():
    ui = read("lavie_as_published")
    check_same(convert(ui, node_registry()).api, read("api/lavie_as_published"))
    assert [n["type"] for n in ui["nodes"]].count("MarkdownNote") == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind, title, negative", [
    ("base", "Text to video", "Negative prompt"),
    ("interpolation", "Interpolate: 16 to 61 frames", "Interpolation negative prompt"),
    ("vsr", "Super-resolution x4", "Super-resolution negative prompt"),
])  # fmt: skip
def test_settings_are_those_of_the_scripts(name, kind, title, negative):
    found, published = values(name), PUBLISHED[kind]
    inputs = found[title]
    sampler = "ddim" if published.method == "respaced_ddim" else published.method
    assert inputs["schedule"] == "as published" and inputs["sampler_name"] == sampler
    assert (inputs["steps"], inputs["cfg"]) == (published.steps, published.scale)
    assert found[negative]["text"] == published.negative
    if published.seed is not None:
        assert inputs["seed"] == published.seed
    if kind == "base":
        assert (inputs["frames"], inputs["width"], inputs["height"]) == (16, 512, 320)
    if kind == "interpolation":
        assert not inputs["keep_keys"] and found["Frame rate"]["value"] == published.fps
    if kind == "vsr":
        assert inputs["noise_level"] == published.noise_level and inputs["chunk"] == 8


def test_only_the_borders_and_the_prompts_differ():
    blended, published = (values(name) for name in NAMES)
    differing = {
        (title, key) for title, inputs in blended.items() for key, value in inputs.items()
        if published[title][key] != value
    }  # fmt: skip
    upsampler = "Super-resolution x4"
    assert differing == {
        (upsampler, "borders"), (upsampler, "overlap"), ("Interpolation prompt", "text"),
        ("Super-resolution prompt", "text"),
    }  # fmt: skip
    assert published[upsampler]["borders"] == "independent"
    assert " " not in published["Super-resolution prompt"]["text"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    toys.write_lavie(folder)
    toys.write_image_models(folder)
    for kind, names in FILES.items():
        for name in names:
            (folder / kind / name).touch()
    return folder


def test_the_files_are_found_by_their_published_names(models, capsys):
    files = [str(WORKFLOWS / f"{name}.json") for name in (*NAMES, *(f"api/{o}" for o in OPTIONS))]
    assert main(["validate", "--models", str(models), *files]) == 0
    empty = models / "empty"
    empty.mkdir()
    assert main(["validate", "--models", str(empty), files[0]]) != 0
    assert "lavie_base.pt" in capsys.readouterr().err


SMALL = [
    "1.model=" + toys.SD, "5.width=32", "5.height=16", "5.frames=3", "5.steps=2",
]  # fmt: skip
INTERPOLATED = ["9.steps=1"]
UPSAMPLED = ["13.upsampler=" + toys.UPSCALER, "17.steps=1", "17.chunk=3", "17.overlap=0"]


@pytest.mark.parametrize("name, settings, expected", [
    ("api/lavie_text_to_video_option_1", SMALL, {"lavie": (3, 32, 16)}),
    ("api/lavie_text_to_video_option_3", SMALL + UPSAMPLED,
     {"lavie": (3, 32, 16), "lavie_x4": (3, 128, 64)}),
    ("lavie_text_to_video", SMALL + INTERPOLATED + UPSAMPLED,
     {"lavie": (9, 32, 16), "lavie_x4": (9, 128, 64)}),
])  # fmt: skip
def test_it_runs_headless(name, settings, expected, models, tmp_path):
    chosen = [part for one in settings for part in ("--set", one)]
    code = main(["run", str(WORKFLOWS / f"{name}.json"), "--models", str(models), "--output",
                 str(tmp_path), "--device", "cpu", "--quiet", *chosen])  # fmt: skip
    assert code == 0
    found = {path.name.rpartition("_00001_")[0]: path for path in tmp_path.rglob("*.mp4")}
    assert found.keys() == expected.keys()
    for prefix, (frames, width, height) in expected.items():
        video = open_video(found[prefix])
        assert (video.frames, video.width, video.height) == (frames, width, height)
