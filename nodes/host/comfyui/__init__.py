"""The host inside ComfyUI: the V3 API is ComfyUI's own, models go through its memory management.

Importing this loads nothing heavy: ComfyUI has torch by then, and diffusers and transformers wait
for the first node that needs them.
"""

from comfy_api.latest import ComfyExtension, io, ui

from .host import host

__all__ = ["ComfyExtension", "host", "io", "ui"]
