"""Hardware video encoders, offered only on machines where they actually encode a frame.

FFmpeg lists the encoders that it was built with, whatever the machine has. Importing this module
loads neither FFmpeg nor numpy, nor does searching for encoders on a machine without a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from glob import glob

from .codecs import BEST, ENCODINGS, SMALLEST, Encoding

PROBE_SIDE = 256  # pixels; some encoders refuse smaller frames
FF_QP2LAMBDA = 118
STANDARDS = {"h264": "H.264", "hevc": "H.265", "av1": "AV1"}


def _nvenc(quality: int) -> dict[str, str]:
    lossless = {"tune": "lossless"} if quality == BEST else {}
    return {"preset": "p5", "rc": "vbr", "cq": str(max(quality, 1)), "b": "0", **lossless}


def _qsv(quality: int) -> dict[str, str]:
    return {"global_quality": str(max(quality, 1))}


def _amf(quality: int) -> dict[str, str]:
    return {"rc": "cqp", "qp_i": str(quality), "qp_p": str(quality)}


def _videotoolbox(quality: int) -> dict[str, str]:
    share = 1 - quality / SMALLEST
    return {"flags": "+qscale", "global_quality": str(round(100 * share * FF_QP2LAMBDA))}


# Name in FFmpeg: name of the product, settings, pixel format.
KINDS: dict[str, tuple[str, Callable[[int], dict[str, str]], str]] = {
    "nvenc": ("NVENC", _nvenc, "yuv420p"),
    "qsv": ("Quick Sync", _qsv, "nv12"),
    "amf": ("AMF", _amf, "yuv420p"),
    "videotoolbox": ("VideoToolbox", _videotoolbox, "yuv420p"),
}


@lru_cache(maxsize=1)
def hardware_encodings() -> dict[str, Encoding]:
    """The formats with a working hardware encoder, by name, such as "mp4 (H.264 NVENC)"."""
    offered = {}
    for kind in _likely_kinds():
        product, options, pixels = KINDS[kind]
        for codec, standard in STANDARDS.items():
            tag = "hvc1" if codec == "hevc" else None
            encoding = replace(ENCODINGS["mp4"], codec=f"{codec}_{kind}", options=options,
                               pixels=pixels, tag=tag)  # fmt: skip
            if _encodes(encoding):
                offered[f"mp4 ({standard} {product})"] = encoding
    return offered


def encoding_of(format: str) -> Encoding:
    """The encoding of a format by name; ValueError for one that is unknown or unavailable. "webm"
    falls back to AV1 if FFmpeg lacks VP9."""
    import av

    encoding = ENCODINGS.get(format) or hardware_encodings().get(format)
    if encoding is None:
        raise ValueError(
            f"format {format!r} is not one of {', '.join([*ENCODINGS, *hardware_encodings()])}"
        )
    if encoding.codec and encoding.codec not in av.codecs_available:
        if format == "webm":
            return encoding_of("webm (AV1)")
        raise ValueError(f"format {format!r} needs an FFmpeg with {encoding.codec}")
    return encoding


def _likely_kinds() -> list[str]:
    """Kinds of hardware that may be present, by cheap checks."""
    if sys.platform == "darwin":
        return ["videotoolbox"]
    if sys.platform == "win32":
        return ["nvenc", "qsv", "amf"]
    has_nvidia, has_other = glob("/dev/nvidia[0-9]*"), glob("/dev/dri/renderD*")
    return [*(["nvenc"] if has_nvidia else []), *(["qsv", "amf"] if has_other else [])]


def _encodes(encoding: Encoding) -> bool:
    """Whether the encoder yields a packet for one grey frame."""
    import av

    if encoding.codec not in av.codecs_available:
        return False
    try:
        context = av.CodecContext.create(encoding.codec, "w")
        context.width = context.height = PROBE_SIDE
        context.pix_fmt = encoding.pixels
        context.framerate, context.time_base = Fraction(24), Fraction(1, 24)
        context.options = encoding.options(18)
        picture = av.VideoFrame(PROBE_SIDE, PROBE_SIDE, encoding.pixels)
        for plane in picture.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        picture.pts, picture.time_base = 0, Fraction(1, 24)
        return bool(context.encode(picture) + context.encode(None))
    except (av.error.FFmpegError, OSError, ValueError):
        return False
