"""AnimateDiff's workflows run without ComfyUI, at toy size."""

from __future__ import annotations

import pytest
from animatediff_flows import FLOWS, control_config, toy_flow, write_toys
from diffusers import ControlNetModel
from model_toys import fill
from safetensors.torch import save_file
from videoldm.core.families.embedded.included import NAME
from videoldm.core.graph.api_format import graph_from_api
from videoldm.core.graph.execute import Executor
from videoldm.core.media.files import open_video
from videoldm.nodes import node_registry

FRAMES = {"animatediff_long": (10, 32), "animatediff_high_resolution": (4, 48)}


@pytest.mark.parametrize("name", FLOWS)
def test_it_runs_headless(toys, tmp_path, name):
    write_toys(tmp_path / "models")
    net = fill(ControlNetModel(**control_config()), 5)
    save_file(net.state_dict(), tmp_path / "models" / "controlnet" / "toy.safetensors")
    prompt = toy_flow(name, NAME)
    for node in prompt.values():
        if node["class_type"] == "ControlNetLoader":
            node["inputs"]["control_net_name"] = "toy.safetensors"
    Executor(node_registry()).run(graph_from_api(prompt))
    (file,) = (tmp_path / "output").rglob("*.mp4")
    video, (frames, side) = open_video(file), FRAMES.get(name, (4, 32))
    assert (video.frames, video.width, video.height) == (frames, side, side)
