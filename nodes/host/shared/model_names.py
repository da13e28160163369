"""Names that the loaders offer, and the files that they stand for: models that come with the pack,
then the files of the models folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ....core.families import VIDEO_MODEL_FILES, included_names, included_path

if TYPE_CHECKING:
    from ..interface import FolderAccess

IMAGE_MODEL, UPSAMPLER = "image_model", "upsampler"
TEMPORAL_LAYERS, TEMPORAL_DECODER = "temporal_layers", "temporal_decoder"

__all__ = [
    "IMAGE_MODEL", "TEMPORAL_DECODER", "TEMPORAL_LAYERS", "UPSAMPLER", "VIDEO_MODEL_FILES",
    "default_name", "model_file", "offered",
]  # fmt: skip

FOLDERS = {
    IMAGE_MODEL: "checkpoints", UPSAMPLER: "checkpoints",
    TEMPORAL_LAYERS: "videoldm", TEMPORAL_DECODER: "vae",
}  # fmt: skip
"""The models folder of each kind, as `FolderAccess` calls it."""


def offered(folders: FolderAccess, kind: str) -> list[str]:
    """All names of a kind of model, the default first."""
    return [*included_names(kind), *folders.model_names(FOLDERS[kind])]


def default_name(kind: str) -> str:
    """The name of a kind of model that is there without any download."""
    return included_names(kind)[0]


def model_file(folders: FolderAccess, kind: str, name: str) -> Path:
    """The file of a name that is offered; ValueError says where it was looked for."""
    return included_path(kind, name) or folders.model_path(FOLDERS[kind], name)
