"""Wire types of this pack, named once; all others are ComfyUI's own."""

from .host import io

ControlNetType = io.Custom("CONTROL_NET")
"""ComfyUI's own."""

CurveType = io.Custom("CURVE")
"""ComfyUI's own; ours also run over frames and carry masks, see `stages.curves.curve_of`."""

FloatsType = io.Custom("FLOATS")
"""ComfyUI's lists of numbers."""

TemporalLayersType = io.Custom("VIDEOLDM_TEMPORAL_LAYERS")
