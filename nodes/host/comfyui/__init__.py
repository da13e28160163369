"""The host inside ComfyUI: the V3 API is ComfyUI's own.

`host` implements `interface.Host` on ModelPatcher, folder_paths and ComfyUI's memory management.
Until it exists it is None, and the package registers no nodes there.
"""

from comfy_api.latest import ComfyExtension, io, ui

host = None

__all__ = ["ComfyExtension", "host", "io", "ui"]
