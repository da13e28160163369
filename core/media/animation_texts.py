"""Inserts texts such as the prompt and workflow into animated images, where ComfyUI reads them."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image

HAS_EXIF, HAS_ALPHA = 0x08, 0x10  # flags in a WebP's VP8X chunk
DO_NOT_BLEND = 0x02  # flag of an animation's frame


def insert_texts(source: Path, target: Path, texts: Mapping[str, str]) -> None:
    """Copy a GIF, WebP or PNG (by the target's suffix) with texts added."""
    insert = {".gif": _into_gif, ".webp": _into_webp, ".png": _into_png}[target.suffix]
    with source.open("rb") as encoded, target.open("wb") as file:
        if texts or target.suffix == ".webp":
            insert(encoded, file, texts)
        shutil.copyfileobj(encoded, file)


def _into_gif(encoded: BinaryIO, file: BinaryIO, texts: Mapping[str, str]) -> None:
    """As a JSON object in a comment block before the frames."""
    text = json.dumps(texts, ensure_ascii=False).encode()
    blocks = (text[i : i + 255] for i in range(0, len(text), 255))
    header = encoded.read(13)
    has_palette, depth = header[10] >> 7, (header[10] & 7) + 1
    file.write(header + encoded.read(3 * 2**depth if has_palette else 0))
    file.write(b"\x21\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\x00")


def _into_png(encoded: BinaryIO, file: BinaryIO, texts: Mapping[str, str]) -> None:
    """As one chunk per text after the header of 33 bytes: tEXt for Latin-1, which more programs
    read, else iTXt."""
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
    """As "key:text" strings in an Exif chunk at the end: the prompt as Model, the others as Make
    and the tags below it.

    Also sets every frame to replace the previous one; FFmpeg would blend transparent frames.
    """
    chunks = list(_webp_chunks(encoded))
    if chunks[0].kind != b"VP8X":
        chunks.insert(0, _extended_header(encoded))
    if texts:
        header = bytes([chunks[0].content[0] | HAS_EXIF]) + chunks[0].content[1:]
        chunks = [_Chunk(b"VP8X", header), *chunks[1:], _Chunk(b"EXIF", _exif(texts))]
    file.write(b"RIFF" + struct.pack("<I", 4 + sum(map(_size, chunks))) + b"WEBP")
    for kind, content in chunks:
        if kind == b"ANMF":
            content = content[:15] + bytes([content[15] | DO_NOT_BLEND]) + content[16:]
        file.write(kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2))


class _Chunk(NamedTuple):
    kind: bytes
    content: bytes


def _webp_chunks(encoded: BinaryIO) -> Iterator[_Chunk]:
    encoded.seek(12)
    while len(head := encoded.read(8)) == 8:
        length = struct.unpack("<I", head[4:])[0]
        yield _Chunk(head[:4], encoded.read(length + length % 2)[:length])


def _size(chunk: _Chunk) -> int:
    return 8 + len(chunk.content) + len(chunk.content) % 2


def _extended_header(encoded: BinaryIO) -> _Chunk:
    """A VP8X chunk for a still image without one, which Exif requires."""
    encoded.seek(0)
    with Image.open(encoded) as image:
        width, height = image.size
        flags = HAS_ALPHA if image.mode == "RGBA" else 0
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _Chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sizes)


def _exif(texts: Mapping[str, str]) -> bytes:
    exif, place = Image.Exif(), int(ExifTags.Base.Make)
    for key, text in texts.items():
        is_prompt = key == "prompt"
        tag = int(ExifTags.Base.Model) if is_prompt else place
        exif[tag] = f"{key}:{text}".encode()  # Pillow writes texts in ASCII.
        place -= 0 if is_prompt else 1
    return exif.tobytes().removeprefix(b"Exif\0\0")
