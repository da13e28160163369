"""`videoldm convert`: published weights to self-describing safetensors files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .errors import INVALID, MISSING, OK, CommandError
from .registry import writable
from .signals import StopSignals

SUFFIX = ".safetensors"
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def convert_files(args: argparse.Namespace, stop: StopSignals) -> int:
    """Convert every file and print the paths of the results; --force overwrites existing ones."""
    output = writable(Path(args.output).expanduser()) if args.output else None
    sources = [Path(one).expanduser() for one in args.files]
    targets = [(output or one.parent) / (one.stem + SUFFIX) for one in sources]
    for source, target in zip(sources, targets, strict=True):
        _check(source, target, args.force)
    if len(set(targets)) < len(targets):
        raise CommandError(f"{len(targets)} files would become {len(set(targets))}: {targets[0]}")
    for source, target in zip(sources, targets, strict=True):
        _convert(source, target, args.dtype)
        print(target)
    return OK


def _check(source: Path, target: Path, force: bool) -> None:
    if not source.exists():
        raise CommandError(f"there is no file {source}", MISSING)
    if target.exists() and target.samefile(source):
        raise CommandError(f"{source} would replace itself; name another folder with --output")
    if target.exists() and not force:
        raise CommandError(f"{target} already exists; --force replaces it")


def _convert(source: Path, target: Path, dtype: str) -> None:
    import torch

    from ...core.families.conversion import identify
    from ...core.weights.checkpoints import CheckpointError

    try:
        known = identify(source)
    except CheckpointError as error:
        raise CommandError(str(error), INVALID) from error
    header, count = known.header, sum(tensor.numel() for tensor in known.state.values())
    print(f"{source.name}: {header.family} {header.kind}, {count / 1e6:.2f} M numbers",
          file=sys.stderr)  # fmt: skip
    known.write(target, getattr(torch, DTYPES[dtype]) if dtype in DTYPES else None)
