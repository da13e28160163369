"""Custom socket types, each named once; all but TemporalLayersType are ComfyUI's."""

from .host import io

ControlNetType = io.Custom("CONTROL_NET")
"""ComfyUI's ControlNets."""

CurveType = io.Custom("CURVE")
"""ComfyUI's curves; ours may also run over frames and carry masks, see `stages.curves.curve_of`."""

FloatsType = io.Custom("FLOATS")
"""ComfyUI's lists of numbers."""

OpticalFlowType = io.Custom("OPTICAL_FLOW")
"""ComfyUI's optical flow models, which are called like torchvision's RAFT."""

TemporalLayersType = io.Custom("VIDEOLDM_TEMPORAL_LAYERS")
