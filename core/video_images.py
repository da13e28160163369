"""Animated images (gif, webp, apng) and folders of numbered images, read with Pillow.

Pictures come as `h w 3` uint8 RGB, one after the other; what is transparent lies over black.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageSequence

from .video_info import VideoInfo, exact_frame_rate, fault_reason

FOLDER_FRAME_RATE = Fraction(24)  # frames per second of a folder of images that does not say
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
IMAGE_FAULTS = (OSError, EOFError, SyntaxError, ValueError)

# Animated images (Pillow).


def scan_image(path: Path) -> VideoInfo:
    milliseconds, frames = 0, 0
    try:
        with Image.open(path) as image:
            width, height = image.size
            for picture in _pictures(image):
                frames += 1
                picture.load()  # WebP knows the duration only then, and faults show
                milliseconds += picture.info.get("duration", 0) or 100  # what browsers do
    except IMAGE_FAULTS as fault:
        decoded = f" after {frames} frames" if frames else ""
        raise ValueError(
            f"{path} is corrupt or truncated{decoded}: {fault_reason(fault)}"
        ) from fault
    frame_rate = Fraction(frames * 1000) / Fraction(milliseconds)
    return VideoInfo(path, frames, width, height, frame_rate.limit_denominator(100_000))


def _pictures(image: Image.Image) -> Iterator[Image.Image]:
    """Iterate the animation's pictures; an APNG may begin with a still that is not part of it."""
    return islice(ImageSequence.Iterator(image), int(getattr(image, "default_image", False)), None)


def decode_image(info: VideoInfo, start: int) -> Iterator[np.ndarray]:
    done = start
    try:
        with Image.open(info.path) as image:
            for picture in islice(_pictures(image), start, None):
                yield _over_black(picture)
                done += 1
    except IMAGE_FAULTS as fault:
        raise ValueError(
            f"{info.path} is corrupt after frame {done} of {info.frames}: {fault_reason(fault)}"
        ) from fault


def _over_black(picture: Image.Image) -> np.ndarray:
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB"))
    opaque = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    opaque.alpha_composite(picture.convert("RGBA"))
    return np.array(opaque.convert("RGB"))


def image_metadata(path: Path) -> dict[str, str]:
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                image.load()  # text may stand behind the pixels
                return {key: str(text) for key, text in image.text.items()}
            if image.format == "GIF":
                return _unpacked_comment(image.info.get("comment", b""))
            return _exif_texts(image.getexif())
    except IMAGE_FAULTS as fault:
        raise ValueError(f"{path} is corrupt or truncated: {fault_reason(fault)}") from fault


def _unpacked_comment(comment: bytes) -> dict[str, str]:
    text = comment.decode("utf-8", errors="replace")
    try:
        texts = json.loads(text)
    except ValueError:
        return {"comment": text} if text else {}
    is_ours = isinstance(texts, dict) and all(isinstance(value, str) for value in texts.values())
    return texts if is_ours else {"comment": text}


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """Split the strings that ComfyUI puts into a WebP's Exif: "workflow:{...}", "prompt:{...}"."""
    texts = {}
    for tag, value in exif.items():
        if isinstance(value, str):
            key, colon, text = value.partition(":")
            has_key = colon and key.isidentifier()
            texts[key if has_key else ExifTags.TAGS.get(tag, str(tag))] = text if has_key else value
    return texts


# Folders of numbered images.


def numbered_images(folder: Path) -> list[Path]:
    """List a folder's images in the order of the numbers in their names (2 before 10)."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
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
    first = scan_image(images[0])
    try:
        frame_rate = exact_frame_rate(Fraction(image_metadata(images[0])["frame_rate"]))
    except (KeyError, ValueError, ZeroDivisionError):
        frame_rate = FOLDER_FRAME_RATE
    return VideoInfo(folder, len(images), first.width, first.height, frame_rate)


def decode_folder(info: VideoInfo, start: int) -> Iterator[np.ndarray]:
    for path in numbered_images(info.path)[start:]:
        try:
            with Image.open(path) as picture:
                image = _over_black(picture)
        except IMAGE_FAULTS as fault:
            raise ValueError(f"{path} is corrupt or truncated: {fault_reason(fault)}") from fault
        if image.shape[:2] != (info.height, info.width):
            raise ValueError(
                f"{path} is {image.shape[1]}x{image.shape[0]} but the first image of the folder "
                f"is {info.width}x{info.height}"
            )
        yield image
