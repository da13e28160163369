"""Where files are: model folders under ComfyUI's names, inputs, outputs. No torch here.

Names come from workflow files, which nobody vouches for. Every name is therefore resolved inside
its folder, and one that leads out of it is refused. Only files that the user names on the command
line (`allow`) may lie elsewhere.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tiff")
VIDEOS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".gif")
MEDIA = {"image": IMAGES, "video": VIDEOS, "clip": (*VIDEOS, ".webp", ".png")}

# A kind of model, and the folders under the models folder that hold it.
MODEL_FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints", "diffusers"),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
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
        """Let nodes read this one file, wherever it is; returns the name it is known by."""
        self.allowed.append(Path(path).expanduser().absolute())
        return str(self.allowed[-1])

    # Models.

    def model_names(self, kind: str) -> list[str]:
        """The weight files of a kind, as "folder/name", sorted; image models may be folders as
        diffusers writes them."""
        found = {name for root in self._model_roots(kind) for name in _listed(root, WEIGHTS)}
        if kind != "checkpoints":
            return sorted(found)
        whole = {name for root in self._model_roots(kind) for name in diffusers_folders(root)}
        parts = tuple(f"{name}/" for name in whole)
        return sorted(whole | {name for name in found if not name.startswith(parts)})

    def model_path(self, kind: str, name: str) -> Path:
        """The file of a name; ValueError says where it was looked for."""
        roots = self._model_roots(kind)
        for root in roots:
            path = inside(root, name)
            if path.is_file() or (kind == "checkpoints" and _is_diffusers(path)):
                return path
        looked = ", ".join(str(root) for root in roots)
        raise ValueError(f"there is no file {name!r} among the {kind} in {looked}")

    def _model_roots(self, kind: str) -> list[Path]:
        return [models / folder for models in self.models for folder in MODEL_FOLDERS[kind]]

    # Inputs.

    def input_names(self, media: str) -> list[str]:
        """The input files of a sort of media ("image", "video", "clip"), sorted."""
        endings = MEDIA[media]
        given = [str(path) for path in self.allowed if path.suffix.lower() in endings]
        return [*_listed(self.input, endings), *given]

    def input_path(self, name: str) -> Path:
        """The file of a name, which may end in " [output]" or " [temp]" as ComfyUI's do."""
        if Path(name).expanduser().absolute() in self.allowed:
            return Path(name).expanduser().absolute()
        match = re.fullmatch(r"(.*?)\s*\[(input|output|temp)\]", name)
        name, folder = match.groups() if match else (name, "input")
        path = inside(getattr(self, folder), name)
        if not path.exists():
            raise ValueError(f"there is no file {name!r} in the {folder} folder {path.parent}")
        return path

    # Outputs.

    def save_path(self, prefix: str, suffix: str, *, temp: bool = False, size: tuple = (0, 0)
                  ) -> Path:  # fmt: skip
        """The next free file "<prefix>_00001_<suffix>"; its folder is made.

        `prefix` may hold folders, %width%, %height%, %year%, %month%, %day%, %hour%, %minute%,
        %second%, and %date:yyyy-MM-dd%. `size` is (width, height).
        """
        root = self.temp if temp else self.output
        base = inside(root, _filled(prefix, size))
        base.parent.mkdir(parents=True, exist_ok=True)
        taken = [_number(one.name, base.name) for one in base.parent.iterdir()]
        return base.with_name(f"{base.name}_{max(taken, default=0) + 1:05}_{suffix}")

    def relative(self, path: Path) -> tuple[str, str]:
        """(file name, folder inside output or temp), the way results are told to a frontend."""
        for root in (self.temp, self.output):
            if path.is_relative_to(root):
                folder = path.parent.relative_to(root).as_posix()
                return path.name, "" if folder == "." else folder
        return path.name, str(path.parent)


def inside(root: Path, name: str) -> Path:
    """root / name, which must not lead out of root (links inside root are the user's own)."""
    joined = os.path.normpath(os.path.join(root, name))
    home = os.path.normpath(root)
    if os.path.isabs(name) or "\0" in name or os.path.commonpath([joined, home]) != home:
        raise ValueError(f"the name {name!r} leads out of the folder {root}")
    if joined == home:
        raise ValueError(f"the name {name!r} is not the name of a file in {root}")
    return Path(joined)


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
    """The folders below a root that hold models as diffusers writes them, as "folder/name"."""
    for folder, inner, _ in os.walk(root, followlinks=True):
        if "unet" in inner and _is_diffusers(Path(folder)) and Path(folder) != root:
            yield Path(folder).relative_to(root).as_posix()


def _number(name: str, base: str) -> int:
    match = re.match(re.escape(base) + r"_(\d+)_", name)
    return int(match[1]) if match else 0


def _filled(prefix: str, size: tuple[int, int]) -> str:
    now = time.localtime()
    texts = {"width": str(size[0]), "height": str(size[1]), "year": time.strftime("%Y", now)}
    for word, code in (("month", "%m"), ("day", "%d"), ("hour", "%H"), ("minute", "%M")):
        texts[word] = time.strftime(code, now)
    texts["second"] = time.strftime("%S", now)
    prefix = re.sub(r"%date:([^%]*)%", lambda match: _date(match[1], now), prefix)
    return re.sub(r"%(\w+)%", lambda match: texts.get(match[1], match[0]), prefix)


def _date(pattern: str, now: time.struct_time) -> str:
    for letters, code in (("yyyy", "%Y"), ("yy", "%y"), ("MM", "%m"), ("dd", "%d"), ("hh", "%H"),
                          ("mm", "%M"), ("ss", "%S")):  # fmt: skip
        pattern = pattern.replace(letters, time.strftime(code, now))
    return pattern
