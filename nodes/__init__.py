"""All nodes, in the order of the menu. Ids and input names never change; a test freezes them.

Importing this loads no torch: workflows are listed and validated in an instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .boxes import BoundingBoxes
from .curves import StrengthCurve
from .decode import TemporalVAEDecode, TemporalVAEDecodeToVideo, TemporalVAEEncode
from .filters import BackProjectLowResolution, Deflicker, OpticalFlow, RestoreKeyframeDetail
from .free_init import FreeInitNode
from .guidance import ControlNetStrength, GuidanceCurve
from .host import ComfyExtension, inside_comfyui
from .image_prompt import ImagePrompt
from .inject import EjectTemporalLayers, InjectTemporalLayers
from .interpolate import InterpolateFrames
from .load_models import (
    LoadImageModel,
    LoadTemporalLayers,
    LoadTemporalVAE,
    LoadUpsampler,
    LoadVideoModel,
)
from .lora import LoadMotionLoRA, LoadScheduledLoRA
from .reference import ReferenceWindowNode
from .sample import VideoSampler
from .segments import LongHorizonSegments
from .start_image import StartImage
from .steer import CameraControl, KeyframeImages, LoadSparseControl
from .upsample import UpsampleVideo
from .video import LoadVideo, PreviewVideo, SaveVideo

if TYPE_CHECKING:
    from ..core.graph import NodeSpec

NODES = [
    LoadImageModel,
    LoadVideoModel,
    LoadTemporalLayers,
    LoadTemporalVAE,
    LoadUpsampler,
    LoadScheduledLoRA,
    LoadMotionLoRA,
    LoadSparseControl,
    InjectTemporalLayers,
    EjectTemporalLayers,
    FreeInitNode,
    ReferenceWindowNode,
    KeyframeImages,
    CameraControl,
    StrengthCurve,
    GuidanceCurve,
    ControlNetStrength,
    LongHorizonSegments,
    BoundingBoxes,
    StartImage,
    ImagePrompt,
    VideoSampler,
    InterpolateFrames,
    UpsampleVideo,
    TemporalVAEEncode,
    TemporalVAEDecode,
    TemporalVAEDecodeToVideo,
    LoadVideo,
    SaveVideo,
    PreviewVideo,
    RestoreKeyframeDetail,
    BackProjectLowResolution,
    Deflicker,
    OpticalFlow,
]


class VideoLDMExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list:
        from .host import host  # Here, so that `nodes.host` stays the name of the package.

        return NODES if host is not None else []


def node_registry() -> dict[str, NodeSpec]:
    """Every node of the standalone host by id: this pack's, then the stand-ins for ComfyUI's own.

    Raises RuntimeError inside ComfyUI, which runs workflows itself.
    """
    if inside_comfyui():
        raise RuntimeError("ComfyUI runs the workflows here, there is no registry of our own")
    from .host.standalone.core_nodes import CORE_NODES
    from .host.standalone.registry import build_registry

    return build_registry([*NODES, *CORE_NODES])
