"""Reads animated images (gif, webp, apng) and folders of numbered images with Pillow.

Frames are yielded one by one as `h w 3` uint8 RGB over black, or with alpha as `h w 4`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageSequence

from ..graph.wording import counted
from .image_files import IMAGE_FAULTS, open_image, rgb_over_black, rgba_pixels, upright
from .info import VideoInfo, exact_frame_rate, fault_reason
from .selection import converted
from .timing import Timing

FOLDER_FRAME_RATE = Fraction(24)  # frames per second, for folders that do not specify it
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# An animation can repeat a large frame endlessly in a few bytes. Above this total of pixels, a file
# must have at least one byte per PIXELS_PER_BYTE.
UNSUSPECTED_PIXELS, PIXELS_PER_BYTE = 2**28, 1000

# Unit in seconds of a format's durations; APNG has fractions.
CLOCKS = {"GIF": Fraction(1, 100), "WEBP": Fraction(1, 1000)}

# Animated images (Pillow).


def scan_image(path: Path) -> VideoInfo:
    milliseconds, frames, size, times = 0, 0, path.stat().st_size, []
    with open_image(path) as image:
        width, height = image.size
        clock = CLOCKS.get(image.format, Fraction(1, 1_000_000))
        try:
            for picture in _pictures(image):
                frames += 1
                pixels = frames * width * height
                if pixels > max(UNSUSPECTED_PIXELS, PIXELS_PER_BYTE * size):
                    raise ValueError(f"{frames} of {width}x{height} do not fit in {size} bytes")
                picture.load()  # finds faults; WebP knows the duration only now
                times.append(milliseconds)
                milliseconds += picture.info.get("duration", 0) or 100  # what browsers do
        except IMAGE_FAULTS as fault:
            raise _corrupt(path, frames, fault) from fault
    frame_rate = Fraction(frames * 1000) / Fraction(milliseconds)
    ticks = [round(time / 1000 / clock) for time in (*times, milliseconds)]
    timing = Timing.of_clock(ticks[:-1], max(1, ticks[-1] - ticks[-2]), clock)
    return VideoInfo(path, frames, width, height, frame_rate.limit_denominator(100_000), timing)


def _corrupt(path: Path, frames: int, fault: Exception) -> ValueError:
    decoded = f" after {counted(frames, 'frame')}" if frames else ""
    return ValueError(f"{path} is corrupt or truncated{decoded}: {fault_reason(fault)}")


def _pictures(image: Image.Image) -> Iterator[Image.Image]:
    """Iterate the animation's frames, without the still that an APNG may have before them."""
    return islice(ImageSequence.Iterator(image), int(getattr(image, "default_image", False)), None)


def decode_image(info: VideoInfo, indices: Sequence[int], alpha: bool) -> Iterator[np.ndarray]:
    """Yield `h w 3`, or with `alpha` `h w 4`, uint8 for non-decreasing frame indices."""
    done, convert = indices[0], rgba_pixels if alpha else rgb_over_black
    with open_image(info.path) as image:
        try:
            pictures = islice(_pictures(image), indices[0], None)
            for index, pixels in zip(indices, converted(pictures, indices, convert), strict=False):
                yield pixels
                done = index + 1
        except IMAGE_FAULTS as fault:
            raise ValueError(
                f"{info.path} is corrupt after frame {done} of {info.frames}: {fault_reason(fault)}"
            ) from fault


def image_metadata(path: Path) -> dict[str, str]:
    with open_image(path, texts=True) as image:
        try:
            if image.format == "PNG":
                image.load()  # texts may come after the pixels
                return {key: str(text) for key, text in image.text.items()}
            if image.format == "GIF":
                return _unpacked_comment(image.info.get("comment", b""))
            return _exif_texts(image.getexif())
        except IMAGE_FAULTS as fault:
            raise _corrupt(path, 0, fault) from fault


def _unpacked_comment(comment: bytes) -> dict[str, str]:
    text = comment.decode("utf-8", errors="replace")
    try:
        texts = json.loads(text)
    except ValueError:
        return {"comment": text} if text else {}
    is_ours = isinstance(texts, dict) and all(isinstance(value, str) for value in texts.values())
    return texts if is_ours else {"comment": text}


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """Split ComfyUI's strings in the Exif of a WebP: "workflow:{...}", "prompt:{...}"."""
    texts = {}
    for tag, value in exif.items():
        if isinstance(value, str):
            with suppress(UnicodeError):  # Pillow decodes any text as Latin-1.
                value = value.encode("latin-1").decode()
            key, colon, text = value.partition(":")
            has_key = colon and key.isidentifier()
            texts[key if has_key else ExifTags.TAGS.get(tag, str(tag))] = text if has_key else value
    return texts


# Folders of numbered images.


def numbered_images(folder: Path) -> list[Path]:
    """List a folder's images in natural order of their names (2 before 10)."""
    try:
        images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as fault:
        raise ValueError(f"the folder {folder} cannot be read: {fault_reason(fault)}") from fault
    if not images:
        raise ValueError(f"the folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    pieces = {path: re.split(r"(\d+)", path.name) for path in images}
    # Odd pieces are the numbers; compare text with text and number with number.
    order = {
        path: [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(split)]
        for path, split in pieces.items()
    }
    return sorted(images, key=lambda path: order[path])


def scan_folder(folder: Path) -> VideoInfo:
    images = numbered_images(folder)
    height, width = _still(images[0]).shape[:2]
    frame_rate = _noted_frame_rate(images[0]) or FOLDER_FRAME_RATE
    return VideoInfo(folder, len(images), width, height, frame_rate)


def _noted_frame_rate(path: Path) -> Fraction | None:
    """The frame rate in a PNG written by this pack, if it is a number of sane length."""
    try:
        text = image_metadata(path).get("frame_rate", "")
        number = re.fullmatch(r"\d{1,9}([./]\d{1,9})?", text)
        return exact_frame_rate(Fraction(text)) if number else None
    except (ValueError, ZeroDivisionError):
        return None


def _still(path: Path, alpha: bool = False) -> np.ndarray:
    with open_image(path) as picture:
        try:
            return (rgba_pixels if alpha else rgb_over_black)(upright(picture))
        except IMAGE_FAULTS as fault:
            raise _corrupt(path, 0, fault) from fault


def decode_folder(info: VideoInfo, indices: Sequence[int], alpha: bool) -> Iterator[np.ndarray]:
    """As `decode_image`; ValueError for an image whose size differs from the first one's."""
    paths = iter(numbered_images(info.path)[indices[0] :])
    return converted(paths, indices, lambda path: _sized_still(path, info, alpha))


def _sized_still(path: Path, info: VideoInfo, alpha: bool) -> np.ndarray:
    image = _still(path, alpha)
    if image.shape[:2] != (info.height, info.width):
        raise ValueError(
            f"{path} is {image.shape[1]}x{image.shape[0]} but the first image of the folder "
            f"is {info.width}x{info.height}"
        )
    return image
