"""Still images: files to IMAGE and MASK, and IMAGE to PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ....core.media.image_files import IMAGE_FAULTS, open_image, rgb_and_alpha, upright
from ....core.media.info import fault_reason
from .io import FolderType
from .ui import SavedResult

if TYPE_CHECKING:
    from .host import StandaloneHost


def load_image(path: Path) -> tuple[Tensor, Tensor]:
    """(IMAGE [1, h, w, 3], MASK [1, h, w], 1 where transparent), rotated upright by EXIF.

    Colours are as stored, even where transparent; 16-bit grey keeps its range.
    """
    with open_image(path) as file:
        try:
            colours, alpha = rgb_and_alpha(upright(file))
        except IMAGE_FAULTS as fault:
            raise ValueError(f"{path.name} is damaged: {fault_reason(fault)}") from fault
    image = torch.from_numpy(colours)[None]
    mask = torch.zeros(image.shape[:3]) if alpha is None else 1 - torch.from_numpy(alpha)[None]
    return image, mask


def save_images(
    host: StandaloneHost, images: Tensor, prefix: str, metadata: Mapping[str, str], *,
    temp: bool = False,
) -> list[SavedResult]:  # fmt: skip
    """Write each image of an IMAGE as PNG and return where."""
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
