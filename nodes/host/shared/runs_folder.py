"""The folder of finished chunks, and how much of the disk it may use.

The environment variable VIDEOLDM_RUNS disables it ("off") or sets the limit in GB ("200").
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER, SETTING, OFF = "videoldm_runs", "VIDEOLDM_RUNS", ("off", "0", "no", "false")
LIMIT_GB = 50.0


def runs_folder(output: Path) -> Path:
    return output / FOLDER


def runs_limit() -> float:
    """Bytes that finished chunks may use, 0 to keep none; ValueError for a setting that is neither
    "off" nor a number."""
    text = os.environ.get(SETTING, "").strip()
    if text.lower() in OFF:
        return 0.0
    try:
        return 1e9 * (float(text) if text else LIMIT_GB)
    except ValueError:
        raise ValueError(f"{SETTING} {text!r} must be off or a number of GB") from None
