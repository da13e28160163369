"""Stand-ins for ComfyUI's own nodes, so that the same workflow file runs without ComfyUI.

Ids, inputs and outputs are ComfyUI's; only nodes that are used together with this pack are here.
"""

from .core_nodes_conditioning import (
    CLIPSetLastLayer,
    ConditioningAverage,
    ConditioningCombine,
    ConditioningConcat,
    ConditioningSetTimestepRange,
    ConditioningZeroOut,
)
from .core_nodes_controlnet import ControlNetApply, ControlNetApplyAdvanced, ControlNetLoader
from .core_nodes_latent import LoadLatent, SaveLatent
from .core_nodes_media import (
    CreateVideo,
    GetVideoComponents,
    LoadImage,
    LoadVideo,
    PreviewImage,
    SaveImage,
    SaveVideo,
)
from .core_nodes_models import (
    CheckpointLoaderSimple,
    CLIPTextEncode,
    EmptyLatentImage,
    LoraLoader,
    LoraLoaderModelOnly,
    VAEDecode,
    VAEEncode,
    VAELoader,
)
from .core_nodes_parts import CLIPLoader, DualCLIPLoader, UNETLoader
from .core_nodes_sampling import KSampler, KSamplerAdvanced
from .core_nodes_scaling import ImageScale, ImageScaleBy, LatentUpscale, LatentUpscaleBy
from .core_nodes_sdxl import CLIPTextEncodeSDXL
from .core_nodes_values import PRIMITIVES
from .core_nodes_video_model import (
    ImageOnlyCheckpointLoader,
    SVD_img2vid_Conditioning,
    VideoLinearCFGGuidance,
    VideoTriangleCFGGuidance,
)
from .core_nodes_windows import ContextWindowsManual

CORE_NODES = [
    CheckpointLoaderSimple,
    UNETLoader,
    CLIPLoader,
    DualCLIPLoader,
    VAELoader,
    LoraLoader,
    LoraLoaderModelOnly,
    CLIPTextEncode,
    CLIPTextEncodeSDXL,
    EmptyLatentImage,
    KSampler,
    KSamplerAdvanced,
    ContextWindowsManual,
    CLIPSetLastLayer,
    ConditioningZeroOut,
    ConditioningCombine,
    ConditioningAverage,
    ConditioningConcat,
    ConditioningSetTimestepRange,
    ControlNetLoader,
    ControlNetApply,
    ControlNetApplyAdvanced,
    LatentUpscale,
    LatentUpscaleBy,
    SaveLatent,
    LoadLatent,
    ImageScale,
    ImageScaleBy,
    VAEDecode,
    VAEEncode,
    LoadImage,
    SaveImage,
    PreviewImage,
    LoadVideo,
    GetVideoComponents,
    CreateVideo,
    SaveVideo,
    ImageOnlyCheckpointLoader,
    SVD_img2vid_Conditioning,
    VideoLinearCFGGuidance,
    VideoTriangleCFGGuidance,
    *PRIMITIVES,
]
