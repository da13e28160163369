"""RGB <-> what codecs store: matrix, range and tags, the same ones written, tagged and read.

Written are BT.709 matrix, primaries and transfer in limited range, or full-range RGB. Read is what
the stream's tags say.
"""

from __future__ import annotations

import av
import numpy as np

BT709 = 1  # the same number in H.273's three tables
LIMITED_RANGE = 1
# H.273 matrix coefficients (what the stream is tagged with) -> swscale's name.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
FULL_RANGE = ("yuvj", "gray", "ya8", "ya16")  # formats that have no other one
# Arrays `h w c` by (channels, bytes of a sample).
ARRAYS = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}


def encoder_picture(image: np.ndarray, pixel_format: str) -> av.VideoFrame:
    """A picture `h w 3` or `h w 4` (uint8 or uint16, full range) in an encoder's pixel format."""
    picture = av.VideoFrame.from_ndarray(image, ARRAYS[image.shape[2], image.dtype.itemsize])
    if av.VideoFormat(pixel_format).is_rgb:
        return picture.reformat(format=pixel_format)
    # Without a matrix the converter takes BT.601 whatever the file then claims.
    picture = picture.reformat(
        format=pixel_format,
        dst_colorspace="ITU709",
        src_color_range="JPEG",
        dst_color_range="MPEG",
    )
    tag_bt709(picture)
    return picture


def tag_bt709(target: av.VideoFrame | av.VideoCodecContext) -> None:
    """Say of a picture or a stream what `encoder_picture` makes."""
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
    return frame.reformat(
        format=target,
        src_colorspace=matrix,
        # Has no meaning for RGB, but older PyAV skips the matrix when both are the same.
        dst_colorspace="ITU709" if matrix == "ITU601" else "ITU601",
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
    ).to_ndarray()
