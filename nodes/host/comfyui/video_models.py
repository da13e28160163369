"""The video model and further parts in a file, each of which ComfyUI can rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management as manager
import comfy.model_patcher

from ....core import families
from ....core.families.checkpoint_hints import CheckpointHints
from ....core.families.video_parts import VideoParts
from ....core.networks.diffusion_model import DiffusionModel
from ..shared.image_prompter import ImagePrompter
from ..shared.missing_parts import NO_CLIP_VISION, MissingPart, without_clip
from ..shared.video_vae import video_vae
from .clip import build_clip
from .clip_vision import build_clip_vision
from .model import build_patcher
from .rebuilding import rebuildable
from .vae import VideoLDMVAE
from .video_network import build_video_patcher


def video_patcher(
    model: DiffusionModel, path: Path, hints: CheckpointHints, *, disable_dynamic: bool = False
) -> Any:
    """A patcher of a network made for video, or of an image network without temporal layers."""
    build = build_video_patcher if model.has_time_axis else _build_image
    patcher = build(model, disable_dynamic=disable_dynamic)
    return rebuildable(patcher, _rebuild_model, path, hints)


def _build_image(model: DiffusionModel, *, disable_dynamic: bool) -> Any:
    return build_patcher(model, None, disable_dynamic=disable_dynamic)


def further_parts(found: VideoParts, path: Path, hints: CheckpointHints) -> tuple[Any, Any, Any]:
    """(CLIP_VISION, VAE, CLIP) of the file; missing ones raise an error when they are used."""
    vision: Any = MissingPart(NO_CLIP_VISION.format(path.name))
    if found.image_encoder is not None:
        vision = _vision(found)
        rebuildable(vision.patcher, _rebuild_vision, path, hints)
    vae: Any = video_vae(found, path.name)
    if not isinstance(vae, MissingPart):
        vae = VideoLDMVAE(vae)
        rebuildable(vae.patcher, _rebuild_vae, path, hints)
    clip: Any = without_clip(path.name, found.model)
    if found.text is not None:
        clip = build_clip(found.text)
        rebuildable(clip.patcher, _rebuild_clip, path, hints)
    return vision, vae, clip


def _read(path: Path, hints: CheckpointHints) -> VideoParts:
    return families.load_video_parts(path, hints)[1]


def _rebuild_model(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    model = _read(path, hints).model
    return video_patcher(model, path, hints, disable_dynamic=disable_dynamic)


def _rebuild_vision(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    patcher = _vision(_read(path, hints), disable_dynamic=disable_dynamic).patcher
    return rebuildable(patcher, _rebuild_vision, path, hints)


def _vision(found: VideoParts, *, disable_dynamic: bool = False) -> Any:
    """The image encoder in ComfyUI's class, or in ours if a resampler follows it."""
    if found.resampler is None:
        return build_clip_vision(found.image_encoder, disable_dynamic=disable_dynamic)
    vision = ImagePrompter(found)
    kind = "ModelPatcher" if disable_dynamic else "CoreModelPatcher"
    vision.patcher = getattr(comfy.model_patcher, kind)(
        vision, load_device=manager.text_encoder_device(),
        offload_device=manager.text_encoder_offload_device(),
    )  # fmt: skip
    return vision


def _rebuild_vae(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    own = video_vae(_read(path, hints), path.name)
    patcher = VideoLDMVAE(own, disable_dynamic=disable_dynamic).patcher
    return rebuildable(patcher, _rebuild_vae, path, hints)


def _rebuild_clip(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    clip = build_clip(_read(path, hints).text, disable_dynamic=disable_dynamic)
    return rebuildable(clip.patcher, _rebuild_clip, path, hints)
