"""Measures what it costs to run a long video again, in processor time of the whole program.

    python -m tests.measure_again [--steps 10] [--segments 10]

Prediction of ten segments of 64x64 with the pack's own models, decoded while it is saved: a first
run, the same workflow again, and the workflow with another prompt for its last segment.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

from kill.flows import Flow, decoded, models, node, sampled  # noqa: E402

SEGMENTS, AGAIN = 10, 0.15
WINDOW = 16
PROMPTS = "a red circle moves right", "a blue circle moves left", "a green square moves up"


def video(segments: int, last: str = PROMPTS[0], **settings: object) -> Flow:
    """A workflow whose prompts change where the strategy's segments begin."""
    listed = [{"prompt": PROMPTS[k % 2], "frames": WINDOW - (k > 0)} for k in range(segments)]
    listed[-1]["prompt"] = last
    wanted = node("VideoLDM_LongHorizonSegments", clip=["1", 1], segments=json.dumps(listed))
    flow = sampled("prediction", frames=sum(one["frames"] for one in listed), prompt="30",
                   prediction_model=["12", 0], window=WINDOW, context_frames=1)  # fmt: skip
    flow = decoded(models() | flow | {"30": wanted}, "7", ["1", 2])
    flow["7"]["inputs"] |= {"width": 64, "height": 64, "cfg": 2.0, **settings}
    flow["8"]["inputs"]["chunk"] = WINDOW
    return flow


def spent(folder: Path, flow: Flow) -> float:
    """Processor time of `videoldm run` in seconds; CalledProcessError if it fails."""
    file = folder / "flow.json"
    file.write_text(json.dumps(flow))
    before = _children()
    command = [sys.executable, "-m", "videoldm.nodes.headless", "run", str(file), "--quiet",
               "--device", "cpu", "--output", str(folder)]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=SEGMENTS)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        folder, settings = Path(place), {"steps": args.steps}
        whole = spent(folder, video(args.segments, **settings))
        finished = spent(folder, video(args.segments, **settings))
        again = spent(folder, video(args.segments, PROMPTS[2], **settings))
    print(
        f"{args.segments} segments of {args.steps} steps, processor time: the whole run "
        f"{whole:.2f} s, finished {finished:.2f} s, the last segment again {again:.2f} s"
    )
    told = "reached" if again / whole <= AGAIN else "MISSED"
    print(f"one of {args.segments} segments made again / the whole run: {again / whole:.3f}, "
          f"at most {AGAIN}: {told}")  # fmt: skip
    return int(again / whole > AGAIN)


if __name__ == "__main__":
    sys.exit(main())
