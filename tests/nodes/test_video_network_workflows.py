"""The workflows of networks made for video run without ComfyUI, with toys as the networks."""

from __future__ import annotations

import pytest
from video_network_toys import FRAMES, NETWORKS, SIDE, model_file, parts, small_prompt
from videoldm.core import families
from videoldm.core.graph.api_format import graph_from_api
from videoldm.core.graph.execute import Executor
from videoldm.core.media.files import open_video
from videoldm.nodes import node_registry


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_headless(toys, tmp_path, monkeypatch, name):
    found = name, parts(name)
    monkeypatch.setattr(families, "load_video_parts", lambda path, hints, **where: found)
    (tmp_path / "models" / "videoldm").mkdir(parents=True)
    (tmp_path / "models" / "videoldm" / model_file(name)).write_bytes(b"{}")
    Executor(node_registry()).run(graph_from_api(small_prompt(name)))
    (file,) = (tmp_path / "output").rglob("*.mp4")
    video = open_video(file)
    assert (video.frames, video.width, video.height) == (FRAMES, SIDE, SIDE)
