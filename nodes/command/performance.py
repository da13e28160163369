"""`videoldm evaluate speed` and `videoldm evaluate memory`: what LaVie's networks cost."""

from __future__ import annotations

import argparse
import json

from .errors import OK, CommandError


def measure(args: argparse.Namespace) -> int:
    """Print one figure with what it is made of."""
    if args.only:
        raise CommandError(f"--only is for figures of the embedded models, not for {args.what}")
    found, text = (_speed if args.what == "speed" else _memory)()
    print(json.dumps(found) if args.json else text)
    return OK


def _speed() -> tuple[dict[str, float], str]:
    from ...core.evaluation.speed import lavie_base_rate

    rate = lavie_base_rate()
    found = {"network": rate.network, "convolution": rate.convolution, "share": rate.share}
    text = (
        f"LaVie's base network, fp32, 16 frames at 20x32: {rate.network / 1e9:.1f} GFLOP/s, "
        f"{rate.share:.3f} of a plain 3x3 convolution's {rate.convolution / 1e9:.1f} GFLOP/s"
    )
    return found, text


def _memory() -> tuple[dict[str, float], str]:
    from ...core.evaluation.memory import small_vsr, upsampling_peaks

    short, long = upsampling_peaks(small_vsr())
    found = {
        "frames": [short.frames, long.frames],
        "working": [short.working, long.working],
        "total": [short.total, long.total],
        "ratio": long.working / short.working,
    }
    text = (
        f"LaVie's super-resolution, small network: {long.working:,} bytes for {long.frames} frames "
        f"are {found['ratio']:.3f} of {short.working:,} for {short.frames}, latents aside"
    )
    return found, text
