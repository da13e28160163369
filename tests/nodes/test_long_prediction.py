"""The workflow `long_video_prediction` runs with layers as its recipe builds them, on a toy image
model; both prediction workflows name the files that their recipes write."""

from __future__ import annotations

import json
from pathlib import Path

from stable_diffusion_toys import save_folder, toy_model, toy_spec
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.media.files import open_video
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.training.recipe import load_recipe
from videoldm.core.weights.checkpoints import Header, save
from videoldm.nodes.headless import main

WORKFLOW = Path(__file__).parents[2] / "workflows" / "long_video_prediction.json"
SMALL = ["6.width=32", "6.height=16", "7.width=32", "7.height=16", "6.steps=2", "7.steps=2",
         "7.frames=9", "7.strategy.window=4"]  # fmt: skip


def test_a_start_frame_is_continued_segment_by_segment(tmp_path):
    spec = toy_spec("plain")
    (tmp_path / "checkpoints").mkdir()
    save_folder(toy_model(spec), tmp_path / "checkpoints" / "toy")
    table = load_recipe("sd15_prediction").model | {"norm_groups": 4, "context_channels": 4}
    layers = TemporalLayers(spec_from_table(spec.layout, **table))
    header = Header(family="embedded", kind="temporal_layers", config=layers.spec.as_dict())
    save(tmp_path / "videoldm" / "sd15_prediction.safetensors", layers.state_dict(), header)
    chosen = [part for one in ["1.model=toy", *SMALL] for part in ("--set", one)]
    code = main(["run", str(WORKFLOW), "--models", str(tmp_path), "--output",
                 str(tmp_path / "out"), "--device", "cpu", "--quiet", *chosen])  # fmt: skip
    assert code == 0
    (path,) = (tmp_path / "out").rglob("*.mp4")
    video = open_video(path)
    assert (video.frames, video.width, video.height) == (9, 32, 16)


def test_driving_names_the_files_that_its_recipes_write():
    file = WORKFLOW.parent / "api" / "driving_simulation_512x1024.json"
    inputs = {key: node["inputs"] for key, node in json.loads(file.read_text()).items()}
    image, layers = (load_recipe(f"driving_{one}") for one in ("image_model", "prediction"))
    assert (inputs["1"]["model"], inputs["2"]["layers"]) == (image.output, layers.output)
    sizes = [inputs["11"]["height"], inputs["11"]["width"]]
    assert sizes == image.data["clips"]["size"] == layers.data["size"] == [512 // 4, 1024 // 4]


def test_it_names_the_file_that_the_recipe_writes():
    prompt = json.loads((WORKFLOW.parent / "api" / WORKFLOW.name).read_text())
    assert prompt["2"]["inputs"]["layers"] == load_recipe("sd15_prediction").output
    frames = load_recipe("sd15_prediction").data["frames"]
    assert prompt["7"]["inputs"]["strategy.window"] == frames
    size = load_recipe("sd15_prediction").data["size"]
    assert [prompt["7"]["inputs"][side] for side in ("height", "width")] == size
