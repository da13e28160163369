"""Kills runs at random moments and resumes them: `python -m tests.kill --times N`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
