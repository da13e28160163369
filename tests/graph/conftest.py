"""Makes the toy nodes of this folder importable."""

import sys
from pathlib import Path

# Not the repository's root, whose package "nodes" would hide ComfyUI's module of that name.
sys.path.append(str(Path(__file__).parent))
