"""Measures how long a run takes to stop after Ctrl-C, at random moments of every stage at 256x256.

    python -m tests.measure_cancelling --tries 20

Each try runs the embedded models in a process of its own and is timed from the signal to the end of
the process. The result depends on the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 2.0


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def workflow(stage: str) -> tuple[str, dict]:
    """(the node to be interrupted, an API workflow in which it works for minutes)."""
    size = 64 if stage == "upsampling" else 256
    flow = {
        "1": node("VideoLDM_LoadVideo", file="rendered: driving", width=size, height=size, start=0,
                  count=0, stride=1, fit="crop", multiple_of=8),
        "2": node("VideoLDM_LoadImageModel", model="embedded"),
        "3": node("CLIPTextEncode", clip=["2", 1], text="driving by night"),
        "4": node("VideoLDM_LoadTemporalLayers", layers="embedded: " + (
            "interpolation" if stage == "interpolation" else "text to video")),
        "5": node("VideoLDM_InjectTemporalLayers", model=["2", 0], layers=["4", 0], strength=1.0),
        "6": node("VideoLDM_LoadTemporalVAE", vae="embedded"),
        "7": node("VideoLDM_TemporalVAEEncode", images=["1", 0], vae=["6", 0]),
    }  # fmt: skip
    prompts = {"positive": ["3", 0], "negative": ["3", 0]}
    if stage == "sampling":
        flow["8"] = node("VideoLDM_VideoSampler", model=["5", 0], width=256, height=256, frames=16,
                         steps=100, **prompts)  # fmt: skip
    elif stage == "interpolation":
        flow["8"] = node("VideoLDM_InterpolateFrames", model=["5", 0], latent=["7", 0], steps=50,
                         **prompts)  # fmt: skip
    elif stage == "upsampling":
        flow["2"] = node("VideoLDM_LoadUpsampler", upsampler="embedded")
        flow["8"] = node("VideoLDM_UpsampleVideo", model=["2", 0], images=["1", 0], steps=100,
                         **prompts)  # fmt: skip
    if "8" in flow:
        flow["9"] = node("VideoLDM_TemporalVAEDecodeToVideo", samples=["8", 0], vae=["6", 0])
        flow["10"] = node("VideoLDM_SaveVideo", filename_prefix="x", video=["9", 0])
        return "8", flow
    if stage == "decoding":
        flow["9"] = node("VideoLDM_TemporalVAEDecode", samples=["7", 0], vae=["6", 0])
        flow["10"] = node("VideoLDM_PreviewVideo", images=["9", 0])
        return "9", flow
    flow["9"] = node("VideoLDM_TemporalVAEDecodeToVideo", samples=["7", 0], vae=["6", 0])
    format = stage.removeprefix("saving ")
    flow["10"] = node("VideoLDM_SaveVideo", filename_prefix="x", video=["9", 0], format=format)
    return "10", flow


STAGES = ("sampling", "interpolation", "upsampling", "decoding", "saving mp4", "saving webm",
          "saving gif", "saving png")  # fmt: skip


def complete(flow: dict) -> dict:
    """The workflow with defaults for the inputs that it omits."""
    from videoldm.nodes import node_registry

    registry = node_registry()
    for one in flow.values():
        live = registry[one["class_type"]].live_inputs(one["inputs"])
        defaults = {name: it.initial() for name, it in live.items() if it.initial() is not None}
        one["inputs"] = {**defaults, **one["inputs"]}
    return flow


def one_try(stage: str, moments: random.Random, folder: Path) -> tuple[float, str]:
    """(seconds from the signal to the end of the process, the run's message and kept files)."""
    target, flow = workflow(stage)
    file = folder / "workflow.json"
    file.write_text(json.dumps(complete(flow)))
    command = [sys.executable, "-m", "videoldm.nodes.headless", "run", str(file), "--json",
               "--device", "cpu", "--output", str(folder / "output")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=folder) as process:  # fmt: skip
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "node_start" and event["node_id"] == target:
                break
        time.sleep(moments.uniform(0.2, 25.0 if stage.startswith("saving") else 8.0))
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest, said = process.communicate()
        seconds = time.monotonic() - began
    if process.returncode != 130:
        raise SystemExit(f"{stage} ended with {process.returncode}: {said}")
    result = json.loads(rest.splitlines()[-1])
    kept = ", ".join(result["unfinished"])
    return seconds, f"{result['error']['message']}; kept {kept or 'nothing'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    args = parser.parse_args()
    moments, longest = random.Random(args.seed), 0.0
    for number in range(args.tries):
        stage = args.only[number % len(args.only)]
        with tempfile.TemporaryDirectory() as folder:
            seconds, said = one_try(stage, moments, Path(folder))
        longest = max(longest, seconds)
        print(f"{number + 1:3} {stage:14} {seconds:5.2f} s  {said}", flush=True)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    print(f"longest {longest:.2f} s of {args.tries} tries, {load}")
    return 0 if longest <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
