"""Stand-ins for ComfyUI's own nodes, so that the same workflow file runs without ComfyUI.

Ids, inputs and outputs are ComfyUI's. The list holds what workflows around this pack use.
"""

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
    KSampler,
    LoraLoader,
    LoraLoaderModelOnly,
    VAEDecode,
    VAEEncode,
    VAELoader,
)
from .core_nodes_values import PRIMITIVES

CORE_NODES = [
    CheckpointLoaderSimple,
    VAELoader,
    LoraLoader,
    LoraLoaderModelOnly,
    CLIPTextEncode,
    EmptyLatentImage,
    KSampler,
    VAEDecode,
    VAEEncode,
    LoadImage,
    SaveImage,
    PreviewImage,
    LoadVideo,
    GetVideoComponents,
    CreateVideo,
    SaveVideo,
    *PRIMITIVES,
]
