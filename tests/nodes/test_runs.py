"""Cached chunks of workflows: what a change recomputes, and `videoldm runs`."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
from kill.flows import flows, segmented
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from videoldm.core.families.embedded import included
from videoldm.core.tasks.gathering import Gathering
from videoldm.core.tasks.kept_runs import OUTPUTS
from videoldm.nodes.host.shared import arriving
from videoldm.nodes.host.shared.runs_folder import runs_limit
from videoldm.nodes.stages import running

SEGMENTS = [("a red circle", 1), ("a blue square", 2), ("a red car", 3), ("a blue car", 4)]


def changed(flow, node_id, **inputs):
    flow = copy.deepcopy(flow)
    flow[node_id]["inputs"] |= inputs
    return flow


SAMPLER, DECODE = "VideoSampler", "TemporalVAEDecodeToVideo"


def test_what_lies_downstream_of_a_change_is_made_again_and_nothing_else(runs):
    flow = flows()["prediction"]
    first = runs(flow)
    assert first == {SAMPLER: 6, DECODE: 5}
    assert runs(flow) == {}
    assert runs(changed(flow, "9", quality=30, filename_prefix="other")) == {}
    assert runs(changed(flow, "8", chunk=8)) == {DECODE: 3}
    assert runs(changed(flow, "8", frame_rate=12.0)) == {}
    assert runs(changed(flow, "7", steps=2)) == first
    assert runs(changed(flow, "21", layers="embedded: interpolation")) == first
    assert runs(flow) == {}


def test_a_longer_video_takes_what_there_is(runs):
    flow = flows()["prediction"]
    runs(flow)
    assert runs(changed(flow, "7", frames=25))[SAMPLER] == 2


def test_weights_that_were_replaced_count_by_their_contents(runs, toy_family, monkeypatch):
    folder, flow = runs.folder / "weights", flows()["single clip"]
    shutil.copytree(toy_family, folder)
    made = runs(flow)
    monkeypatch.setattr(included, "WEIGHTS", folder)
    assert runs(flow) == {}
    weights = folder / "text_to_video.safetensors"
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    save_file({key: one + 0.01 for key, one in load_file(weights).items()}, weights, metadata)
    assert runs(flow) == made


@pytest.mark.parametrize(("other", "made"), [(("a red car", 5), 7), (("a green star", 3), 4)])
def test_one_segment_again_takes_what_does_not_depend_on_it(runs, other, made):
    """36 frames are made in 12 segments of 4 that overlap by 1, and 7 of them see frame 18 or
    continue one that does. If only the prompt of frames 18 to 26 changes, the toy model makes the
    same frames as before from it, so that only the 4 segments that see it are recomputed."""
    changed = [*SEGMENTS[:2], other, SEGMENTS[3]]
    assert runs(segmented(*SEGMENTS))[SAMPLER] == 12
    assert runs(segmented(*changed))[SAMPLER] == made
    partly = runs.video()
    assert runs(segmented(*SEGMENTS)) == {}
    shutil.rmtree(runs.store)
    runs(segmented(*changed))
    assert runs.video() == partly


def test_key_frames_and_windows_that_do_not_see_a_segment_stay(runs):
    flow = flows()["hierarchical"]
    first, again = (
        flow | {"30": segmented(*SEGMENTS[:3], last, frames=10)["30"]}
        for last in (SEGMENTS[3], ("a green star", 4))
    )
    flow["7"]["inputs"]["positive"] = ["30", 0]
    whole = runs(first)
    assert 0 < runs(again)[SAMPLER] < 0.5 * whole[SAMPLER]


def test_a_video_that_is_upsampled_chunk_by_chunk_is_taken_chunk_by_chunk(runs):
    """20 frames: 5 chunks of 6 that overlap by 2, decoded 6 at a time by the same node."""
    flow = flows()["upsampling, video"]
    assert runs(flow) == {"UpsampleVideo": 5 + 4}
    first = runs.video()
    assert runs(flow) == {} and runs.video() == first
    assert runs(changed(flow, "5", count=14)) == {"UpsampleVideo": 1}  # the last chunk
    assert runs(changed(flow, "6", seed=8)) == {"UpsampleVideo": 5 + 4}


def test_frames_that_are_decoded_into_memory_are_kept_as_well(runs):
    flow = flows()["images"]
    assert runs(flow) == {SAMPLER: 1, "TemporalVAEDecode": 3}
    first = runs.video()
    assert runs(flow) == {} and runs.video() == first
    assert runs(changed(flow, "8", chunk=6)) == {"TemporalVAEDecode": 2}


def test_a_store_that_is_switched_off_keeps_nothing(runs, monkeypatch):
    monkeypatch.setenv("VIDEOLDM_RUNS", "off")
    assert runs(flows()["single clip"]) == {}
    assert not runs.store.exists()
    monkeypatch.setenv("VIDEOLDM_RUNS", "2.5")
    assert runs_limit() == 2.5e9
    monkeypatch.setenv("VIDEOLDM_RUNS", "much")
    assert runs(flows()["single clip"], code=1) == {}
    assert "VIDEOLDM_RUNS 'much' must be off or a number of GB" in runs.result["error"]["message"]


def test_a_disk_that_cannot_be_written_to_is_told_and_the_video_made(runs, monkeypatch):
    runs(flows()["single clip"])
    expected = runs.video()
    for path in runs.store.glob("*/*.safetensors"):
        path.unlink()

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("videoldm.core.tasks.chunk_files.save_file", full)
    runs(flows()["single clip"])
    assert runs.video() == expected
    told = [text for texts in runs.result["warnings"].values() for text in texts]
    assert sum("no space left on device" in text for text in told) == 2  # two nodes


def test_long_latents_are_mapped_and_the_same(runs, monkeypatch):
    runs(flows()["prediction"])
    expected, videos = runs.video(), []

    def noted(*args, **more):
        videos.append(Gathering(*args, **more))
        return videos[-1]

    monkeypatch.setattr(running, "Gathering", noted)
    monkeypatch.setattr(running, "HELD", 1000)
    monkeypatch.setattr(arriving, "PART", 4)
    shutil.rmtree(runs.store / OUTPUTS)
    runs(flows()["prediction"])
    assert runs.video() == expected
    assert [(one.is_mapped, one.frames) for one in videos] == [(True, 19)]


def test_the_command_lists_and_removes_runs(runs):
    assert runs.command().out.startswith("0 runs, 0.00 GB of 50 GB in ")
    runs(flows()["single clip"])
    lines = runs.command().out.splitlines()
    assert lines[0].startswith("2 runs, 0.00 GB of 50 GB in ")
    assert "in     1 chunk   VideoLDM_VideoSampler (frames 8, width 16" in "\n".join(lines)
    told = json.loads(runs.command("--json").out)
    sampler = next(one for one in told["runs"] if one["about"]["node"].endswith("Sampler"))
    runs.command("--remove", sampler["key"][:8])
    assert len(json.loads(runs.command("--json").out)["runs"]) == 1
    assert "no run in" in runs.command("--remove", sampler["key"], code=3).err
    assert "--older -1 must be 0 or more" in runs.command("--older", "-1", code=2).err
    runs.command("--older", "1")
    assert len(json.loads(runs.command("--json").out)["runs"]) == 1
    runs.command("--keep", "0")
    assert json.loads(runs.command("--json").out)["runs"] == []
