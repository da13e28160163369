"""Runs that are killed at random moments and begun again: `python -m tests.kill --times N`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
