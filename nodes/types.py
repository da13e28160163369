"""Wire types of this pack, named once; all others are ComfyUI's own."""

from .host import io

TemporalLayersType = io.Custom("VIDEOLDM_TEMPORAL_LAYERS")
