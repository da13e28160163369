"""Names and files of the models that come with the pack; needs no torch, as nodes list them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

NAME = "embedded"
OWN_WEIGHTS = Path(__file__).resolve().parent / "weights"
VARIABLE = "VIDEOLDM_EMBEDDED_WEIGHTS"
"""Environment variable: another folder with the family's files, such as freshly trained ones."""
WEIGHTS = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else OWN_WEIGHTS
JOINT, PER_TASK = "video", ("text_to_video", "prediction", "interpolation")
"""A folder may hold one set of layers for all tasks, JOINT, in place of one per task."""


class Included(NamedTuple):
    """A model that comes with the pack.

    name: in lists of models. kind: as in file headers. file: in the family's folder, without its
    extension. task: of temporal layers.
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
    """Whether the folder in use holds one set of layers for all tasks."""
    return (WEIGHTS / f"{JOINT}.safetensors").is_file()


def path_of(file: str) -> Path:
    """The file of a part. If the folder in use lacks LVDM's files, the pack's own are used; all
    other parts belong together, so they are never mixed."""
    name = JOINT if file in PER_TASK and is_joint() else file
    path = WEIGHTS / f"{name}.safetensors"
    own = OWN_WEIGHTS / path.name
    separate = file.startswith("lvdm_")
    return own if separate and not path.is_file() and own.is_file() else path


@contextmanager
def weights_in(folder: Path) -> Iterator[None]:
    """Use the family's files in `folder` inside this context, also in subprocesses started here."""
    global WEIGHTS
    before, variable = WEIGHTS, os.environ.get(VARIABLE)
    WEIGHTS, os.environ[VARIABLE] = folder.resolve(), str(folder.resolve())
    try:
        yield
    finally:
        WEIGHTS = before
        if variable is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = variable
