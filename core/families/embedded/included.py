"""The models that come with the pack, by name and file; needs no torch, as nodes list them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

NAME = "embedded"
OWN_WEIGHTS = Path(__file__).resolve().parent / "weights"
VARIABLE = "VIDEOLDM_EMBEDDED_WEIGHTS"
"""Of the environment: another folder of the family's files, such as one that was just trained."""
WEIGHTS = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else OWN_WEIGHTS
JOINT, ALONE = "video", ("text_to_video", "prediction", "interpolation")
"""A folder that has one set of layers for all tasks has it in the place of those for each."""


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


def is_joint() -> bool:
    """Whether one set of layers is there for all tasks."""
    return (WEIGHTS / f"{JOINT}.safetensors").is_file()


def path_of(file: str) -> Path:
    """The file of a part. What the folder in use lacks is the pack's own, but for the parts that
    belong together."""
    name = JOINT if file in ALONE and is_joint() else file
    path = WEIGHTS / f"{name}.safetensors"
    own = OWN_WEIGHTS / path.name
    apart = file.startswith("lvdm_")
    return own if apart and not path.is_file() and own.is_file() else path


@contextmanager
def weights_in(folder: Path) -> Iterator[None]:
    """The family's files are those in `folder` as long as this lasts, in programs that are begun
    meanwhile, too."""
    global WEIGHTS
    before, told = WEIGHTS, os.environ.get(VARIABLE)
    WEIGHTS, os.environ[VARIABLE] = folder.resolve(), str(folder.resolve())
    try:
        yield
    finally:
        WEIGHTS = before
        if told is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = told
