"""Workflows in media files: PNG and GIF texts, WebP and JPEG EXIF, MP4, MOV and WebM tags."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

from .json_text import read_json
from .messages import first_line, shown_path
from .png_text import SIGNATURE, png_texts
from .schema import WorkflowError

KEYS = ("workflow", "prompt")
EXIF_MAKE, EXIF_MODEL = 0x010F, 0x0110


def media_kind(head: bytes) -> str | None:
    """Return "png", "image" or "video" from a file's first 16 bytes, or None for anything else."""
    if head.startswith(SIGNATURE):
        return "png"
    if head.startswith((b"\xff\xd8\xff", b"GIF8")):
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") or head[:4] == b"\x1aE\xdf\xa3":
        return "video"
    return None


def read_media(path: Path, kind: str) -> dict[str, Any]:
    """Return the "workflow" and "prompt" objects in a media file; either may be missing.

    Other tools use the same keys: if only one of the two is JSON, the other is ignored. Raises
    WorkflowError if the file cannot be read, or has these keys but none of them holds JSON.
    """
    read = {"png": _png_tags, "image": _image_tags, "video": _video_tags}[kind]
    try:
        tags = read(path)
    except OSError as error:
        what = "video" if kind == "video" else "image"
        reason = first_line(error)
        raise WorkflowError(f"{shown_path(path)} cannot be read as {what} ({reason})") from error
    found, faults = {}, []
    for key in [key for key in KEYS if key in tags]:
        try:
            found[key] = read_json(tags[key])
        except ValueError as error:
            reason = first_line(error)
            faults.append(f'the "{key}" in {shown_path(path)} is not JSON ({reason})')
    found = found or _from_comment(tags.get("comment"))
    if faults and not found:
        raise WorkflowError(faults[0])
    return found


def _png_tags(path: Path) -> dict[str, str]:
    return {key.lower(): text for key, text in png_texts(path)}


def _image_tags(path: Path) -> dict[str, str]:
    from PIL import Image

    try:
        # Pillow warns of every damaged entry, and still reads the others.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                comment, exif = image.info.get("comment"), image.getexif()
    except (SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise OSError(first_line(error)) from error
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", errors="replace")
    tags = {"comment": comment} if isinstance(comment, str) else {}
    for tag in (EXIF_MAKE, EXIF_MODEL):
        key, colon, text = str(exif.get(tag, "")).partition(":")
        if colon and key.lower() in KEYS:
            tags[key.lower()] = text.rstrip("\x00")
    return tags


def _video_tags(path: Path) -> dict[str, str]:
    import av

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return {key.lower(): value for key, value in container.metadata.items()}
    except av.error.FFmpegError as error:
        raise OSError(error.strerror) from error


def _from_comment(comment: str | None) -> dict[str, Any]:
    """Read both objects, or their JSON texts, from one JSON comment, as found in GIFs of this pack
    and in videos of VideoHelperSuite."""
    try:
        data = read_json(comment or "")
    except ValueError:
        return {}
    found = {}
    for key in KEYS if isinstance(data, dict) else ():
        try:
            value = data.get(key)
            found[key] = read_json(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return {key: value for key, value in found.items() if value is not None}
