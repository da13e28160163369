"""The host inside ComfyUI: ComfyUI's own V3 API, and models in its memory management.

Importing this loads nothing heavy: ComfyUI has already loaded torch, and diffusers and transformers
are only imported by the first node that needs them.
"""

from comfy_api.latest import ComfyExtension, io, ui

from .host import host

__all__ = ["ComfyExtension", "host", "io", "ui"]
