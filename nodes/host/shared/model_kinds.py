"""What a file of weights can be used for: the kinds of models, in words, and the node for each."""

from __future__ import annotations

IMAGE_MODEL, UPSAMPLER = "image_model", "upsampler"

_KINDS = {
    IMAGE_MODEL: "an image model, for Load Image Model",
    UPSAMPLER: "an upsampler, for Load Upsampler",
    "temporal_layers": "temporal layers, for Load Temporal Layers and the folder models/videoldm",
    "temporal_decoder": "a temporal decoder, for Load Temporal VAE and the folder models/vae",
    "autoencoder": "an autoencoder, for Load VAE and the folder models/vae",
    "base": "LaVie's text-to-video model, for Load Video Model and the folder models/videoldm",
    "interpolation": "LaVie's interpolation, for Load Video Model and the folder models/videoldm",
    "vsr": "LaVie's super-resolution, for Load Video Model and the folder models/videoldm",
}


def check_can_be_sampled(file: str, task: str) -> None:
    """Raise ValueError for a whole video model of a task that no node samples for."""
    if task == "image to video":
        raise ValueError(
            f"{file} is a model for {task}, which no node samples from yet; Load Temporal Layers "
            "loads its temporal layers for other image models"
        )


def check_kind(file: str, have: str, wanted: str) -> None:
    """Raise ValueError if a file holds another kind of model than the node loads."""
    if have != wanted:
        found = _KINDS.get(have, f"a model of the unknown kind {have!r}")
        needed = _KINDS[wanted].partition(",")[0]
        raise ValueError(f"{file} holds {found}; {needed} is needed here")
