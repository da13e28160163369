"""Kill workers and drivers of runs on a Ray cluster, resume them, and compare the results.

    python -m tests.kill.distributed --workers 20 --drivers 5 [--seed 0]

One cluster of two workers serves several runs of the same workflows. In each, random workers are
killed at random progress events, then the driver, and the run is resumed. Exits with 1 if a file
differs from that of a run without Ray, or if a finished chunk was made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .flows import flows

ROOT = Path(__file__).resolve().parents[2]
LOG = "VIDEOLDM_TEST_LOG"
NAMES = ("hierarchical", "upsampling, independent", "interpolation")
CLUSTER = """
import ray, sys
context = ray.init(num_cpus=2, object_store_memory=10**8, include_dashboard=False,
                   logging_level="error", log_to_driver=False)
print(context.address_info["address"], flush=True)
sys.stdin.read()
"""


def drive(arguments: list[str]) -> int:
    """Run the command with the toy family and workers that log the chunks they make."""
    from videoldm.core.families.embedded import included
    from videoldm.nodes.headless import main
    from videoldm.nodes.host.distributed import cluster

    from .logging_worker import LoggingWorker

    toys, *rest = arguments
    included.WEIGHTS = Path(toys)
    cluster.Worker = LoggingWorker
    return main(rest)


@dataclass
class Runs:
    """Runs of workflows in one folder. address: of the cluster, "" to run without Ray."""

    folder: Path
    toys: Path
    address: str = ""
    files: list[Path] = field(default_factory=list)

    def start(self) -> subprocess.Popen:
        self.folder.mkdir(exist_ok=True)
        self.files = [self.folder / f"{k}.json" for k in range(len(NAMES))]
        for file, name in zip(self.files, NAMES, strict=True):
            file.write_text(json.dumps(flows()[name]))
        command = [sys.executable, "-m", "tests.kill.distributed", "--drive", str(self.toys), "run"]
        command += [*map(str, self.files), "--json", "--device", "cpu"]
        command += ["--output", str(self.folder / "output")]
        if self.address:
            command += ["--ray", self.address, "--workers", "2"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def videos(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.glob("output/clip_*.mp4"))]

    def made_again(self, log: Path) -> int:
        """How many chunks were made although they had been finished."""
        kept, again = set(), 0
        for line in log.read_text().splitlines() if log.exists() else ():
            what, path = line.split(" ", 1)
            if path.startswith(str(self.folder)):
                again += what == "making" and path in kept
                kept |= {path} if what == "kept" else set()
        return again


def progress(driver: subprocess.Popen) -> Iterator[dict]:
    for line in driver.stdout:
        told = json.loads(line)
        if told["event"] == "progress":
            yield told


def kill_a_worker(head: psutil.Process, rng: random.Random) -> bool:
    """Kill a random busy worker of the cluster; False if there is none."""
    found = []
    for one in head.children(recursive=True):
        try:
            title = " ".join(one.cmdline())
        except psutil.Error:
            continue
        if "LoggingWorker.make" in title:
            found.append(one)
    if found:
        rng.choice(found).kill()
    return bool(found)


def run_with_kills(runs: Runs, head: psutil.Process, workers: int, driver: bool, rng: random.Random
              ) -> tuple[int, bool]:  # fmt: skip
    """Run while killing up to `workers` workers, then perhaps the driver; returns (workers killed,
    driver killed)."""
    process, left, killed = runs.start(), workers, 0
    for _ in progress(process):
        if left and rng.random() < 0.3 and kill_a_worker(head, rng):
            left, killed = left - 1, killed + 1
        elif driver and not left and rng.random() < 0.3:
            process.kill()
            break
    code = process.wait()
    if code not in (0, -9):
        raise SystemExit(f"the driver ended with {code}")
    return killed, code == -9


@contextmanager
def cluster(log: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A cluster of two CPUs: (its address, the process that started it)."""
    environment = os.environ | {LOG: str(log)}
    head = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = head.stdout.readline().strip()
        if not address:
            raise SystemExit("the cluster did not start")
        yield address, psutil.Process(head.pid)
    finally:
        head.stdin.close()
        head.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="workers to be killed")
    parser.add_argument("--drivers", type=int, default=1, help="drivers to be killed")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from .running import prepare_toys

    rng, killed, drivers, differ, again = random.Random(args.seed), 0, 0, 0, 0
    # Ray requires a token of the cluster and of everyone who joins it.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log.txt"
        toys = prepare_toys(folder / "toys")
        plain = Runs(folder / "plain", toys)
        run_with_kills(plain, psutil.Process(), 0, False, rng)
        with cluster(log) as (address, head):
            while killed < args.workers or drivers < args.drivers:
                runs = Runs(folder / "runs", toys, address)
                each = -(-args.workers // max(1, args.drivers))
                each = min(each, args.workers - killed)
                w, d = run_with_kills(runs, head, each, drivers < args.drivers, rng)
                if d:
                    w += run_with_kills(runs, head, 0, False, rng)[0]
                killed, drivers = killed + w, drivers + d
                # As sets, because a video saved before the driver was killed exists twice.
                differ += len(set(runs.videos()) ^ set(plain.videos()))
                again += runs.made_again(log)
                print(f"{killed} workers and {drivers} drivers killed, {differ} files differ, "
                      f"{again} finished chunks made again", flush=True)  # fmt: skip
                shutil.rmtree(runs.folder)
                log.unlink(missing_ok=True)
    return int(differ + again > 0)


if __name__ == "__main__":
    sys.exit(drive(sys.argv[2:]) if sys.argv[1:2] == ["--drive"] else main())
