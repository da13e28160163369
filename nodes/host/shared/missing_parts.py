"""Placeholders for parts that a checkpoint lacks; using one raises an error naming the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ....core.families import included_names
from .empty_prompts import EmptyPromptClip

if TYPE_CHECKING:
    from ....core.networks.diffusion_model import DiffusionModel

NO_CLIP = "{} holds no text encoder; load one with Load CLIP and connect that instead"
NO_LAYERS = (
    "{} is a network made for video as a whole: it has no temporal layers for other image models"
)
NO_VAE = "{} holds no VAE; load one with Load VAE and connect that instead"
NO_CLIP_VISION = "{} holds no image encoder, which models that move a start image need"


class MissingPartError(AttributeError, ValueError):
    """A missing part was used. It is an AttributeError so that hasattr, which ComfyUI calls on all
    cached values, is False."""


class MissingPart:
    """Stands for a CLIP or a VAE on a wire; any use of it raises MissingPartError."""

    def __init__(self, sentence: str):
        self._sentence = sentence

    def __getattr__(self, name: str) -> NoReturn:
        # Protocols such as copying look these up and can do without them.
        if name.startswith("__"):
            raise AttributeError(name)
        raise MissingPartError(self._sentence)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MissingPartError(self._sentence)


def without_clip(file: str, model: DiffusionModel) -> MissingPart | EmptyPromptClip:
    """The CLIP of a video model whose file holds no text encoder: a placeholder if the network
    reads text, else one that takes the empty prompt."""
    return (
        MissingPart(NO_CLIP.format(file))
        if model.network.spec.text is not None
        else EmptyPromptClip()
    )


def check_clip(clip: Any) -> None:
    """Raise ValueError for what ComfyUI uses for a missing text encoder: None."""
    if clip is None:
        raise ValueError(NO_CLIP.format("the checkpoint"))


def check_vae(vae: Any) -> None:
    """Raise ValueError for what ComfyUI uses for a missing VAE: None, or one without a model."""
    if vae is None or getattr(vae, "first_stage_model", vae) is None:
        raise ValueError(NO_VAE.format("the checkpoint"))


def check_boxes(boxes: Sequence[Any], encoder: Any) -> None:
    """Raise ValueError for bounding boxes if the CLIP has no box encoder (None)."""
    if encoder is None:
        raise ValueError(
            f"{len(boxes)} bounding boxes were given, but this CLIP has no box encoder; only that "
            f'of the model "{included_names("image_model")[0]}" in Load Image Model has one'
        )
