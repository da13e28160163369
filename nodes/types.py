"""Wire types of this pack, named once; all others are ComfyUI's own."""

from .host import io

ControlNetType = io.Custom("CONTROL_NET")
"""ComfyUI's own."""

CurveType = io.Custom("CURVE")
"""ComfyUI's own; ours also run over frames and carry masks, see `stages.curves.curve_of`."""

FloatsType = io.Custom("FLOATS")
"""ComfyUI's lists of numbers."""

OpticalFlowType = io.Custom("OPTICAL_FLOW")
"""ComfyUI's own: a model that is called as RAFT is in torchvision."""

TemporalLayersType = io.Custom("VIDEOLDM_TEMPORAL_LAYERS")
