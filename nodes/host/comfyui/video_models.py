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
from .renewing import renewable
from .vae import VideoLDMVAE
from .video_network import build_video_patcher


def video_patcher(
    model: DiffusionModel, path: Path, hints: CheckpointHints, *, disable_dynamic: bool = False
) -> Any:
    """A patcher of a network made for video, or of an image network without temporal layers."""
    build = build_video_patcher if model.has_time_axis else _build_image
    patcher = build(model, disable_dynamic=disable_dynamic)
    return renewable(patcher, _model_again, path, hints)


def _build_image(model: DiffusionModel, *, disable_dynamic: bool) -> Any:
    return build_patcher(model, None, disable_dynamic=disable_dynamic)


def further_parts(found: VideoParts, path: Path, hints: CheckpointHints) -> tuple[Any, Any, Any]:
    """(CLIP_VISION, VAE, CLIP) of the file; missing ones raise an error when they are used."""
    vision: Any = MissingPart(NO_CLIP_VISION.format(path.name))
    if found.image_encoder is not None:
        vision = _vision(found)
        renewable(vision.patcher, _vision_again, path, hints)
    vae: Any = video_vae(found, path.name)
    if not isinstance(vae, MissingPart):
        vae = VideoLDMVAE(vae)
        renewable(vae.patcher, _vae_again, path, hints)
    clip: Any = without_clip(path.name, found.model)
    if found.text is not None:
        clip = build_clip(found.text)
        renewable(clip.patcher, _clip_again, path, hints)
    return vision, vae, clip


def _read(path: Path, hints: CheckpointHints) -> VideoParts:
    return families.load_video_parts(path, hints)[1]


def _model_again(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    model = _read(path, hints).model
    return video_patcher(model, path, hints, disable_dynamic=disable_dynamic)


def _vision_again(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    patcher = _vision(_read(path, hints), disable_dynamic=disable_dynamic).patcher
    return renewable(patcher, _vision_again, path, hints)


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


def _vae_again(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    own = video_vae(_read(path, hints), path.name)
    patcher = VideoLDMVAE(own, disable_dynamic=disable_dynamic).patcher
    return renewable(patcher, _vae_again, path, hints)


def _clip_again(path: Path, hints: CheckpointHints, disable_dynamic: bool = False) -> Any:
    clip = build_clip(_read(path, hints).text, disable_dynamic=disable_dynamic)
    return renewable(clip.patcher, _clip_again, path, hints)
