"""Placeholders for parts that a checkpoint lacks: using one is an error that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ....core.families import included_names
from .no_words import NoWords

if TYPE_CHECKING:
    from ....core.networks.diffusion_model import DiffusionModel

NO_CLIP = "{} holds no text encoder; load one with Load CLIP and connect that instead"
NO_LAYERS = (
    "{} is a network made for video as a whole: it has no temporal layers for other image models"
)
NO_VAE = "{} holds no VAE; load one with Load VAE and connect that instead"
NO_CLIP_VISION = "{} holds no image encoder, which models that move a start image need"


class MissingPartError(AttributeError, ValueError):
    """A part was used that is not there. Hosts that only look whether values have some attribute,
    as ComfyUI does of all it has cached, take it for no."""


class MissingPart:
    """In place of a CLIP or a VAE on a wire: whatever is done with it raises MissingPartError."""

    def __init__(self, sentence: str):
        self._sentence = sentence

    def __getattr__(self, name: str) -> NoReturn:
        # Protocols such as copying ask for names of this form and take no for an answer.
        if name.startswith("__"):
            raise AttributeError(name)
        raise MissingPartError(self._sentence)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MissingPartError(self._sentence)


def without_clip(file: str, model: DiffusionModel) -> MissingPart | NoWords:
    """The CLIP of a video model whose file holds no text encoder."""
    return MissingPart(NO_CLIP.format(file)) if model.network.spec.text is not None else NoWords()


def check_clip(clip: Any) -> None:
    """Raise ValueError for what ComfyUI puts in place of a text encoder that is not there."""
    if clip is None:
        raise ValueError(NO_CLIP.format("the checkpoint"))


def check_vae(vae: Any) -> None:
    """Raise ValueError for what ComfyUI puts in place of a VAE that is not there."""
    if vae is None or getattr(vae, "first_stage_model", vae) is None:
        raise ValueError(NO_VAE.format("the checkpoint"))


def check_boxes(boxes: Sequence[Any], encoder: Any) -> None:
    """Raise ValueError for bounding boxes where a CLIP has no encoder of them (None)."""
    if encoder is None:
        raise ValueError(
            f"{len(boxes)} bounding boxes were given, but this CLIP has no box encoder; only that "
            f'of the model "{included_names("image_model")[0]}" in Load Image Model has one'
        )
