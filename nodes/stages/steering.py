"""Control of temporal layers by keyframe images and camera motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.families import image_motion
from ...core.networks.cameras import CameraUse
from ...core.networks.image_conditions import KeyframeImages
from ..choices import AS_PUBLISHED
from .cameras import camera_path
from .texts import absolute_frames

if TYPE_CHECKING:
    from ..host.interface import Host, Latent, Wire


def with_keyframes(
    host: Host, model: Wire, latent: Latent, frames: str, motion: str, scale: float
) -> Wire:
    """The model with encoded images at some frames for its temporal layers to continue. frames:
    their numbers as text; scale: motion scale."""
    images = KeyframeImages(
        latents=host.to_core(model, latent)[:1], frames=tuple(absolute_frames(frames))
    )
    likeness = None if motion == AS_PUBLISHED else image_motion(motion)
    return host.continue_images(model, images, likeness, scale)


def with_camera(
    host: Host, model: Wire, name: str, moves: str, frames: int, strength: float
) -> Wire:
    """The model with a CameraCtrl encoder that makes its motion modules follow a camera."""
    use = CameraUse(path=camera_path(moves, frames), strength=strength)
    return host.follow_camera(model, name, use)
