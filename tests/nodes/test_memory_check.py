"""Work that cannot fit into memory is refused before it starts, unless a flag turns that off."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from node_inputs import strategy
from videoldm.nodes.host.shared.working_memory import (
    gigabytes,
    network_of,
    shortage,
    working_memory,
)
from videoldm.nodes.host.standalone import devices
from videoldm.nodes.host.standalone.host import StandaloneHost

SMALL = {"width": 16, "height": 16, "steps": 1, "seed": 3}


@pytest.fixture
def wires(run):
    model, clip, vae = run("VideoLDM_LoadImageModel").values
    layers = run("VideoLDM_LoadTemporalLayers", layers="embedded: prediction")
    model = run("VideoLDM_InjectTemporalLayers", model=model, layers=layers, sites="")
    prompts = {"positive": clip.encode("a red circle"), "negative": clip.encode("")}
    return {"model": model, "vae": vae, **prompts}


@pytest.fixture
def free(monkeypatch):
    """free(bytes) sets how much memory seems to be free; None: unknown."""

    def set_free(size):
        monkeypatch.setattr(sys.modules[StandaloneHost.__module__], "free_memory", lambda _: size)

    return set_free


def test_the_estimate_is_the_closed_form():
    sd = working_memory("large", frames=16, width=512, height=320, cfg=7.5)
    assert sd == 16 * 64 * 40 * 20972 * 2
    full = dict(frames=16, width=512, height=320, cfg=1, precision=4)
    assert working_memory("large", **full) == sd, "float32, but no negative prompt"
    own = working_memory("small", frames=10, width=64, height=64, cfg=1, precision=2)
    assert own == 10 * 256 * (12000 + 800 * 10) / 2
    x4 = dict(frames=8, width=512, height=512, cfg=1, pixels=4)
    assert working_memory("large", **x4) == 8 * 128 * 128 * 20972
    assert [network_of(n) for n in (64, 160, 256, 320)] == ["small"] * 2 + ["large"] * 2


def test_sizes_are_written_for_people():
    written = [gigabytes(one) for one in (2e5, 4.7e7, 3.44e9, 1.52e12)]
    assert written == ["1 MB", "47 MB", "3.4 GB", "1,520 GB"]
    sentence = shortage("making 2 frames of 8x8 together", 5e9, 2e9, "cpu", "free")
    assert sentence == (
        "making 2 frames of 8x8 together takes about 5.0 GB of memory, but this computer has 2.0 "
        "GB free: take fewer or smaller frames"
    )
    assert "but the device cuda:1 has 2.0 GB in all: " in shortage(
        "it", 5e9, 2e9, "cuda:1", "in all"
    )


@pytest.mark.parametrize("inputs", [
    {"width": 8192, "height": 8192, "frames": 16}, {"frames": 100_000},
    {"frames": 100_000, "width": 8192, **strategy("prediction", window=256)},
    {"frames": 100_000, "width": 8192, **strategy("sliding windows", window=255)},
])  # fmt: skip
def test_the_sampler_refuses_what_cannot_be(run, wires, free, inputs):
    free(64e9)
    prompts = {key: wires[key] for key in ("positive", "negative", "model")}
    with pytest.raises(ValueError) as caught:
        run("VideoLDM_VideoSampler", **{**SMALL, **inputs}, **prompts)
    text = str(caught.value)
    assert re.search(r"takes about [\d,.]+ GB of memory, but this computer has 64.0 GB free", text)
    assert "--no-memory-check" in text and "\n" not in text


def test_with_the_flag_or_where_nothing_is_known_it_goes_on(run, toys, wires, free, monkeypatch):
    prompts = {key: wires[key] for key in ("positive", "negative", "model")}
    free(1000)
    with pytest.raises(ValueError, match="has 1 MB free"):
        run("VideoLDM_VideoSampler", frames=3, **SMALL, **prompts)
    free(None)
    assert len(run("VideoLDM_VideoSampler", frames=3, **SMALL, **prompts)["samples"]) == 3
    free(1000)
    monkeypatch.setattr(toys, "check_memory", False)
    assert len(run("VideoLDM_VideoSampler", frames=3, **SMALL, **prompts)["samples"]) == 3


def test_the_other_stages_look_too(run, wires, free):
    free(1000)
    prompts = {key: wires[key] for key in ("positive", "negative")}
    latent = {"samples": torch.zeros(2, 4, 4, 4)}
    for words, node, inputs in (
        ("making 5 frames of 16x16", "VideoLDM_InterpolateFrames",
         {"model": wires["model"], "latent": latent, **prompts}),
        ("an IMAGE of 2 frames of 16x16", "VideoLDM_TemporalVAEDecode",
         {"samples": latent, "vae": wires["vae"]}),
        ("making 2 frames of 16x16", "KSampler",
         {"model": wires["model"], "latent_image": latent, "sampler_name": "euler",
          "scheduler": "simple", **prompts}),
        ("empty latents", "EmptyLatentImage", {"width": 16384, "height": 16384}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            run(node, **{**inputs, **({"steps": 1} if "model" in inputs else {})})
    model, clip, _ = run("VideoLDM_LoadUpsampler").values
    with pytest.raises(ValueError, match="making 3 frames of 32x48"):
        run("VideoLDM_UpsampleVideo", model=model, images=torch.rand(3, 12, 8, 3), steps=1,
            positive=clip.encode(""), negative=clip.encode(""))  # fmt: skip


def test_a_container_s_limit_counts_and_what_it_caches_does_not(tmp_path, monkeypatch):
    real = devices.Path

    def inside(path):
        return tmp_path if str(path) == "/sys/fs/cgroup" else real(path)

    monkeypatch.setattr(devices, "Path", inside)
    assert devices._left_in_group() is None, "there is no such file"
    for name, text in (("memory.max", "5000000\n"), ("memory.current", "4000000"),
                       ("memory.stat", "anon 9\ninactive_file 1000000\n")):  # fmt: skip
        (tmp_path / name).write_text(text)
    assert devices._left_in_group() == 2_000_000 == devices.free_memory("cpu")
    (tmp_path / "memory.max").write_text("max\n")
    assert devices._left_in_group() is None
