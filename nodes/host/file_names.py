"""File names in workflows, under the same rules in both hosts. No torch here.

A prefix begins a name in the output folder and may hold codes such as %date:yyyy-MM-dd%. The name
of an input may end in " [input]", " [output]" or " [temp]", as ComfyUI writes them.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

NAME_BYTES, PATH_BYTES = 255, 4095
"""Linux's limits. Names within the first also fit on macOS and Windows, which count characters."""
ENDING_BYTES = 40
"""Reserved for what is appended to a name, such as "_00001_.partial.finishing.webm"."""
LARGEST_SIZE = 8192, 8192
RESERVED = re.compile(r'[<>:"|?*]')
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ANNOTATED = re.compile(r"(.*?)\s*\[(input|output|temp)\]", re.DOTALL)


def shown(name: Any) -> str:
    """A name for a message: control characters escaped, cut to at most 80 characters."""
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def inside(root: Path, name: str) -> Path:
    """root / name; ValueError if that leads out of root (links inside root are followed)."""
    joined = os.path.normpath(os.path.join(root, name))
    home = os.path.normpath(root)
    if os.path.isabs(name) or "\0" in name or os.path.commonpath([joined, home]) != home:
        raise ValueError(f"the name {shown(name)} leads out of the folder {root}")
    if joined == home:
        raise ValueError(f"the name {shown(name)} is not the name of a file in {root}")
    return Path(joined)


def spellings(name: str) -> tuple[str, ...]:
    """The name as given and, if that differs, with Windows' backslashes turned into slashes."""
    return tuple(dict.fromkeys((name, name.replace("\\", "/"))))


def annotated(name: str) -> tuple[str, str]:
    """Split "a.png [temp]" into ("a.png", "temp"); without an annotation the folder is "input"."""
    match = ANNOTATED.fullmatch(name)
    return (match[1], match[2]) if match else (name, "input")


# --------------------------------------------------------------------------------------------------
# Prefixes.


def output_base(root: Path, prefix: Any, size: tuple[int, int] = LARGEST_SIZE) -> Path:
    """The path in `root` with which a prefix's names begin; ValueError if no file can have them."""
    if not isinstance(prefix, str):
        raise ValueError(f"filename_prefix must be a text, not {shown(prefix)}")
    _check_letters(prefix)
    base = inside(root, filled(prefix, size).replace("\\", "/"))
    _check_lengths(prefix, base)
    folder = Path(os.path.normpath(root))
    for part in base.relative_to(folder).parts[:-1]:
        folder /= part
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"filename_prefix {shown(prefix)} needs the folder {folder}, which is a file"
            )
    return base


def _check_letters(prefix: str) -> None:
    control = CONTROL.search(prefix)
    if control:
        raise ValueError(
            f"filename_prefix {shown(prefix)} has the control character {control[0]!r}, which file "
            "names must not have"
        )
    # Codes may hold characters that never reach the name; on Windows, a time's colons count.
    plain = re.sub(r"%[^%]+%", "", prefix)
    reserved = RESERVED.search(filled(prefix) if os.name == "nt" else plain)
    if reserved:
        raise ValueError(
            f"filename_prefix {shown(prefix)} has the character {reserved[0]}, which is reserved "
            "in file names"
        )


def _check_lengths(prefix: str, base: Path) -> None:
    for part in base.parts:
        length, most = len(os.fsencode(part)), NAME_BYTES
        most -= ENDING_BYTES if part == base.name else 0
        if length > most:
            raise ValueError(
                f"filename_prefix {shown(prefix)} has a part of {length} bytes, at most {most} fit "
                "into a name"
            )
    length, most = len(os.fsencode(base.absolute())), PATH_BYTES - ENDING_BYTES
    if length > most:
        raise ValueError(
            f"filename_prefix {shown(prefix)} makes a path of {length} bytes, at most {most} fit"
        )


def filled(prefix: str, size: tuple[int, int] = LARGEST_SIZE) -> str:
    """A prefix with its codes filled in; `size` is (width, height). Unknown codes are left alone.

    %width%, %height%, %year%, %month%, %day%, %hour%, %minute%, %second%, and %date:...% with
    yyyy yy M MM d dd h hh m mm s ss.
    """
    now = time.localtime()
    texts = {"width": str(size[0]), "height": str(size[1]), "year": str(now.tm_year)}
    for word, number in (("month", now.tm_mon), ("day", now.tm_mday), ("hour", now.tm_hour),
                         ("minute", now.tm_min), ("second", now.tm_sec)):  # fmt: skip
        texts[word] = f"{number:02}"
    prefix = re.sub(r"%date:([^%]*)%", lambda match: formatted_date(match[1], now), prefix)
    return re.sub(r"%(\w+)%", lambda match: texts.get(match[1], match[0]), prefix)


def formatted_date(pattern: str, now: time.struct_time) -> str:
    """A date by a pattern such as yyyy-MM-dd, as ComfyUI's frontend has it: in one pass, so that
    no code's output is read as another code; hours run to 23."""
    numbers = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min,
               "s": now.tm_sec}  # fmt: skip
    years = {"yyyy": str(now.tm_year), "yy": str(now.tm_year)[2:]}

    def text(match: re.Match) -> str:
        code = match[0]
        return years.get(code) or (str(numbers[code[0]]).zfill(len(code))
                                   if code[0] in numbers else code)  # fmt: skip

    return re.sub("dd?|MM?|hh?|mm?|ss?|yyy?y?", text, pattern)
