"""Names that the loaders offer, and their files: the models that come with the pack, then the files
in the models folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ....core.families import VIDEO_MODEL_FILES, included_names, included_path

if TYPE_CHECKING:
    from ..interface import FolderAccess

IMAGE_MODEL, UPSAMPLER, VIDEO_MODEL = "image_model", "upsampler", "video_model"
TEMPORAL_LAYERS, TEMPORAL_DECODER = "temporal_layers", "temporal_decoder"

__all__ = [
    "IMAGE_MODEL", "TEMPORAL_DECODER", "TEMPORAL_LAYERS", "UPSAMPLER", "VIDEO_MODEL",
    "VIDEO_MODEL_FILES", "default_name", "model_file", "offered",
]  # fmt: skip

FOLDERS = {
    IMAGE_MODEL: ("checkpoints",), UPSAMPLER: ("checkpoints",),
    VIDEO_MODEL: ("videoldm", "checkpoints"), TEMPORAL_LAYERS: ("videoldm", "checkpoints"),
    TEMPORAL_DECODER: ("vae", "checkpoints"),
}  # fmt: skip
"""The models folders of each kind, as `FolderAccess` names them. ComfyUI keeps whole video models
among the checkpoints; layers and decoders can also be taken from these."""


def offered(folders: FolderAccess, kind: str) -> list[str]:
    """All model names of a kind, the default first."""
    found = (name for folder in FOLDERS[kind] for name in folders.model_names(folder))
    return list(dict.fromkeys([*included_names(kind), *found]))


def default_name(kind: str) -> str:
    """The name of a model of this kind that needs no download."""
    return included_names(kind)[0]


def model_file(folders: FolderAccess, kind: str, name: str) -> Path:
    """The file of an offered name, from the first folder that has it; the ValueError for none says
    where it was looked for."""
    included, faults = included_path(kind, name), []
    if included is not None:
        return included
    for folder in FOLDERS[kind]:
        try:
            return folders.model_path(folder, name)
        except ValueError as fault:
            faults.append(fault)
    raise faults[0]
