"""Lets the tests import the toy models next to them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
