"""Decoded frames of containers -> `h w 3` uint8 RGB as players show them.

Colours follow the stream's tags, what is transparent lies over black, and pictures are turned and
mirrored as their display matrix asks.
"""

from __future__ import annotations

import struct

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

# H.273 matrix coefficients (what the stream is tagged with) -> swscale's name.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
FULL_RANGE = ("yuvj", "gray", "ya8", "ya16")  # formats that have no other one
# WebM keeps transparency beside the pictures, where FFmpeg's own decoders do not look for it.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def alpha_decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """The decoder for a WebM stream with transparency; None where the stream's own one will do.

    Raises ValueError if this FFmpeg has been built without it.
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
    """Convert one frame: RGB over black, upright."""
    pixels = _converted(frame)
    if pixels.shape[2] == 4:
        pixels = over_black(pixels)
    return _upright(pixels, frame)


def over_black(rgba: np.ndarray) -> np.ndarray:
    """Blend `h w 4` uint8 with black, `h w 3`."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)


def _converted(frame: av.VideoFrame) -> np.ndarray:
    """`h w 3` or `h w 4` uint8."""
    name = frame.format.name
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    has_alpha = frame.format.has_palette or any(c.is_alpha for c in frame.format.components)
    target = "rgba" if has_alpha else "rgb24"
    if is_rgb:
        return frame.to_ndarray(format=target)
    # Untagged streams follow the custom of players: BT.709 for HD sizes, BT.601 below.
    is_hd = frame.width >= 1280 or frame.height >= 720
    matrix = MATRICES.get(int(frame.colorspace), "ITU709" if is_hd else "ITU601")
    full = int(frame.color_range) == 2 or name.startswith(FULL_RANGE)
    return frame.reformat(
        format=target,
        src_colorspace=matrix,
        # Has no meaning for RGB, but older PyAV skips the matrix when both are the same.
        dst_colorspace="ITU709" if matrix == "ITU601" else "ITU601",
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
    ).to_ndarray()


def _upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turn and mirror a picture: its display matrix takes (x, y) to (a x + c y, b x + d y)."""
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return pixels
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
