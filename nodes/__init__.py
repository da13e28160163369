"""All nodes in menu order. Ids and input names never change; a test freezes them.

Importing this does not import torch, so that listing nodes and validating workflows is fast.
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
    """The extension from which ComfyUI gets the list of nodes."""

    async def get_node_list(self) -> list:
        from .host import host  # Imported here so that `nodes.host` remains the package.

        return NODES if host is not None else []


def node_registry() -> dict[str, NodeSpec]:
    """The standalone host's nodes by id: this pack's, then its versions of ComfyUI's core nodes.

    Raises RuntimeError inside ComfyUI, which has its own registry.
    """
    if inside_comfyui():
        raise RuntimeError("ComfyUI runs the workflows here, there is no registry of our own")
    from .host.standalone.core_nodes import CORE_NODES
    from .host.standalone.registry import build_registry

    return build_registry([*NODES, *CORE_NODES])
