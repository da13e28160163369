"""The models that come with the pack, by name and file; needs no torch, as nodes list them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

NAME = "embedded"
WEIGHTS = Path(__file__).resolve().parent / "weights"


class Included(NamedTuple):
    """A model that comes with the pack.

    name: in lists of models. kind: as headers of files call it. file: in the family's folder,
    without its ending. task: of temporal layers.
    """

    name: str
    kind: str
    file: str
    task: str = ""


MODELS = (
    Included(NAME, "image_model", "image_model"),
    Included(f"{NAME}: text to video", "temporal_layers", "text_to_video", "text to video"),
    Included(f"{NAME}: prediction", "temporal_layers", "prediction", "prediction"),
    Included(f"{NAME}: interpolation", "temporal_layers", "interpolation", "interpolation"),
    Included(NAME, "temporal_decoder", "temporal_decoder"),
    Included(f"{NAME}: 3D autoencoder", "temporal_decoder", "lvdm_autoencoder"),
    Included(f"{NAME}: endless driving", "video_model", "lvdm_driving"),
    Included(NAME, "upsampler", "upsampler"),
)
