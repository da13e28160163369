"""Folders of models, under ComfyUI's names, of inputs and of outputs. No torch here.

Names come from untrusted workflow files, so every name is resolved inside its folder and refused if
it leads out of it. Only files that the user names on the command line (`allow`) may be elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ....core.graph.schema import did_you_mean
from ....core.media.new_files import NewFile
from ..file_names import annotated, inside, output_base, shown, spellings

WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".gif", ".flv", ".wmv", ".asf"),
    *(".ogv", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
)
LATENTS = (".latent",)
MEDIA = {
    "image": IMAGES, "video": VIDEOS, "moving": (*VIDEOS, ".webp", ".png"),
    "any": (*IMAGES, *VIDEOS), "latent": LATENTS,
}  # fmt: skip

# A kind of model, and the folders under the models folder that hold it.
MODEL_FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints", "diffusers"),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
    "controlnet": ("controlnet", "t2i_adapter"),
    "embeddings": ("embeddings",),
    "videoldm": ("videoldm",),
}


class Folders:
    """The folders of one process; they can be changed until the first node runs."""

    def __init__(
        self,
        *,
        models: Iterable[str | os.PathLike] = (),
        input: str | os.PathLike = "input",
        output: str | os.PathLike = "output",
        temp: str | os.PathLike | None = None,
    ):
        self.models = [Path(one).expanduser() for one in models] or [Path("models")]
        self.input, self.output = Path(input).expanduser(), Path(output).expanduser()
        self.temp = Path(temp).expanduser() if temp is not None else self.output / "temp"
        self.allowed: list[Path] = []

    def allow(self, path: str | os.PathLike) -> str:
        """Let nodes read this one file, wherever it is; returns the name to use for it."""
        self.allowed.append(_absolute(path))
        return str(self.allowed[-1])

    def named_by_user(self, text: str) -> str:
        """The name for a file that the user typed: an input file, else a path, which is allowed."""
        path = _absolute(annotated(text)[0])
        if "\0" in text or self.input_fault(text) is None or not path.exists():
            return text
        return self.allow(path)

    # Models.

    def model_names(self, kind: str) -> list[str]:
        """The weight files of a kind, as "folder/name", sorted; image models may also be folders in
        diffusers' format."""
        found = {name for root in self.model_roots(kind) for name in _listed(root, WEIGHTS)}
        found |= {str(path) for path in self.allowed if path.suffix.lower() in WEIGHTS}
        if kind != "checkpoints":
            return sorted(found)
        whole = {name for root in self.model_roots(kind) for name in diffusers_folders(root)}
        parts = tuple(f"{name}/" for name in whole)
        return sorted(whole | {name for name in found if not name.startswith(parts)})

    def model_path(self, kind: str, name: str) -> Path:
        """The file of a name; the ValueError for none says where it was looked for."""
        if _absolute(name) in self.allowed:
            return _absolute(name)
        roots = self.model_roots(kind)
        for path in (inside(root, one) for one in spellings(name) for root in roots):
            if path.is_file() or (kind == "checkpoints" and _is_diffusers(path)):
                return path
        looked = ", ".join(str(root) for root in roots)
        raise ValueError(f"there is no file {name!r} among the {kind} in {looked}")

    def model_roots(self, kind: str) -> list[Path]:
        """The folders that hold models of a kind, whether they exist or not."""
        return [models / folder for models in self.models for folder in MODEL_FOLDERS[kind]]

    # Inputs.

    def input_names(self, media: str) -> list[str]:
        """The input files of a kind of media ("image", "video", "moving", "any", "latent"), sorted;
        "moving" are videos and images that may be animated."""
        endings = MEDIA[media]
        given = [str(path) for path in self.allowed if path.suffix.lower() in endings]
        return [*_listed(self.input, endings), *given]

    def input_path(self, name: str) -> Path:
        """The file of a name, which may end in " [output]" or " [temp]" as in ComfyUI."""
        plain, folder = annotated(name)
        for path in (_absolute(name), _absolute(plain)):
            if path in self.allowed:
                return path
        root = getattr(self, folder)
        for path in (inside(root, one) for one in spellings(plain)):
            if path.is_file() or path.is_dir():
                return path
            if path.exists():
                raise ValueError(f"{path} is neither a file nor a folder")
        near = did_you_mean(plain, self.input_names("any")) if folder == "input" else ""
        raise ValueError(f"there is no file {shown(plain)} in the {folder} folder {root}{near}")

    def input_changed(self, name: str) -> float:
        """When an input file, or any file in a folder of images, was last modified."""
        path = self.input_path(name)
        files = [one for one in path.iterdir() if one.is_file()] if path.is_dir() else []
        return max(one.stat().st_mtime for one in (path, *files))

    def input_fault(self, name: Any) -> str | None:
        """Why a name is not that of an input file, or None; also None for no (a wired) name."""
        if name is None:
            return None
        if not isinstance(name, str):
            return f"expected the name of a file, given {shown(name)}"
        return _fault(self.input_path, name)

    # Outputs.

    def new_file(self, prefix: str, suffix: str, *, temp: bool = False, size: tuple = (0, 0),
                 partial_suffix: str | None = None) -> NewFile:  # fmt: skip
        """Begin the file "<prefix>_00001_<suffix>" with the next free number; without a suffix, a
        folder of images.

        `prefix` may contain folders and the codes of `file_names.filled`; `size` is (width,
        height). ValueError if no file can have this name, OSError if it cannot be written.
        """
        base = output_base(self.temp if temp else self.output, prefix, size)
        try:
            return NewFile.numbered(base, suffix, partial_suffix=partial_suffix)
        except OSError as fault:
            reason = (fault.strerror or type(fault).__name__).lower()
            raise OSError(f"{base}{suffix} cannot be written: {reason}") from fault

    def prefix_fault(self, prefix: Any) -> str | None:
        """Why no file can be saved under a prefix, or None; also None for no (a wired) prefix."""
        return None if prefix is None else _fault(output_base, self.output, prefix)

    def relative(self, path: Path) -> tuple[str, str]:
        """(file name, folder inside output or temp), the way a frontend names results."""
        for root in (self.temp, self.output):
            if path.is_relative_to(root):
                folder = path.parent.relative_to(root).as_posix()
                return path.name, "" if folder == "." else folder
        return path.name, str(path.parent)


def _absolute(path: str | os.PathLike) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _fault(check: Callable, *arguments: Any) -> str | None:
    """The message of the error that a check raises, None if it passes."""
    try:
        check(*arguments)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _listed(root: Path, endings: tuple[str, ...]) -> list[str]:
    return sorted(_walk(root, endings)) if root.is_dir() else []


def _walk(root: Path, endings: tuple[str, ...]) -> Iterator[str]:
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            if name.lower().endswith(endings):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _is_diffusers(folder: Path) -> bool:
    return (folder / "unet" / "config.json").is_file()


def diffusers_folders(root: Path) -> Iterator[str]:
    """The folders below a root that hold models in diffusers' format, as "folder/name"."""
    for folder, inner, _ in os.walk(root, followlinks=True):
        if "unet" in inner and _is_diffusers(Path(folder)) and Path(folder) != root:
            yield Path(folder).relative_to(root).as_posix()
