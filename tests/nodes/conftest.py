"""Fixtures that run nodes on the standalone host, with the toy family as embedded models."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from node_inputs import arguments
from videoldm.core.families.embedded import included
from videoldm.nodes import node_registry
from videoldm.nodes.host import host


def pytest_terminal_summary(terminalreporter):
    if find_spec("ray") is None:
        terminalreporter.section("no Ray", red=True, bold=True)
        terminalreporter.write_line("tests of --ray were skipped: pip install videoldm[ray]")


@pytest.fixture
def configure():
    """configure(**folders) sets the standalone host's folders, and the CPU, until the test ends."""
    before = host.folders, host.policy, host.embed_metadata
    yield lambda **folders: host.configure(**folders, device="cpu")
    host.folders, host.policy, host.embed_metadata = before


@pytest.fixture
def toys(toy_family, tmp_path, monkeypatch, configure):
    """The standalone host on the CPU, with the toy family and temporary folders."""
    monkeypatch.setattr(included, "WEIGHTS", toy_family)
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
    configure(models=[tmp_path / "models"], input=tmp_path / "input", output=tmp_path / "output")
    host.round_trips.reset()
    return host


def executed(node_id, inputs):
    """The result of executing a node; inputs of a dynamic combo's options have dotted names."""
    spec = node_registry()[node_id]
    return spec.execute(**arguments(spec, inputs))


@pytest.fixture
def run(toys):
    """run(id, **inputs) executes a node with defaults for the rest; returns its only output, or the
    result if it has several."""

    def call(node_id, **inputs):
        result = executed(node_id, inputs)
        return result.values[0] if len(result.values) == 1 else result

    return call


@pytest.fixture
def run_on(configure, tmp_path):
    """run_on(models folder) returns run(id, **inputs) for the models in it, which returns a node's
    only output, or a tuple of several."""

    def call(node_id, **inputs):
        values = executed(node_id, inputs).values
        return values[0] if len(values) == 1 else values

    def on(models):
        configure(models=[models], input=tmp_path, output=tmp_path / "output")
        return call

    return on


SMALL = {"width": 16, "height": 16, "steps": 2, "seed": 3}
"""Settings of the Video Sampler for the toy model."""


@pytest.fixture
def parts(run):
    """Model, CLIP, VAE and two encoded prompts of the toy family."""
    model, clip, vae = run("VideoLDM_LoadImageModel").values
    positive = run("CLIPTextEncode", clip=clip, text="a red circle moves right")
    negative = run("CLIPTextEncode", clip=clip, text="")
    return {"model": model, "clip": clip, "vae": vae, "positive": positive, "negative": negative}


@pytest.fixture
def video_model(run, parts):
    """video_model(name) injects a set of embedded layers into the image model."""

    def inject(name="text to video", **strengths):
        layers = run("VideoLDM_LoadTemporalLayers", layers=f"embedded: {name}")
        return run("VideoLDM_InjectTemporalLayers", model=parts["model"], layers=layers, sites="",
                   **strengths)  # fmt: skip

    return inject


@pytest.fixture
def sample(run, parts):
    """sample(model, **inputs) runs the Video Sampler on the two prompts."""

    def call(model, **inputs):
        prompts = {"positive": parts["positive"], "negative": parts["negative"]}
        return run("VideoLDM_VideoSampler", model=model, **{**prompts, **SMALL, **inputs})

    return call


@pytest.fixture
def runs(toys, tmp_path, monkeypatch, capsys):
    """Runs workflows and counts the chunks that they compute; see `Runs`."""
    from counted_runs import Runs
    from videoldm.core.tasks.chunk_store import ChunkStore
    from videoldm.core.tasks.kept_runs import OUTPUT

    found, write = Runs(tmp_path, capsys), ChunkStore.write

    def counted(store, path, tensors, about):
        if OUTPUT not in path.name:
            found.made.append(about["node"].removeprefix("VideoLDM_"))
        write(store, path, tensors, about)

    monkeypatch.setattr(ChunkStore, "write", counted)
    return found
