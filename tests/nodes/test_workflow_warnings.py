"""`videoldm validate` gives the warnings that a run would give, without loading any weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from node_inputs import strategy
from safetensors.torch import save_file
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.graph import graph_from_api, load_workflow
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.weights.checkpoints import Header, save
from videoldm.nodes import node_registry
from videoldm.nodes.command.workflow_warnings import workflow_warnings
from videoldm.nodes.headless import main
from videoldm.nodes.host.standalone.host import StandaloneHost

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
REGISTRY = node_registry()


def graph(layers: str | None = "embedded: text to video", **inputs) -> dict:
    """An API workflow: the embedded model, layers, a LoRA, the sampler and Save Video."""
    wires = {"positive": ["4", 0], "negative": ["4", 0], "model": ["7", 0]}
    nodes = {
        "1": ("VideoLDM_LoadImageModel", {"model": "embedded"}),
        "2": ("VideoLDM_LoadTemporalLayers", {"layers": layers}),
        "3": ("VideoLDM_InjectTemporalLayers", {"model": ["1", 0], "layers": ["2", 0]}),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a red circle"}),
        "5": ("VideoLDM_VideoSampler", {**wires, **inputs}),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        "7": ("LoraLoaderModelOnly", {"model": ["3" if layers else "1", 0], "lora_name": "a"}),
        "8": ("VideoLDM_SaveVideo", {"images": ["6", 0]}),
    }
    nodes = {key: one for key, one in nodes.items() if layers or key not in "23"}
    return {key: {"class_type": kind, "inputs": _filled(kind, given)}
            for key, (kind, given) in nodes.items()}  # fmt: skip


def _filled(kind: str, given: dict) -> dict:
    live = REGISTRY[kind].live_inputs(given)
    return {name: one.initial() for name, one in live.items()
            if one.required and one.kind == "widget"} | given  # fmt: skip


def said(api: dict, *models) -> list[tuple[str, str]]:
    host = StandaloneHost()
    host.configure(models=models)
    return workflow_warnings(graph_from_api(api), REGISTRY, host)


@pytest.mark.parametrize("file", sorted(WORKFLOWS.rglob("*.json")), ids=lambda one: one.stem)
def test_nothing_is_said_of_the_workflows_that_come_along(file):
    host = StandaloneHost()
    host.configure()
    assert workflow_warnings(load_workflow(str(file), REGISTRY), REGISTRY, host) == []


def test_a_model_without_layers_is_seen_through_loaders_of_loras():
    ((node, text),) = said(graph(layers=None))
    assert node == "5" and text.startswith("node 5 (VideoLDM_VideoSampler): the model has no")
    assert said(graph()) == [] == said(graph(layers=None, frames=1))
    api = graph()
    api["9"] = {"class_type": "VideoLDM_EjectTemporalLayers", "inputs": {"model": ["7", 0]}}
    api["5"]["inputs"]["model"] = ["9", 0]
    assert "no temporal layers" in said(api)[0][1]


@pytest.mark.parametrize(("layers", "inputs", "words"), [
    ("embedded: interpolation", {}, "trained for filling in frames between others"),
    ("embedded: text to video", {"frames": 40, **strategy("prediction")}, "continuing given"),
    ("embedded: text to video", {"frames": 64}, "64 frames are sampled together"),
    ("embedded: prediction", {"frames": 90, **strategy("prediction", window=32)}, "window to"),
])  # fmt: skip
def test_embedded_layers_are_held_against_what_they_are_used_for(layers, inputs, words):
    ((_, text),) = said(graph(layers, **inputs))
    assert words in text


def test_values_that_come_over_wires_are_not_guessed():
    assert said(graph(frames=["1", 0], strategy=["1", 0])) == []


def test_files_tell_by_their_headers_new_and_old_ones(tmp_path):
    layout = UNetLayout(channels=(64, 128, 160), layers=1, depths=(0, 1, 0), mid_depth=1)
    folder = tmp_path / "videoldm"
    new = spec_from_table(layout, task="interpolation", trained_frames=8).as_dict()
    old = json.loads(json.dumps({"layout": vars(layout), "trained_frames": 8}))
    for name, config, notes in (
        ("new", new, {}), ("old", old, {"recipe": "interpolation"}), ("plain", old, {}),
    ):  # fmt: skip
        header = Header(family="embedded", kind="temporal_layers", config=config, notes=notes)
        save(folder / f"{name}.safetensors", {"a": torch.zeros(1)}, header)
    for name in ("new", "old"):
        task, frames = (text for _, text in said(graph(f"{name}.safetensors"), tmp_path))
        assert "(interpolation)" in task and "trained on 8 frames" in frames
    ((_, text),) = said(graph("plain.safetensors"), tmp_path)
    assert "trained on 8 frames" in text
    (folder / "broken.safetensors").write_bytes(b"no such thing")
    assert said(graph("broken.safetensors"), tmp_path) == [] == said(graph("gone.pt"), tmp_path)


def test_a_clip_of_another_family_is_seen_through_prompts_and_loras(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, folder / "sd15.safetensors")
    header = Header(family="embedded", kind="image_model", config={})
    save(folder / "own.safetensors", {"a": torch.zeros(1)}, header)

    def encoded_by(file: str, model: str = "embedded") -> list[str]:
        api = graph()
        api["1"]["inputs"]["model"] = model
        loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": file}}
        api |= {
            "10": loader,
            "11": {
                "class_type": "CLIPSetLastLayer",
                "inputs": {"clip": ["10", 1], "stop_at_clip_layer": -2},
            },
        }
        api["12"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["11", 0], "text": ""}}
        api["5"]["inputs"]["negative"] = ["12", 0]
        return [text for _, text in said(api, tmp_path)]

    (text,) = encoded_by("sd15.safetensors")
    assert "the negative prompt is encoded by the CLIP of sd15.safetensors, but the model" in text
    assert text.endswith("is embedded: connect the CLIP that was loaded with the model")
    assert encoded_by("own.safetensors") == [], "it may be a copy of the embedded one"
    assert encoded_by("gone.safetensors") == []
    assert encoded_by("sd15.safetensors", model="sd15.safetensors") == []


def test_a_long_chain_of_nodes_is_walked(tmp_path):
    api = graph(layers=None)
    before = "7"
    for number in range(100, 3100):
        inputs = {"model": [before, 0], "lora_name": "a"}
        api[str(number)] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        before = str(number)
    api["5"]["inputs"]["model"] = [before, 0]
    assert "no temporal layers" in said(api)[0][1]
    api["7"]["inputs"]["model"] = [before, 0]
    assert said(api) == [], "a cycle is for others to tell"


def test_it_is_printed_and_the_workflow_stays_valid(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api = graph(layers=None)
    api["5"]["inputs"]["model"] = ["1", 0]
    del api["7"]
    Path("w.json").write_text(json.dumps(api))
    assert main(["validate", "w.json"]) == 0
    out, err = capsys.readouterr()
    assert out == "w.json: ok (5 nodes)\n"
    assert err.startswith("w.json: warning: node 5 (VideoLDM_VideoSampler): the model has no")
    assert main(["validate", "w.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] and [one["node_id"] for one in found["warnings"]] == ["5"]


def test_it_takes_no_torch(tmp_path):
    shutil.copy(WORKFLOWS / "api" / "text_to_video.json", tmp_path / "w.json")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from videoldm.nodes.headless import main; sys.exit(main(['validate', 'w.json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert embedded.path_of("text_to_video").is_file() and done.stderr == ""
