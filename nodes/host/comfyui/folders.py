"""ComfyUI's folders, behind the same rules for names as elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..standalone.folders import Folders

TEMPORAL_LAYERS = "videoldm"


class ComfyFolders(Folders):
    """What `folder_paths` knows, read anew each time: users move folders while the server runs.

    Model files are found by ComfyUI, extra model paths included; names of inputs and outputs are
    resolved inside ComfyUI's folders and never lead out of them.
    """

    def __init__(self) -> None:
        self.allowed = []
        default = os.path.join(folder_paths.models_dir, TEMPORAL_LAYERS)
        folder_paths.add_model_folder_path(TEMPORAL_LAYERS, default)
        # A folder of one's own lists every file unless it is told which endings are weights.
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
        return folder_paths.get_filename_list(kind)

    def model_path(self, kind: str, name: str) -> Path:
        """The file of a name; ValueError says where it was looked for."""
        path = folder_paths.get_full_path(kind, name) if name in self.model_names(kind) else None
        if path is None:
            looked = ", ".join(folder_paths.get_folder_paths(kind))
            raise ValueError(f"there is no file {name!r} among the {kind} in {looked}")
        return Path(path)
