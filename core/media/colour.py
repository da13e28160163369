"""RGB <-> what codecs store: matrix, range and tags, the same ones written, tagged and read.

Written are BT.709 matrix, primaries and transfer in limited range, or full-range RGB. Read is what
the stream's tags say.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

BILINEAR, FULL_CHROMA_OUT, FULL_CHROMA_IN, ACCURATE_ROUNDING = 0x2, 0x2000, 0x4000, 0x40000
EXACT = BILINEAR | FULL_CHROMA_OUT | FULL_CHROMA_IN | ACCURATE_ROUNDING
"""swscale's flags. Without them each generation of a video is darker by more than 1 in 255."""
BT709 = 1  # the same number in H.273's three tables
LIMITED_RANGE = 1
# H.273 matrix coefficients (what the stream is tagged with) -> swscale's name.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
FULL_RANGE = ("yuvj", "gray", "ya8", "ya16")  # formats that have no other one
DEEP_WHITE = 255 * 256
"""swscale takes 16 bits for 8 with a fraction behind them, in which white is not the largest."""
DEEP = {"rgb24": "rgb48le", "rgba": "rgba64le"}
# Arrays `h w c` by (channels, bytes of a sample).
ARRAYS = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}


class EncoderPictures:
    """Pictures `h w 3` or `h w 4` (uint8, or uint16 up to DEEP_WHITE) in an encoder's format.

    left_chroma: colours at half the resolution belong to the left one of two pixels, as decoders of
    H.264 and H.265 take it; else between them, as FFmpeg takes those of VP9 and AV1.
    """

    def __init__(self, image: np.ndarray, pixel_format: str, *, left_chroma: bool):
        height, width, channels = image.shape
        self.array = ARRAYS[channels, image.dtype.itemsize]
        # Without a matrix the converter takes BT.601 whatever the file then claims.
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
    """Tag a picture or a stream as what it is encoded in: BT.709 in limited range."""
    target.colorspace, target.color_range = BT709, LIMITED_RANGE
    if hasattr(target, "color_primaries"):  # frames of older PyAV have none
        target.color_primaries = target.color_trc = BT709


def decoded_colours(frame: av.VideoFrame) -> np.ndarray:
    """`h w 3` uint8 as players show it, or `h w 4` where there is transparency."""
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
    is_deep = any(component.bits > 8 for component in frame.format.components)
    pixels = frame.reformat(
        format=DEEP[target] if is_deep else target,
        src_colorspace=matrix,
        # Has no meaning for RGB, but older PyAV skips the matrix when both are the same.
        dst_colorspace="ITU709" if matrix == "ITU601" else "ITU601",
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
        interpolation=EXACT,
    ).to_ndarray()
    if not is_deep:
        return pixels
    return ((pixels.astype(np.uint32) + 128) >> 8).clip(0, 255).astype(np.uint8)
