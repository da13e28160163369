"""RGB <-> the pixel formats of codecs, with consistent matrix, range and tags.

Streams are written with BT.709 matrix, primaries and transfer in limited range, or as full-range
RGB. They are read as their tags say.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

BILINEAR, FULL_CHROMA_OUT, FULL_CHROMA_IN, ACCURATE_ROUNDING = 0x2, 0x2000, 0x4000, 0x40000
EXACT = BILINEAR | FULL_CHROMA_OUT | FULL_CHROMA_IN | ACCURATE_ROUNDING
"""swscale's flags. Without them, each re-encoding darkens a video by more than 1/255."""
BT709 = 1  # in H.273's tables of matrices, primaries and transfers alike
LIMITED_RANGE = 1
# H.273 matrix coefficients (the stream's tag) -> swscale's name.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
FULL_RANGE = ("yuvj", "gray", "ya8", "ya16")  # prefixes of formats that are always full range
DEEP_WHITE = 255 * 256
"""White in 16 bits: swscale treats them as 8 bits and a fraction, so white is not 65535."""
DEEP = {"rgb24": "rgb48le", "rgba": "rgba64le"}
# Format of an array `h w c` by (channels, bytes per sample).
ARRAYS = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}


class EncoderPictures:
    """Converts `h w 3` or `h w 4` (uint8, or uint16 up to DEEP_WHITE) to an encoder's pixel format.

    left_chroma: site subsampled chroma at the left pixel of each pair, as decoders of H.264 and
    H.265 expect; else between the two, as FFmpeg does for VP9 and AV1.
    """

    def __init__(self, image: np.ndarray, pixel_format: str, *, left_chroma: bool):
        height, width, channels = image.shape
        self.array = ARRAYS[channels, image.dtype.itemsize]
        # Without an explicit matrix, the converter uses BT.601, whatever the file is tagged with.
        matrix = f"flags={EXACT}:out_color_matrix=bt709:in_range=full:out_range=limited"
        left = ":out_h_chr_pos=0:out_v_chr_pos=128" if left_chroma else ""
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(
            width=width, height=height, format=self.array, time_base=Fraction(1, 1000)
        )
        nodes = (("scale", matrix + left), ("format", pixel_format), ("buffersink",))
        self.graph.link_nodes(source, *(self.graph.add(*node) for node in nodes)).configure()
        self.done = 0

    def __call__(self, image: np.ndarray) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(image, self.array)
        picture.pts, picture.time_base = self.done, Fraction(1, 1000)
        self.done += 1
        self.graph.push(picture)
        picture = self.graph.pull()
        tag_bt709(picture)
        return picture


def tag_bt709(target: av.VideoFrame | av.VideoCodecContext) -> None:
    """Tag a frame or a stream as BT.709 in limited range."""
    target.colorspace, target.color_range = BT709, LIMITED_RANGE
    if hasattr(target, "color_primaries"):  # frames of older PyAV have none
        target.color_primaries = target.color_trc = BT709


def decoded_colours(frame: av.VideoFrame) -> np.ndarray:
    """The frame's RGB `h w 3` uint8 as players show it, or `h w 4` if it has transparency."""
    name = frame.format.name
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    has_alpha = frame.format.has_palette or any(c.is_alpha for c in frame.format.components)
    target = "rgba" if has_alpha else "rgb24"
    if is_rgb:
        return frame.to_ndarray(format=target)
    # For untagged streams do as players do: BT.709 for HD sizes, BT.601 below.
    is_hd = frame.width >= 1280 or frame.height >= 720
    matrix = MATRICES.get(int(frame.colorspace), "ITU709" if is_hd else "ITU601")
    full = int(frame.color_range) == 2 or name.startswith(FULL_RANGE)
    is_deep = any(component.bits > 8 for component in frame.format.components)
    pixels = frame.reformat(
        format=DEEP[target] if is_deep else target,
        src_colorspace=matrix,
        # Meaningless for RGB, but older PyAV skips the matrix if both are the same.
        dst_colorspace="ITU709" if matrix == "ITU601" else "ITU601",
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
        interpolation=EXACT,
    ).to_ndarray()
    if not is_deep:
        return pixels
    return ((pixels.astype(np.uint32) + 128) >> 8).clip(0, 255).astype(np.uint8)
