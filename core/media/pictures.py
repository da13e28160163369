"""Converts decoded frames of containers to `h w 3` or `h w 4` uint8 as players show them.

Applies the rotation and mirroring of the display matrix; `colour` converts the colours.
"""

from __future__ import annotations

import struct

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

from .colour import decoded_colours

# WebM stores transparency as side data, which FFmpeg's native decoders ignore.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def alpha_decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """The decoder for a WebM stream with transparency; None if the stream's default one suffices.

    Raises ValueError if FFmpeg was built without it.
    """
    codec = stream.codec_context.name
    tags = {key.lower(): text for key, text in stream.metadata.items()}
    if codec not in ALPHA_DECODERS or tags.get("alpha_mode") != "1":
        return None
    name = ALPHA_DECODERS[codec]
    if name not in av.codecs_available:
        raise ValueError(f"transparent {codec.upper()} needs an FFmpeg with {name}")
    return av.CodecContext.create(name, "r")


def rgb_picture(frame: av.VideoFrame) -> np.ndarray:
    """Convert one frame to `h w 3`, over black, upright."""
    pixels = decoded_colours(frame)
    if pixels.shape[2] == 4:
        pixels = over_black(pixels)
    return _upright(pixels, frame)


def rgba_picture(frame: av.VideoFrame) -> np.ndarray:
    """Convert one frame to `h w 4` with the colours as stored, upright."""
    return _upright(with_alpha(decoded_colours(frame)), frame)


def over_black(rgba: np.ndarray) -> np.ndarray:
    """Blend `h w 4` (uint8 or uint16) over black: `h w 3`."""
    white = np.iinfo(rgba.dtype).max
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + white // 2) // white).astype(rgba.dtype)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    """Add an opaque alpha channel to `h w 3` uint8; `h w 4` is returned as it is."""
    if pixels.shape[2] == 4:
        return pixels
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([pixels, opaque], axis=2)


def _upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the frame's display matrix, which maps (x, y) to (a x + c y, b x + d y)."""
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return pixels
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
