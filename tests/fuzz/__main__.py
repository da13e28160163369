"""Runs cases for a while and prints each kind of failure once; see the package's docstring."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from . import cases, judging, running, weights


def main() -> int:
    args = _arguments()
    torch.set_num_threads(1)  # A forked process must not inherit half a pool of threads.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork")
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        family = _family(Path(folder) / "family")
        count, found = Counter(), {}
        for kind, number in _numbers(args):
            case = Path(args.keep or folder) / f"{kind}_{number}"
            case.mkdir(parents=True)
            result = running.run(kind, args.seed, number, case.resolve(), family)
            count[kind] += 1
            for failure in judging.failures(result):
                seen = found.setdefault(failure.signature, [])
                seen.append((kind, number))
                if len(seen) == 1:
                    _show(failure, kind, number, args.seed)
            if args.case is not None:
                _tell(result)
            if args.keep is None:
                shutil.rmtree(case, ignore_errors=True)
    print(f"seed {args.seed}: {sum(count.values())} cases ({_listed(count)}), "
          f"{len(found)} kinds of failure in {sum(map(len, found.values()))} places")  # fmt: skip
    if args.case is None:
        _show_counts(found)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="how long (default: 60)")
    add("--seed", type=int, default=0, help="another seed, other cases (default: 0)")
    add("--kind", choices=cases.KINDS, help="one kind of input (default: all in turn)")
    add("--case", type=int, metavar="K", help="one case alone, and all that it says")
    add("--keep", metavar="DIR", help="keep the folders of the cases there")
    args = parser.parse_args()
    if args.case is not None and args.kind is None:
        parser.error("--case needs --kind: cases are numbered within their kind")
    return args


def _family(folder: Path) -> Path:
    """Import everything and write the toy family once, before processes are forked."""
    from toy_family import write_toy_family
    from videoldm.nodes import node_registry
    from videoldm.nodes.command import convert, listing, models, run  # noqa: F401
    from videoldm.nodes.host.standalone import loaders  # noqa: F401

    node_registry()
    folder.mkdir()
    weights.FAMILY.append(write_toy_family(folder))
    return folder


def _numbers(args: argparse.Namespace):
    """(kind, number) of each case until the time is up."""
    kinds = [args.kind] if args.kind else list(cases.KINDS)
    if args.case is not None:
        yield args.kind, args.case
        return
    end, number = time.monotonic() + args.seconds, 0
    while True:
        for kind in kinds:
            if time.monotonic() >= end:
                return
            yield kind, number
        number += 1


def _show(failure: judging.Failure, kind: str, number: int, seed: int) -> None:
    detail = failure.detail if len(failure.detail) < 300 else f"{failure.detail[:300]}..."
    print(f"{failure.kind}: {detail!r}\n    python -m tests.fuzz --seed {seed} --kind {kind} "
          f"--case {number}", flush=True)  # fmt: skip


def _show_counts(found: dict[str, list]) -> None:
    for signature, places in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(places):5}  {signature}")


def _tell(result: running.Result) -> None:
    """Print all output of one case."""
    for k, command in enumerate(result.commands):
        print(f"$ videoldm {' '.join(command)!r}"[:400])
        for text in result.outputs[k] if k < len(result.outputs) else ():
            print("    " + "\n    ".join(text[:3000].splitlines()) if text else "    -")
        print(f"    exit code {result.codes[k] if k < len(result.codes) else 'none'}")
    print(f"{result.seconds:.1f} s, {result.memory / 1e6:.0f} MB; {result.stopped}\n{result.stack}")


def _listed(count: Counter) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in count.items())


if __name__ == "__main__":
    sys.exit(main())
