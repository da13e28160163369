"""Lets the tests of this folder import the toy nodes next to them."""

import sys
from pathlib import Path

# Not the repository's root: there, "nodes" would hide ComfyUI's module of that name.
sys.path.append(str(Path(__file__).parent))
