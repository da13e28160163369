"""Workflows of networks made for video give the same latents in ComfyUI's executor and without
ComfyUI, with toys in place of their files; see inside_video_workflows.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import video_network_toys as toys
from inside_process import found_inside
from safetensors.torch import load_file
from videoldm.core import families
from videoldm.core.graph.api_format import graph_from_api
from videoldm.core.graph.execute import Executor
from videoldm.core.media.files import open_video
from videoldm.nodes import node_registry
from videoldm.nodes.host import host

SAME = 3e-4
"""Relative to the norm: two versions of torch round differently, and random weights amplify it."""


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """The errors and files of every workflow in ComfyUI."""
    return found_inside(
        "inside_video_workflows.py", tmp_path_factory.mktemp("comfyui"), *toys.NETWORKS, fresh=True
    )


@pytest.fixture
def headless(tmp_path, monkeypatch):
    """headless(name) runs a workflow without ComfyUI and returns the files written."""
    for folder in ("input", "output", "models/videoldm"):
        (tmp_path / folder).mkdir(parents=True)
    before = host.folders, host.policy, host.embed_metadata
    host.configure(models=[tmp_path / "models"], input=tmp_path / "input",
                   output=tmp_path / "output", device="cpu")  # fmt: skip

    def run(name: str) -> list[Path]:
        found = name, toys.parts(name)
        monkeypatch.setattr(families, "load_video_parts", lambda path, hints, **where: found)
        (tmp_path / "models" / "videoldm" / toys.model_file(name)).write_bytes(b"{}")
        Executor(node_registry()).run(graph_from_api(toys.small_prompt(name)))
        return sorted(tmp_path.joinpath("output").rglob("*.*"))

    yield run
    host.folders, host.policy, host.embed_metadata = before


def latents(files: list) -> dict[str, torch.Tensor]:
    """The saved latents by the prefixes of their files."""
    saved = [file for file in map(Path, files) if file.suffix == ".latent"]
    return {file.name.partition("_")[0]: load_file(file)["latent_tensor"].float() for file in saved}


@pytest.mark.parametrize("name", toys.NETWORKS)
def test_both_hosts_give_the_same_latents_and_a_video(inside, headless, name):
    assert inside[name]["faults"] == []
    (video,) = (file for file in inside[name]["files"] if file.endswith(".mp4"))
    info = open_video(Path(video))
    assert (info.frames, info.width, info.height) == (toys.FRAMES, toys.SIDE, toys.SIDE)
    found = latents(headless(name)), latents(inside[name]["files"])
    for kind in ("toy", "rolling"):
        ours, theirs = (one[kind] for one in found)
        assert ours.shape == theirs.shape == (1, 4, toys.FRAMES, toys.SIDE // 8, toys.SIDE // 8)
        assert (ours - theirs).norm() < SAME * ours.norm()
