"""Output to terminals of any encoding."""

from __future__ import annotations

import io
import sys


def print_anything() -> None:
    """Let stdout and stderr escape characters that their encoding lacks.

    Titles and file names may hold any character; a terminal may only support ASCII, and a file name
    need not be valid text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
