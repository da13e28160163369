"""Measures the cost of length: memory and time of five stages, memory and noise of rolling.

    python -m tests.measure_long [--frames 14400] [--only stages rolling noise]

The stages make 14,400 frames, rolling 1,000; noise counts frames that rolling left unfinished. Uses
toys of the embedded models with random weights, each run in its own process: keyframes by
prediction, interpolation, decoding, upsampling, and decoding again while the video is saved. A
node's work is divided into equal shares, timed in processor time; the lower quartile of a quarter
of the video counts, since other programs can only add time. On a busy machine that is not enough:
`tests.measure_growth` alternates between start and end instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parent))

from kill.flows import Flow, decoded, models, node, sampled  # noqa: E402
from toy_family import randomize_zeros, write_toy_family  # noqa: E402
from videoldm.core.diffusion.noise import NoiseSource  # noqa: E402
from videoldm.core.diffusion.samplers import sample_euler  # noqa: E402
from videoldm.core.evaluation.programs import peak_rss  # noqa: E402
from videoldm.core.families.embedded import included  # noqa: E402
from videoldm.core.tasks.rolling import Rolling, rolling  # noqa: E402
from videoldm.core.tasks.segment import Sampling  # noqa: E402
from videoldm.nodes.command.progress import Progress  # noqa: E402
from videoldm.nodes.headless import main as command  # noqa: E402

SHORT, LONG, ROLLED = 240, 14_400, (64, 1000)
MEMORY, TIME, ROLLING_MEMORY = 1.10, 1.03, 1.02
SHARES = 80
"""Equal parts of a node's work that are timed."""
SETTINGS = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "schedule": "trailing", "seed": 7}
STAGES = {"7": "sampling", "6": "interpolation", "5": "decoding and upsampling",
          "10": "decoding and saving"}  # fmt: skip


def stages(frames: int) -> Flow:
    """All five stages, for a video of `frames` frames plus up to 3 to complete the last interval
    between keyframes."""
    flow = sampled("prediction", frames=-(-(frames - 1) // 4) + 1, prediction_model=["12", 0],
                   window=16, context_frames=1)  # fmt: skip
    flow["6"] = node(
        "VideoLDM_InterpolateFrames", model=["13", 0], positive=["2", 0], negative=["3", 0],
        latent=["7", 0], passes=1, context_guidance=1.0, window_keys=5, keep_keys=True, **SETTINGS,
    )  # fmt: skip
    flow["4"] = node("VideoLDM_LoadUpsampler", upsampler="embedded")
    flow["5"] = node(
        "VideoLDM_UpsampleVideo", model=["4", 0], positive=["2", 0], negative=["3", 0],
        images=["8", 0], vae=["4", 2], noise_level=20, chunk=16, overlap=2, tile=0, tile_overlap=8,
        borders="continued", **SETTINGS,
    )  # fmt: skip
    flow = decoded(models() | flow, "6", ["1", 2])
    flow["8"]["inputs"]["chunk"] = 16
    flow["10"] = flow.pop("9")
    flow["10"]["inputs"]["video"] = ["5", 1]
    flow["7"]["inputs"] |= SETTINGS
    return flow


def rolled(frames: int) -> Flow:
    flow = decoded(sampled("rolling", frames=frames, window=4, lookahead=True), "7", ["1", 2])
    flow["7"]["inputs"] |= SETTINGS | {"steps": 8}
    return flow


# --------------------------------------------------------------------------------------------------
# In a process of its own.


def child(folder: Path) -> None:
    """Run the folder's workflow and print its peak memory and the time of each share of work."""
    torch.set_num_threads(1)
    included.WEIGHTS = folder.parent / "toys"
    seen, shown = defaultdict(dict), Progress.__call__

    def timed(progress: Progress, event) -> None:
        if event.kind == "progress" and event.total:
            share = int(SHARES * event.value / event.total)
            seen[event.node_id].setdefault(share, time.process_time())
        shown(progress, event)

    Progress.__call__ = timed
    arguments = ["run", folder / "flow.json", "--quiet", "--device", "cpu", "--output", folder]
    code = command([str(one) for one in arguments])
    rates = {key: _rates(times) for key, times in seen.items()}
    print(json.dumps({"code": code, "peak": peak_rss(os.getpid()), "rates": rates}))


def _rates(times: dict[int, float]) -> list[float]:
    """Seconds per share of work, in order."""
    points = sorted(times.items())
    pairs = zip(points, points[1:], strict=False)
    return [(after - before) / (stop - start) for (start, before), (stop, after) in pairs]


def measured(place: Path, name: str, flow: Flow) -> dict:
    """Peak memory and times of a workflow; RuntimeError if it fails."""
    folder = place / name
    folder.mkdir()
    (folder / "flow.json").write_text(json.dumps(flow))
    run = [sys.executable, "-m", __spec__.name, "--child", str(folder)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["code"]:
        raise RuntimeError(f"{name} ended with {found['code']}")
    return found


def growth(rates: list[float]) -> float:
    """Time of a share in the last quarter over that in the first quarter, without the very first
    share, which includes one-time preparation."""
    quarter = max(1, len(rates) // 4)
    first, last = (torch.tensor(part).quantile(0.25) for part in
                   (rates[1 : 1 + quarter], rates[-quarter:]))  # fmt: skip
    return float(last / first)


# --------------------------------------------------------------------------------------------------
# Remaining noise.


def noisy_frames(frames: int, lookahead: bool) -> int:
    """The number of frames of rolling that differ from the clean frames of an oracle denoiser."""
    sigmas = torch.cat([torch.linspace(14.0, 0.3, 8), torch.zeros(1)])

    def clean(numbers) -> torch.Tensor:
        like = torch.zeros(1, len(numbers), 4, 2, 2)
        return NoiseSource((5,), tuple(numbers)).like(like, stream="truth")

    def denoiser_for(condition):
        return lambda x, sigma: clean(condition.frames)

    video = rolling(denoiser_for, (1, 4, 2, 2), Sampling(sample_euler, sigmas, 3), frames,
                    settings=Rolling(window=4, lookahead=lookahead))  # fmt: skip
    far = (torch.cat(list(video), dim=1) - clean(range(frames))).abs().amax((0, 2, 3, 4))
    return int((far > 1e-6).sum())


# --------------------------------------------------------------------------------------------------
# Figures.


def figure(name: str, value: float, most: float) -> bool:
    print(f"{name}: {value:.3f}, at most {most}: {'reached' if value <= most else 'MISSED'}")
    return value <= most


def of_stages(place: Path, frames: int) -> bool:
    short, long = (measured(place, f"stages-{n}", stages(n)) for n in (SHORT, frames))
    print(f"{SHORT} frames: {short['peak'] / 1e6:.0f} MB; {frames}: {long['peak'] / 1e6:.0f} MB")
    name = f"peak memory of five stages at {frames} frames / at {SHORT}"
    reached = [figure(name, long["peak"] / short["peak"], MEMORY)]
    for key, stage in STAGES.items():
        name = f"time per frame at the end of {frames} frames / at the start, {stage}"
        reached.append(figure(name, growth(long["rates"][key]), TIME))
    return all(reached)


def of_rolling(place: Path, frames: int) -> bool:
    short, long = (measured(place, f"rolled-{n}", rolled(n))["peak"] for n in ROLLED)
    print(f"{ROLLED[0]} frames: {short / 1e6:.0f} MB; {ROLLED[1]}: {long / 1e6:.0f} MB")
    name = f"rolling: peak memory at {ROLLED[1]} frames / at {ROLLED[0]}"
    return figure(name, long / short, ROLLING_MEMORY)


def of_noise(place: Path, frames: int) -> bool:
    left = max(noisy_frames(ROLLED[1], lookahead) for lookahead in (False, True))
    return figure(f"rolling: frames of {ROLLED[1]} left at sigma > 0", left, 0)


FIGURES = {"stages": of_stages, "rolling": of_rolling, "noise": of_noise}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=LONG)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        randomize_zeros(write_toy_family(place / "toys") / "image_model.safetensors")
        return 0 if all([FIGURES[name](place, args.frames) for name in args.only]) else 1


if __name__ == "__main__":
    sys.exit(main())
