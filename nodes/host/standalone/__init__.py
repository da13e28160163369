"""The host without ComfyUI: a stand-in for the V3 API, and models of diffusers and transformers."""

from . import io, ui
from .host import host
from .io import ComfyExtension

__all__ = ["ComfyExtension", "host", "io", "ui"]
