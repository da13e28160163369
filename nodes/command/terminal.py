"""Output for terminals of any encoding."""

from __future__ import annotations

import io
import sys


def print_anything() -> None:
    """Let stdout and stderr write escapes for letters that their encoding lacks.

    Titles and file names hold letters of all languages; a terminal may know ASCII alone, and a
    file name may not be text at all.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
