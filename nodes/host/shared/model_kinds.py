"""Kinds of weight files, and the node that loads each."""

from __future__ import annotations

from ....core.families import kind_in_words
from .model_names import IMAGE_MODEL, TEMPORAL_DECODER, TEMPORAL_LAYERS, UPSAMPLER

_NODES = {
    IMAGE_MODEL: "Load Image Model",
    UPSAMPLER: "Load Upsampler",
    TEMPORAL_LAYERS: "Load Temporal Layers and the folder models/videoldm",
    TEMPORAL_DECODER: "Load Temporal VAE and the folder models/vae",
    "autoencoder": "Load VAE and the folder models/vae",
}
_WHOLE_VIDEO_MODELS = "Load Video Model and the folder models/videoldm"


def check_kind(file: str, have: str, wanted: str, family: str = "") -> None:
    """Raise ValueError if a file of a `family` holds a kind of model that the node does not
    load."""
    if have != wanted:
        found = kind_in_words(family, have)
        where = f", for {_NODES.get(have, _WHOLE_VIDEO_MODELS)}"
        holds = f"{found}{where}" if found else f"a model of the unknown kind {have!r}"
        needed = kind_in_words(family, wanted)
        raise ValueError(f"{file} holds {holds}; {needed} is needed here")
