"""Reads the text chunks of a PNG file without decoding pixels, wherever in the file they are.

Pillow's limit on decompressed texts is global to the process; here it is that of a workflow.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .json_text import LONGEST_TEXT

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of each text chunk, up to where the file is truncated or damaged.

    Besides PNG's own three kinds, `comf` is read, which ComfyUI uses in animated PNGs. Texts that
    decompress to more than LONGEST_TEXT are skipped. Raises OSError for a file that does not start
    like a PNG.
    """
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE or not (first := file.read(8)).endswith(b"IHDR"):
            raise OSError("it is damaged at its beginning")
        file.seek(int.from_bytes(first[:4], "big") + 4, 1)
        for kind, data in _text_chunks(file):
            key, separator, rest = data.partition(b"\0")
            text = _READERS[kind](rest) if separator else None
            if text is not None:
                yield key.decode("latin-1"), text


def _text_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, data) of the text chunks, seeking past the others."""
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return
        if kind not in _READERS or length > LONGEST_TEXT:
            file.seek(length + 4, 1)
            continue
        data = file.read(length)
        if len(data) < length:
            return
        file.seek(4, 1)
        yield kind, data


def _decoded(data: bytes) -> str:
    """Decode a text: Latin-1 by the standard, but many programs write UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unpacked(data: bytes) -> str | None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, LONGEST_TEXT)
    except zlib.error:
        return None
    return _decoded(text) if unpacker.eof else None


def _compressed(rest: bytes) -> str | None:
    return _unpacked(rest[1:]) if rest[:1] == b"\0" else None


def _international(rest: bytes) -> str | None:
    """Decode an iTXt chunk after its key: compression flag and method, language, translated key,
    text."""
    is_packed, method, after = rest[:1] == b"\1", rest[1:2], rest[2:]
    parts = after.split(b"\0", 2)
    if len(parts) < 3 or (is_packed and method != b"\0"):
        return None
    return _unpacked(parts[2]) if is_packed else _decoded(parts[2])


_READERS: dict[bytes, Callable[[bytes], str | None]] = {
    b"tEXt": _decoded,
    b"zTXt": _compressed,
    b"iTXt": _international,
    b"comf": _decoded,
}
