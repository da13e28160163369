"""Images of every mode, animations and videos; broken ones; headers that claim huge sizes."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random

import av
import numpy as np
from PIL import Image, PngImagePlugin

from . import flows, values

MODES = {
    "png": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "jpg": ("L", "RGB", "CMYK", "YCbCr"),
    "webp": ("RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "tiff": ("1", "L", "I;16", "I", "F", "P", "RGB", "RGBA", "CMYK", "LAB"),
    "gif": ("L", "P"),
}
ANIMATED = ("gif", "webp", "png")
VIDEOS = {
    "mp4": ("libx264", "mpeg4"), "mov": ("libx264", "qtrle"), "mkv": ("ffv1", "libvpx-vp9"),
    "webm": ("libvpx-vp9",), "avi": ("mpeg4", "mjpeg"), "m4v": ("mpeg4",), "ts": ("mpeg2video",),
    "mpg": ("mpeg1video",), "flv": ("flv",), "wmv": ("wmv2",),
}  # fmt: skip
LAYOUTS = ("mono", "stereo", "quad", "5.1", "7.1")
SIZES = ((16, 16), (1, 1), (2, 2), (17, 9), (3, 400), (64, 48))


def make(rng: Random, folder: Path) -> list[list[str]]:
    """One file in the input folder that is loaded and saved, or opened as a workflow."""
    maker = rng.choice((_image, _image, _animation, _video, _video, _header, _no_file))
    name, content = maker(rng)
    if content is not None and rng.random() < 0.5:
        content = values.broken(content, rng)
    place = folder / "input" / name
    if content is None:
        rng.choice((os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.mkdir(),
                    lambda p: p.symlink_to(p), lambda p: p.touch(0)))(place)  # fmt: skip
    else:
        place.write_bytes(content)
    if rng.random() < 0.2:
        return [["validate", f"input/{name}"]]
    makers = (flows.copy_image, flows.copy_clip, flows.copy_clip, flows.copy_video)
    flow = flows.copy_part(rng, name) if rng.random() < 0.4 else rng.choice(makers)(name)
    flows.written(flow, folder / "workflow.json")
    return [flows.run_command(rng, "workflow.json")]


# --------------------------------------------------------------------------------------------------
# Valid files.


def _image(rng: Random) -> tuple[str, bytes]:
    form = rng.choice(tuple(MODES))
    return f"a.{form}", _still(form, rng.choice(MODES[form]), rng.choice(SIZES))


def _animation(rng: Random) -> tuple[str, bytes]:
    form = rng.choice(ANIMATED)
    return f"a.{form}", _moving(form, rng.choice(SIZES), rng.choice((2, 5)))


def _video(rng: Random) -> tuple[str, bytes]:
    form = rng.choice(tuple(VIDEOS))
    sound = rng.choice((None, None, *LAYOUTS)) if form in ("mp4", "mkv", "mov") else None
    size = rng.choice(((16, 16), (64, 48), (34, 18), (2, 2)))
    return f"a.{form}", _encoded(form, rng.choice(VIDEOS[form]), size, sound)


def _no_file(rng: Random) -> tuple[str, None]:
    return f"a.{rng.choice((*MODES, *VIDEOS))}", None


@cache
def _still(form: str, mode: str, size: tuple[int, int]) -> bytes:
    target = io.BytesIO()
    image = _converted(mode, size)
    more = {"pnginfo": _with_workflow()} if form == "png" else {}
    image.save(target, {"jpg": "JPEG", "tiff": "TIFF"}.get(form, form), **more)
    return target.getvalue()


def _converted(mode: str, size: tuple[int, int]) -> Image.Image:
    width, height = size
    ramp = np.linspace(0, 1, width * height).reshape(height, width)
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        return Image.fromarray((ramp * (1 if mode == "F" else 65535)).astype(kinds[mode]))
    return Image.fromarray((ramp * 255).astype(np.uint8)).convert("RGB").convert(mode)


def _with_workflow() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(flows.copy_clip()))
    return info


@cache
def _moving(form: str, size: tuple[int, int], frames: int) -> bytes:
    target = io.BytesIO()
    images = [_converted("RGB", size).rotate(90 * k) for k in range(frames)]
    images[0].save(target, form, save_all=True, append_images=images[1:], duration=80)
    return target.getvalue()


@cache
def _encoded(form: str, codec: str, size: tuple[int, int], sound: str | None) -> bytes:
    """Four frames, and a fifth of a second of sound."""
    containers = {"ts": "mpegts", "mpg": "mpeg", "mkv": "matroska", "wmv": "asf", "m4v": "mp4"}
    target = io.BytesIO()
    with av.open(target, "w", format=containers.get(form, form)) as container:
        rate = Fraction(25)
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = {"qtrle": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        noise = container.add_stream("pcm_s16le" if form != "mp4" else "aac", rate=48000,
                                     layout=sound) if sound else None  # fmt: skip
        container.metadata["comment"] = json.dumps({"prompt": flows.copy_clip()})
        for k in range(4):
            pixels = np.full((size[1], size[0], 3), 60 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
        if noise is not None:
            _mux_sound(container, noise, sound)
    return target.getvalue()


def _mux_sound(container, stream, layout: str) -> None:
    channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 9600 * channels), np.int16), format="s16", layout=layout
    )
    frame.sample_rate = 48000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


# --------------------------------------------------------------------------------------------------
# Headers in a few bytes that claim gigabytes.

HUGE = (0, 1, 13_000, 65_535, 2**31 - 1, 2**32 - 1)


def _header(rng: Random) -> tuple[str, bytes]:
    return rng.choice(HEADERS)(rng)


def _png_header(rng: Random) -> tuple[str, bytes]:
    """Another size, depth or colour type in the header, with a valid checksum."""
    size = rng.choice(HUGE), rng.choice(HUGE)
    depth, colour = rng.choice(((8, 2), (16, 6), (1, 0), (8, 3), (16, 0)))
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, rng.choice((0, 1)))
    pixels = zlib.compress(b"\x00" * rng.choice((100, 5_000_000)), 9)
    parts = [(b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")]
    if rng.random() < 0.4:
        parts.insert(1, rng.choice(_chunks()))
    return "a.png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunks() -> list[tuple[bytes, bytes]]:
    """Text and animation chunks: very large, invalid text, no frames or very many."""
    large = zlib.compress(b"a" * 60_000_000, 9)
    return [
        (b"zTXt", b"workflow\x00\x00" + large),
        (b"iTXt", b"prompt\x00\x01\x00\x00\x00" + large),
        (b"tEXt", b"workflow\x00" + b"[" * 100_000),
        (b"tEXt", b"prompt\x00\xff\xfe\x00"),
        (b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        (b"acTL", struct.pack(">II", 0, 0)),
        (b"comf", b"workflow\x00{}"),
        (b"eXIf", b"MM\x00*\x00\x00\x00\x08\xff\xff"),
        (b"PLTE", b""),
    ]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _gif_header(rng: Random) -> tuple[str, bytes]:
    content = bytearray(_moving("gif", (16, 16), 2))
    content[6:10] = struct.pack("<HH", rng.choice((0, 1, 13_000, 65_535)), rng.choice((1, 65_535)))
    return "a.gif", bytes(content)


def _jpeg_header(rng: Random) -> tuple[str, bytes]:
    content = bytearray(_still("jpg", "RGB", (16, 16)))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", rng.choice((0, 65_500)), rng.choice((1, 65_500)))
    return "a.jpg", bytes(content)


def _bmp_header(rng: Random) -> tuple[str, bytes]:
    content = bytearray(_still("bmp", "RGB", (16, 16)))
    content[18:26] = struct.pack("<ii", rng.choice((-1, 0, 30_000, 2**31 - 1)), rng.choice((1, -9)))
    return "a.bmp", bytes(content)


def _mp4_header(rng: Random) -> tuple[str, bytes]:
    """Another number in a box of sizes, counts, times or display settings."""
    content = bytearray(_encoded("mp4", "mpeg4", (16, 16), None))
    box = rng.choice((b"tkhd", b"mvhd", b"mdhd", b"stts", b"stsz", b"stco", b"stsd", b"elst"))
    at = content.find(box) + 4 + 4 * rng.randrange(20)
    number = rng.choice((0, 65_535, 2**31 - 1, 2**32 - 1))
    content[at : at + 4] = struct.pack(">I", number)
    return "a.mp4", bytes(content)


def _other_kind(rng: Random) -> tuple[str, bytes]:
    """A file with the extension of another format."""
    kinds: tuple[Callable, ...] = (_image, _animation, _video)
    return f"a.{rng.choice((*MODES, *VIDEOS))}", rng.choice(kinds)(rng)[1]


HEADERS = (_png_header, _png_header, _gif_header, _jpeg_header, _bmp_header, _mp4_header,
           _other_kind)  # fmt: skip
