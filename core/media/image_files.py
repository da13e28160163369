"""Opens image files with Pillow: checked before decoding, with every bit depth scaled to 0..1."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .info import MAX_PIXELS, check_picture_size, check_regular, fault_reason

# What Pillow raises for damaged or malicious files.
IMAGE_FAULTS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, AssertionError, MemoryError, RuntimeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
PNG = b"\x89PNG\r\n\x1a\n"
# Chunks without pixels; Pillow refuses files in which they are large.
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF tags and their values
SAMPLE_FORMAT, UNSIGNED = 339, 1
# White is 1 in float images, with highlights somewhat above. Beyond this the values are integers.
MAX_HIGHLIGHT = 16


def open_image(path: Path, *, texts: bool = False) -> Image.Image:
    """Open an image without decoding it (use it in a `with`); `texts` keeps a PNG's text chunks.

    Raises ValueError with one sentence if it is no image, unreadable or too large.
    """
    check_regular(path)
    try:
        image = Image.open(path if texts else _source(path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(
            f"{path} claims far more than the {MAX_PIXELS / 1e6:.0f} million pixels that are read"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} cannot be read as an image: its format is not known") from None
    except IMAGE_FAULTS as fault:
        raise ValueError(f"{path} is corrupt or truncated: {fault_reason(fault)}") from fault
    try:
        check_picture_size(path, *image.size)
    except ValueError:
        image.close()
        raise
    return image


def _source(path: Path) -> Path | BytesIO:
    """The file's path, or for a PNG its contents without text and profile chunks."""
    with path.open("rb") as file:
        if file.read(len(PNG)) != PNG:
            return path
        content = file.read()
    kept, place = [PNG], 0
    while place + 8 <= len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 :][:4]
        end = place + 12 + length
        if kind not in PNG_TEXTS:
            kept.append(content[place:end])
        place = end
    return BytesIO(b"".join(kept))


def upright(picture: Image.Image) -> Image.Image:
    """Decode a picture and apply its Exif orientation."""
    picture.load()
    turned = ImageOps.exif_transpose(picture)
    # Pillow ignores both for more than 8 bits, and the copy has no tags.
    tags = getattr(picture, "tag_v2", {})
    turned.info["is_inverted"] = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    turned.info["is_unsigned"] = UNSIGNED in tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    return turned


def rgb_over_black(picture: Image.Image) -> np.ndarray:
    """`h w 3` uint8, with transparency blended over black."""
    if not _is_deep(picture):
        if not picture.has_transparency_data:
            return np.array(picture.convert("RGB"))
        opaque = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        opaque.alpha_composite(picture.convert("RGBA"))
        return np.array(opaque.convert("RGB"))
    colours, alpha = rgb_and_alpha(picture)
    if alpha is not None:
        colours = colours * alpha[..., None]
    return (colours * 255).round().astype(np.uint8)


def rgba_pixels(picture: Image.Image) -> np.ndarray:
    """`h w 4` uint8 with the colours as stored, opaque if there is no alpha channel."""
    if not _is_deep(picture):
        return np.array(picture.convert("RGBA"))
    colours, alpha = rgb_and_alpha(picture)
    alpha = np.ones(colours.shape[:2], np.float32) if alpha is None else alpha
    return (np.dstack([colours, alpha]) * 255).round().astype(np.uint8)


def rgb_and_alpha(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours `h w 3` float32 in [0, 1] as stored, and alpha `h w` (1 is opaque) or None."""
    if _is_deep(picture):
        return _deep(picture)
    colours = np.array(picture.convert("RGB"), np.float32)
    colours /= 255
    if not picture.has_transparency_data:
        return colours, None
    return colours, np.array(picture.convert("RGBA").getchannel("A"), np.float32) / 255


def _is_deep(picture: Image.Image) -> bool:
    """Whether it is greyscale with more than 8 bits, which Pillow's conversions do not scale."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def _deep(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    stored = np.array(picture)
    if picture.mode == "I" and picture.info.get("is_unsigned"):
        stored = stored.view(np.uint32)
    values = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("there are NaN or infinite pixels")
    grey = (values / _white(picture.mode, float(values.max()))).clip(0, 1)
    grey = 1 - grey if picture.info.get("is_inverted") else grey
    alpha = None
    if isinstance(picture.info.get("transparency"), int):
        alpha = (stored != picture.info["transparency"]).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=2), alpha


def _white(mode: str, brightest: float) -> float:
    """The value of white: known for 16 bits, else guessed from the brightest pixel."""
    if mode.startswith("I;16"):
        return 65535
    if mode == "F" and brightest <= MAX_HIGHLIGHT:
        return 1
    whites = (255, 65535, 2**31, 2**32, brightest)
    return next(white for white in whites if brightest <= white)
