"""Picks the host: node files import `io`, `ui` and `host` only from here.

Inside ComfyUI the V3 API is ComfyUI's and the host uses its model management; anywhere else both
are this project's own. Nothing here imports torch.
"""

from __future__ import annotations

import sys


def inside_comfyui() -> bool:
    """Whether ComfyUI itself is loading this package; that ComfyUI is installed is not enough."""
    return {"folder_paths", "comfy.model_management", "comfy_api.latest"} <= set(sys.modules)


if inside_comfyui():
    from .comfyui import ComfyExtension, host, io, ui
else:
    from .standalone import ComfyExtension, host, io, ui

__all__ = ["ComfyExtension", "host", "inside_comfyui", "io", "ui"]
