"""The browser's estimates: as many segments as the tasks make, and memory close to measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.tasks.interpolation import interpolated_frames
from videoldm.core.tasks.long_video import key_frames
from videoldm.core.tasks.windows import prediction_chunks, sliding_windows
from videoldm.nodes.choices import STRATEGIES
from videoldm.nodes.host.shared.setup_warnings import LayerFacts, SamplerSetup
from videoldm.nodes.host.shared.working_memory import NETWORKS, working_memory
from videoldm.nodes.sample import VideoSampler


def test_estimates_count_as_the_tasks_do(javascript):
    settings = [dict(frames=frames, window=window, overlap=overlap, context_frames=overlap or 1,
                     passes=passes)
                for frames in (2, 16, 17, 61, 240) for window in (8, 16) for overlap in (0, 4)
                for passes in (1, 2)]  # fmt: skip
    strategies = json.dumps(STRATEGIES)
    each = f"{strategies}.map((strategy) => m.samplerSegments({{ ...one, strategy }}))"
    found = javascript("estimate.js", f"{json.dumps(settings)}.map((one) => {each})")
    for one, clips in zip(settings, found, strict=True):
        frames, window, context = one["frames"], one["window"], one["context_frames"]
        keys = key_frames(frames, one["passes"])
        between = [-(-(interpolated_frames(keys, k) - 1) // 4) for k in range(one["passes"])]
        assert clips == [
            1,
            1,
            len(sliding_windows(frames, window, one["overlap"])),
            len(prediction_chunks(frames, window, context)),
            len(prediction_chunks(keys, window, context)) + sum(max(n, 1) for n in between),
            1,
            1,
        ], one


def test_interpolation_counts_the_windows_of_the_node(javascript):
    cases = [(keys, window) for keys in (2, 5, 16, 17, 61) for window in (2, 5, 16)]
    each = "([keys, window]) => m.interpolationSegments(keys, 1, window)"
    found = javascript("estimate.js", f"{json.dumps(cases)}.map({each})")
    assert found == [len(prediction_chunks(max(keys, window), window, 1)) for keys, window in cases]
    (unset,) = javascript("estimate.js", "[m.interpolationSegments(17, 1, 0)]")
    assert unset == 4


def memory(network: str, settings: str) -> str:
    """A JavaScript expression of the estimate, with the numbers that the browser is served."""
    table = {one.id: one for one in VideoSampler.define_schema().inputs}["model"].extra_dict
    served = json.dumps(table["videoldm_networks"])
    return f"(m.useNetworks({served}), m.workingMemory({json.dumps(network)}, {settings}))"


def test_the_browser_and_the_runner_estimate_the_same_memory(javascript):
    assert javascript("estimate.js", "m.workingMemory('small', {})") == 0, "no numbers yet"
    for network in NETWORKS:
        cases = [dict(frames=frames, width=width, height=height, cfg=cfg)
                 for frames in (1, 16, 100_000)
                 for width, height in ((64, 64), (515, 320), (8192, 8))
                 for cfg in (1.0, 3.0)]  # fmt: skip
        found = javascript("estimate.js", f"{json.dumps(cases)}.map((one) => "
                           f"{memory(network, 'one')})")  # fmt: skip
        assert found == [working_memory(network, **one) for one in cases]


def test_the_browser_and_the_runner_count_the_same_frames_together(javascript):
    cases = [dict(strategy=strategy, frames=frames, window=window)
             for strategy in STRATEGIES
             for frames in (2, 16, 240) for window in (8, 64)]  # fmt: skip
    more = {"strategy": "video to video", "windows": "sliding windows", "window": 16}
    cases += [{**more, "frames": 8}, {**more, "frames": 64},
              {**more, "frames": 64, "window_schedule": "views"}]  # fmt: skip
    found = javascript("estimate.js", f"{json.dumps(cases)}.map(m.framesTogether)")
    inside = [one.pop("window_schedule", "") == "views" for one in cases]
    setups = [SamplerSetup(model=LayerFacts(), views=views, **one)
              for one, views in zip(cases, inside, strict=True)]  # fmt: skip
    assert found == [one.most_together for one in setups]


MEASURE = """
import re, torch
from videoldm.core.networks.temporal_layers import Strength
from videoldm.nodes.host.standalone import host
from videoldm.nodes.stages.sampling import Settings, VideoRequest, sample_video
from videoldm.nodes.stages.strategy import read_strategy

def read(key):
    status = open("/proc/self/status").read()
    return int(re.search(key + r":\\s+(\\d+)", status)[1]) * 1024

def sample(frames, size):
    request = VideoRequest(
        width=size, height=size, frames=frames, cfg=1.0, guidance_rescale=0.0,
        strategy=read_strategy({"strategy": "single clip"}),
    )
    settings = Settings(steps=1, sampler_name="euler", schedule="trailing", seed=1)
    sample_video(host, model, (text, text), request, settings)

torch.set_num_threads(1)
model, clip, _ = host.load_image_model("embedded")
layers = host.load_temporal_layers("embedded: text to video")
model, text = host.inject(model, layers, Strength()), host.encode_text(clip, "a red circle")
sample(2, 32)
open("/proc/self/clear_refs", "w").write("5")  # Forgets the highest use so far.
before = read("VmRSS")
sample(16, 64)
print(read("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_the_memory_estimate_is_near_what_is_measured(javascript):
    """Within a factor of two for the embedded model on the CPU; the text says "about"."""
    if not all(embedded.path_of(one).exists() for one in ("image_model", "text_to_video")):
        pytest.skip("the embedded weights are not there")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = int(done.stdout.split()[-1])
    settings = "{frames: 16, width: 64, height: 64, cfg: 1}"
    estimated = javascript("estimate.js", memory("small", settings))
    print(f"measured {measured / 1e6:.1f} MB, estimated {estimated / 1e6:.1f} MB")
    assert 0.5 < estimated / measured < 2
    assert javascript("estimate.js", memory("small", f"{settings[:-2]}3}}")) == (2 * estimated), (
        "guidance evaluates two prompts"
    )
