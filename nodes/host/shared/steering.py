"""Temporal layers that images or a camera can steer, and why others cannot be steered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ....core.networks.image_conditions import ImageEncoderSpec, KeyframeImages, MaskedImageSpec
from ....core.networks.layers.motion_module import MotionModuleSpec

if TYPE_CHECKING:
    from ....core.networks.injected_sets import InjectedSets, Injection

Misfit = Callable[["Injection"], str]
"""Returns why a set cannot be steered this way, "" if it can."""
NO_LAYERS = (
    "the model has no temporal layers: put Inject Temporal Layers between the model and this node"
)


def why_not(sets: InjectedSets, misfit: Misfit) -> str:
    """The message for a model none of whose sets can be steered this way."""
    return misfit(sets[-1]) if sets else NO_LAYERS


def can_follow_camera(one: Injection) -> str:
    """Motion modules can; other layers have no input for camera poses."""
    if any(isinstance(layer, MotionModuleSpec) for layer in one.layers.spec.layers.values()):
        return ""
    return "the temporal layers in the model cannot follow a camera: motion modules can"


def can_continue_images(one: Injection) -> str:
    """Layers with an image input can."""
    if isinstance(one.layers.spec.context, (ImageEncoderSpec, MaskedImageSpec)):
        return ""
    return (
        "the temporal layers in the model have no input for images: connect the images to the "
        "context of Video Sampler, or choose layers for image to video in Load Temporal Layers"
    )


def with_motion(
    one: Injection, images: KeyframeImages, likeness: tuple[float, ...] | None, scale: float
) -> KeyframeImages:
    """The images with the requested amount of motion, in the form that the layers read.

    likeness: of a frame to its image, by distance, for masked images; None = as published. scale:
    `ImageEncoderSpec.motion`, for layers with an image encoder.
    """
    masked = isinstance(one.layers.spec.context, MaskedImageSpec)
    return replace(images, motion=likeness if masked else (scale,))
