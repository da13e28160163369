"""Still images: files to IMAGE and MASK, and IMAGE to PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .io import FolderType
from .ui import SavedResult

if TYPE_CHECKING:
    from .host import StandaloneHost


def load_image(path: Path) -> tuple[Tensor, Tensor]:
    """(IMAGE [1, h, w, 3], MASK [1, h, w], 1 where transparent); upright as the camera held it."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as an image: {error}") from None
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    image = _tensor(picture.convert("RGB"))
    mask = torch.zeros(1, *image.shape[1:3]) if alpha is None else 1 - _tensor(alpha)
    return image, mask


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255)[None]


def save_images(
    host: StandaloneHost, images: Tensor, prefix: str, metadata: Mapping[str, str], *,
    temp: bool = False,
) -> list[SavedResult]:  # fmt: skip
    """Write each image of an IMAGE as PNG and say where."""
    info = PngInfo()
    for key, text in metadata.items():
        info.add_text(key, text)
    kind = FolderType.temp if temp else FolderType.output
    results = []
    for image in images:
        host.check_interrupted()
        size = image.shape[1], image.shape[0]
        name = prefix.replace("%batch_num%", str(len(results)))
        pixels = (image.clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
        file = host.folders.new_file(name, ".png", temp=temp, size=size)
        with file.writing() as partial:
            Image.fromarray(pixels).save(partial, pnginfo=info, compress_level=4)
        results.append(SavedResult(*host.folders.relative(file.path), kind))
    return results
