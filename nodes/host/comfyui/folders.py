"""ComfyUI's folders, with the same rules for names as in the standalone host."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..file_names import spellings
from ..shared.folders import Folders, diffusers_folders

TEMPORAL_LAYERS, DIFFUSERS = "videoldm", "diffusers"


class ComfyFolders(Folders):
    """The folders of `folder_paths`, read each time, as they may change while the server runs.

    ComfyUI finds model files, extra model paths included; names of inputs and outputs are resolved
    inside ComfyUI's folders and never lead out of them.
    """

    def __init__(self) -> None:
        self.allowed = []
        default = os.path.join(folder_paths.models_dir, TEMPORAL_LAYERS)
        folder_paths.add_model_folder_path(TEMPORAL_LAYERS, default)
        # A new kind of folder lists every file unless it is given the suffixes of weights.
        paths, endings = folder_paths.folder_names_and_paths[TEMPORAL_LAYERS]
        if not endings:
            weights = folder_paths.supported_pt_extensions
            folder_paths.folder_names_and_paths[TEMPORAL_LAYERS] = paths, set(weights)

    @property
    def input(self) -> Path:
        return Path(folder_paths.get_input_directory())

    @property
    def output(self) -> Path:
        return Path(folder_paths.get_output_directory())

    @property
    def temp(self) -> Path:
        return Path(folder_paths.get_temp_directory())

    def model_names(self, kind: str) -> list[str]:
        """The files that ComfyUI lists; image models may also be folders in models/diffusers."""
        return [*folder_paths.get_filename_list(kind), *sorted(self._diffusers(kind))]

    def model_path(self, kind: str, name: str) -> Path:
        """The file or diffusers folder of a name; the ValueError for none says where it was looked
        for."""
        for spelling in spellings(name):
            if spelling in folder_paths.get_filename_list(kind):
                return Path(folder_paths.get_full_path_or_raise(kind, spelling))
        whole = self._diffusers(kind).get(name)
        if whole is not None:
            return whole
        looked = ", ".join(folder_paths.get_folder_paths(kind))
        raise ValueError(f"there is no file {name!r} among the {kind} in {looked}")

    @staticmethod
    def _diffusers(kind: str) -> dict[str, Path]:
        """The models that are whole folders, by name: only image models."""
        if kind != "checkpoints":
            return {}
        roots = [Path(root) for root in folder_paths.get_folder_paths(DIFFUSERS)]
        return {name: root / name for root in roots for name in diffusers_folders(root)}
