"""Texts such as prompt and workflow in animated images, where `read_metadata` and ComfyUI look."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

HAS_EXIF = 0x08  # of the flags in a WebP's VP8X chunk


def insert_texts(source: Path, target: Path, texts: Mapping[str, str]) -> None:
    """Copy a GIF, an animated WebP or a PNG (told by the suffix) with texts in it."""
    insert = {".gif": _into_gif, ".webp": _into_webp, ".png": _into_png}[target.suffix]
    with source.open("rb") as encoded, target.open("wb") as file:
        if texts:
            insert(encoded, file, texts)
        shutil.copyfileobj(encoded, file)


def _into_gif(encoded: BinaryIO, file: BinaryIO, texts: Mapping[str, str]) -> None:
    """As a JSON object, in a comment block before the pictures."""
    text = json.dumps(texts, ensure_ascii=False).encode()
    blocks = (text[i : i + 255] for i in range(0, len(text), 255))
    header = encoded.read(13)
    has_palette, depth = header[10] >> 7, (header[10] & 7) + 1
    file.write(header + encoded.read(3 * 2**depth if has_palette else 0))
    file.write(b"\x21\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\x00")


def _into_png(encoded: BinaryIO, file: BinaryIO, texts: Mapping[str, str]) -> None:
    """As one chunk each, behind the header of 33 bytes: tEXt for Latin-1, which more programs read,
    else iTXt."""
    file.write(encoded.read(33))
    for key, text in texts.items():
        name = key.encode("latin-1", "replace")[:79]
        try:
            kind, content = b"tEXt", name + b"\0" + text.encode("latin-1")
        except UnicodeEncodeError:
            kind, content = b"iTXt", name + b"\0\0\0\0\0" + text.encode()
        check = zlib.crc32(kind + content)
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check))


def _into_webp(encoded: BinaryIO, file: BinaryIO, texts: Mapping[str, str]) -> None:
    """As "key:text" strings of an Exif chunk at the end: the prompt as the camera's model, others
    as its maker and the tags before that."""
    exif, place = Image.Exif(), int(ExifTags.Base.Make)
    for key, text in texts.items():
        is_prompt = key == "prompt"
        tag = int(ExifTags.Base.Model) if is_prompt else place
        exif[tag] = f"{key}:{text}".encode()  # Pillow writes texts in ASCII.
        place -= 0 if is_prompt else 1
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"EXIF" + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    head = bytearray(encoded.read(21))  # RIFF, size, WEBP, VP8X, its size, flags
    size = struct.unpack("<I", head[4:8])[0] + len(chunk)
    head[4:8], head[20] = struct.pack("<I", size), head[20] | HAS_EXIF
    file.write(head)
    shutil.copyfileobj(encoded, file)
    file.write(chunk)
