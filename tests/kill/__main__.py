"""Kill runs at random moments, resume them, and compare the results.

    python -m tests.kill --times 200 [--only "sliding windows"] [--seed 0]

Prints a line for each workflow, and exits with 1 if a file differs from that of an undisturbed run,
a chunk was made twice, a chunk file is corrupt, or a run failed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from videoldm.core.tasks.chunk_files import is_whole

from .flows import flows
from .running import RunFolder, prepare, prepare_toys

TRIES = 3


@dataclass
class Tally:
    """The results of the runs of one workflow."""

    tried: int = 0
    killed: int = 0
    differ: int = 0
    twice: int = 0
    broken: int = 0
    failed: int = 0

    @property
    def faults(self) -> int:
        return self.differ + self.twice + self.broken + self.failed


def kill_and_resume(undisturbed: RunFolder, times: int, rng: random.Random) -> Tally:
    """Kill `times` runs of a workflow, each in a new folder, and resume each to its end. Runs that
    end before they are killed are repeated, up to TRIES * times in all."""
    _, seconds = undisturbed.run()
    expected, tally = undisturbed.video(), Tally()
    while tally.killed < times and tally.tried < TRIES * times:
        folder = undisturbed.folder.with_suffix(f".{tally.tried}")
        place = replace(undisturbed, folder=folder)
        code, took = place.run(killed_after=rng.uniform(0.1, 1.05) * seconds)
        ended = code is not None
        # A machine that was busy for a while makes the measured time too long for the next run.
        seconds = min(seconds, took) if ended else seconds
        tally.tried += 1
        tally.killed += not ended
        tally.broken += sum(not is_whole(path) for path in place.chunk_files())
        # A run that was killed too late has already saved its file; the next one saves another.
        saved = sum(path.read_bytes() == expected for path in place.output_files())
        code, _ = place.run()
        tally.failed += code != 0 or saved < ended
        tally.differ += code == 0 and place.video() != expected
        tally.failed += len(place.output_files()) != 1 + saved
        tally.broken += sum(not is_whole(path) for path in place.chunk_files())
        tally.twice += sum(count - 1 for count in Counter(place.chunks).values())
        shutil.rmtree(place.folder)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=9, help="kills in all")
    parser.add_argument("--only", nargs="+", default=list(flows()), choices=list(flows()))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # A forked process must not inherit half a pool of threads.
    prepare()
    rng, faults = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        toys = prepare_toys(Path(folder) / "toys")
        for k, name in enumerate(args.only):
            times = len(range(k, args.times, len(args.only)))
            place = RunFolder(Path(folder) / name.replace(" ", "_"), flows()[name], toys)
            tally = kill_and_resume(place, times, rng)
            faults += tally.faults
            print(
                f"{name:24} {tally.killed} of {tally.tried} killed, {tally.differ} files differ, "
                f"{tally.twice} chunks made twice, {tally.broken} broken, {tally.failed} failed",
                flush=True,
            )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
