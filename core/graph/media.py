"""Workflows inside media files: PNG text, WebP and JPEG EXIF, MP4, MOV and WebM tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .schema import WorkflowError

KEYS = ("workflow", "prompt")
EXIF_MAKE, EXIF_MODEL = 0x010F, 0x0110


def media_kind(head: bytes) -> str | None:
    """Return "image" or "video" from a file's first 16 bytes, or None for anything else."""
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")):
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") or head[:4] == b"\x1aE\xdf\xa3":
        return "video"
    return None


def read_media(path: Path, kind: str) -> dict[str, Any]:
    """Return the "workflow" and "prompt" objects that a media file carries (either may be missing).

    Raises WorkflowError when the file cannot be read or what it carries is not JSON.
    """
    try:
        tags = _image_tags(path) if kind == "image" else _video_tags(path)
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read as {kind} ({first_line(error)})") from error
    found = {key: _parse(tags[key], path, key) for key in KEYS if key in tags}
    return found or _from_comment(tags.get("comment"))


def _image_tags(path: Path) -> dict[str, Any]:
    from PIL import Image

    try:
        image = Image.open(path)
    except (SyntaxError, ValueError) as error:
        raise OSError(str(error)) from error
    with image:
        try:
            image.load()  # Text may stand behind the pixels.
        except (OSError, SyntaxError, ValueError):
            pass  # The pixels are damaged; what came before them is still good.
        tags = {str(k).lower(): v for k, v in image.info.items() if isinstance(v, str)}
        # PNG has text for this; asking it for EXIF would decode the pixels again.
        exif = {} if image.format == "PNG" else image.getexif()
        for tag in (EXIF_MAKE, EXIF_MODEL):
            key, colon, text = str(exif.get(tag, "")).partition(":")
            if colon and key.lower() in KEYS:
                tags[key.lower()] = text.rstrip("\x00")
    return tags


def _video_tags(path: Path) -> dict[str, Any]:
    import av

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return {key.lower(): value for key, value in container.metadata.items()}
    except av.error.FFmpegError as error:
        raise OSError(first_line(error)) from error


def _parse(text: Any, path: Path, key: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise WorkflowError(f'the "{key}" in {path} is not JSON ({first_line(error)})') from error


def _from_comment(comment: Any) -> dict[str, Any]:
    """Read the form that VideoHelperSuite writes: both objects in one JSON comment."""
    try:
        data = json.loads(comment)
        found = {key: data[key] for key in KEYS if key in data}
        return {k: json.loads(v) if isinstance(v, str) else v for k, v in found.items()}
    except (TypeError, ValueError):
        return {}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
