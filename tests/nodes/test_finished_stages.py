"""A stage whose output is stored as a whole loads nothing and returns the same output again."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from kill.flows import flows
from PIL import Image
from videoldm.core.graph.schema import NodeSpec, OutputSpec
from videoldm.core.media.files import VideoStream
from videoldm.core.tasks import stage_outputs
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.kept_runs import OUTPUT, OUTPUTS
from videoldm.core.tasks.stage_outputs import StageOutput
from videoldm.nodes.host.shared import finished_stages
from videoldm.nodes.host.shared.file_hashes import FileHashes
from videoldm.nodes.host.standalone.host import StandaloneHost

FLOWS = flows()


@pytest.fixture
def loaded(monkeypatch):
    """A list with one entry for each access to the loaders."""
    seen, loaders = [], StandaloneHost.loaders.fget
    noted = property(lambda host: seen.append("loaded") or loaders(host))
    monkeypatch.setattr(StandaloneHost, "loaders", noted)
    return seen


@pytest.mark.parametrize("name", FLOWS)
def test_a_finished_workflow_loads_nothing(runs, loaded, name):
    flow = FLOWS[name]
    assert runs(flow) and loaded
    first = runs.video()
    loaded.clear()
    assert runs(flow) == {} and not loaded
    assert runs.video() == first


def test_a_stage_behind_a_finished_one_is_given_the_same_latents(runs, monkeypatch):
    """The latents are stored in several files."""
    monkeypatch.setattr(stage_outputs, "HELD", 1000)
    flow = copy.deepcopy(FLOWS["interpolation"])
    runs(flow)
    parts = list(runs.store.glob(f"*/*{OUTPUT}*"))
    assert len(parts) > 4
    flow["8"]["inputs"]["chunk"] = 8
    asked, found = [], finished_stages.finished_latent
    monkeypatch.setattr(finished_stages, "finished_latent",
                        lambda *of: asked.append(of) or found(*of))  # fmt: skip
    runs(flow)
    taken = runs.video()
    assert len(asked) == 2
    monkeypatch.setenv("VIDEOLDM_RUNS", "off")
    runs(flow)
    assert runs.video() == taken


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["prediction", "images", "upsampling, video", "upsampling, blended"]
)
@pytest.mark.parametrize("how", ["one bit of it", "removed", "its note"])
def test_what_is_damaged_is_made_again(runs, name, how):
    runs(FLOWS[name])
    expected = runs.video()
    for path in runs.store.glob("*/*.safetensors"):
        if how == "removed":
            path.unlink()
        elif how == "one bit of it":
            damage(path)
    for path in (runs.store / OUTPUTS).glob("*.json") if how == "its note" else ():
        path.write_text(path.read_text().replace('"files": ["', '"files": ["x'))
    assert bool(runs(FLOWS[name])) is (how != "its note")
    assert runs.video() == expected
    assert runs(FLOWS[name]) == {} and runs.video() == expected


def test_what_is_removed_while_the_workflow_runs_is_told(runs, monkeypatch):
    runs(FLOWS["single clip"])
    monkeypatch.setattr(StageOutput, "is_finished", lambda output, look: True)
    for path in (runs.store / OUTPUTS).glob("*.json"):
        path.unlink()
    runs(FLOWS["single clip"], code=1)
    assert "has been removed: run the workflow again" in runs.result["error"]["message"]


def test_files_that_change_while_a_stage_runs_do_not_count_as_those_it_was_made_from(
    runs, monkeypatch
):
    """Chunks computed from the old file are not reused for the new one."""
    flow, of, write = FLOWS["single clip"], FileHashes.of, ChunkStore.write
    changed = []
    monkeypatch.setattr(FileHashes, "of", lambda own, path: of(own, path) + "".join(changed))

    def change(store, path, tensors, about):
        write(store, path, tensors, about)
        if not changed and OUTPUT not in path.name:
            changed.append("changed")

    monkeypatch.setattr(ChunkStore, "write", change)
    assert "VideoSampler" in runs(flow)
    assert "VideoSampler" in runs(flow)
    assert runs(flow) == {}


def test_notes_go_with_what_they_name(runs):
    runs(FLOWS["single clip"])
    notes = list((runs.store / OUTPUTS).glob("*.json"))
    assert len(notes) == 2
    listed = json.loads(runs.command("--json").out)["runs"]
    sampler = next(one for one in listed if one["about"]["node"].endswith("Sampler"))
    runs.command("--remove", sampler["key"])
    assert len(list((runs.store / OUTPUTS).glob("*.json"))) == 1
    assert list(runs(FLOWS["single clip"])) == ["VideoSampler"]
    runs.command("--keep", "0")
    assert not (runs.store / OUTPUTS).exists()


def test_a_page_is_shown_the_same_windows_again(runs, monkeypatch):
    from videoldm.nodes.stages import shown as module

    told, show = [], module._shown
    monkeypatch.setattr(StandaloneHost, "shows_previews", True)
    monkeypatch.setattr(
        StandaloneHost,
        "thumbnails",
        lambda host, model, latent, at: [Image.new("RGB", (4, 2))] * len(at),
    )
    monkeypatch.setattr(module, "_shown", lambda *of: told.append(show(*of)) or told[-1])
    runs(FLOWS["prediction"])
    runs(FLOWS["prediction"])
    (first,), (again,) = (one["videoldm_windows"] for one in told)
    assert told[1]["text"] == ("6 of 6 chunks were finished before: nothing was made again",)
    assert again["windows"] == [[*one[:-1], True] for one in first["windows"]]
    assert again["nodes"] == first["nodes"]
    assert again["pictures"]["count"] == first["pictures"]["count"]
    (plan,), (same,) = (one["videoldm_plan"] for one in told)
    assert {**plan, "filename": ""} == {**same, "filename": ""}


def test_lists_and_unknown_nodes_leave_every_input_asked_for(runs, monkeypatch):
    from videoldm.nodes import node_registry
    from videoldm.nodes.host.standalone import running

    spec = NodeSpec(id="Lists", outputs=(OutputSpec(name="x", type="INT", is_list=True),))

    class Call:
        registry = {**node_registry(), "Lists": spec}

    assert not running._is_plain(Call, {"class_type": "Lists"})
    assert not running._is_plain(Call, {"class_type": "Unknown"})
    assert running._is_plain(Call, {"class_type": "CLIPTextEncode"})
    runs(FLOWS["single clip"])
    monkeypatch.setattr(
        running, "_is_plain", lambda call, node: node["class_type"] != "CLIPTextEncode"
    )
    monkeypatch.setattr(StageOutput, "is_finished", None)
    assert runs(FLOWS["single clip"]) == {}


def test_a_finished_workflow_does_without_the_libraries_of_networks(runs):
    runs(FLOWS["prediction"])
    program = (
        "import sys\n"
        "from videoldm.core.families.embedded import included\n"
        "from pathlib import Path\n"
        "included.WEIGHTS = Path(sys.argv[1])\n"
        "from videoldm.nodes.headless import main\n"
        "assert main(['run', *sys.argv[2:], '--quiet', '--device', 'cpu']) == 0\n"
        "assert not {'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    from videoldm.core.families.embedded import included

    flow, output = runs.folder / "flow.json", runs.folder / "output"
    command = [sys.executable, "-c", program, str(included.WEIGHTS), str(flow)]
    done = subprocess.run([*command, "--output", str(output), "--models", str(runs.folder)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_frames_that_were_removed_are_decoded_again_alone(runs):
    """The VAE comes with the model, although no chunk is left for the model to compute."""
    flow = FLOWS["upsampling, video"]
    runs(flow)
    expected = runs.video()
    for folder in runs.store.iterdir():
        if folder.is_dir() and not list(folder.glob(f"*{OUTPUT}*")):
            for path in folder.glob("*.safetensors"):
                path.unlink()
    assert runs(flow) == {"UpsampleVideo": 4} and runs.video() == expected


def test_inputs_that_come_for_another_stage_change_nothing(runs):
    """An unfinished sampler shares all inputs except the context with a finished one."""
    flow = copy.deepcopy(FLOWS["prediction"])
    flow["7"]["inputs"] |= {"model": ["12", 0], "context": ["6", 0]}
    del flow["7"]["inputs"]["strategy.prediction_model"]
    flow["6"] = copy.deepcopy(FLOWS["single clip"]["7"])
    runs(flow)
    other = {f"{key}0": copy.deepcopy(flow[key]) for key in ("7", "8", "9")}
    del other["70"]["inputs"]["context"]
    other["80"]["inputs"]["samples"], other["90"]["inputs"]["video"] = ["70", 0], ["80", 0]
    (finished,) = runs.result["files"]
    runs({**other, **flow})
    _, again = sorted(runs.result["files"])
    first, same = (
        torch.cat(list(VideoStream.from_file(one).chunks())) for one in (finished, again)
    )
    assert torch.equal(first, same)


def test_files_are_read_only_where_all_are_there_and_nobody_stops_it(runs, monkeypatch):
    runs(FLOWS["prediction"])
    read, whole = [], stage_outputs.is_whole
    monkeypatch.setattr(stage_outputs, "is_whole", lambda path: read.append(path) or whole(path))
    notes = [StageOutput(runs.store, one.stem) for one in (runs.store / OUTPUTS).glob("*.json")]
    output = max(notes, key=lambda one: len(one.known()["files"]))

    def stop():
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.is_finished(stop)
    assert len(read) == 2 < len(output.known()["files"])
    assert output.is_finished()
    (runs.store / output.known()["files"][-1]).unlink()
    read.clear()
    assert not output.is_finished() and not read
