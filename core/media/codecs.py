"""The formats that can be written: container, codec, pixel formats and settings of each.

For every codec, `quality` is a constant rate factor from 0 (lossless) to 51 (smallest): it is
mapped linearly to the codec's own scale, and 0 to its lossless mode if it has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

BEST, SMALLEST = 0, 51


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The encoding of one format.

    suffix: of the file; "" is a folder of images. partial_suffix: suffix of the partial file, if it
    differs. muxer, codec: FFmpeg's names. pixels, alpha_pixels: pixel formats of opaque and of
    transparent frames (None: no transparency). deep: more than 8 bits per sample. audio: the audio
    codec, None if there is no sound. loops: whether the file has a loop count. options: the codec's
    settings for a quality. tag: the codec's name inside the file.
    """

    suffix: str
    muxer: str = ""
    codec: str = ""
    pixels: str = "rgb24"
    alpha_pixels: str | None = None
    deep: bool = False
    audio: str | None = None
    loops: bool = False
    partial_suffix: str | None = None
    tag: str | None = None
    options: Callable[[int], dict[str, str]] = lambda quality: {}

    @property
    def is_fragmented(self) -> bool:
        """Whether it is written in fragments, which are remuxed to an ordinary file at the end."""
        return self.muxer in ("mp4", "mov")

    @property
    def has_left_chroma(self) -> bool:
        """Whether decoders take subsampled chroma to be sited at the left pixel of each pair."""
        return self.is_subsampled and self.codec.startswith(("libx26", "h264", "hevc"))

    @property
    def is_subsampled(self) -> bool:
        """Whether chroma is stored at half the resolution (4:2:0), which needs even sides."""
        return "420" in self.pixels or self.pixels == "nv12"


def _x264(quality: int) -> dict[str, str]:
    # x264's macroblock tree is not reproducible on small frames, and gains 5 % at most here.
    return {"crf": str(quality), "preset": "medium", "mbtree": "0"}


def _x265(quality: int) -> dict[str, str]:
    # x265's cutree corrupts memory with some small frames, such as 48x32.
    quiet = "log-level=none:cutree=0"
    lossless = ":lossless=1" if quality == BEST else ""
    return {"crf": str(quality), "preset": "medium", "x265-params": quiet + lossless}


def _vp9(quality: int) -> dict[str, str]:
    speed = {"deadline": "good", "cpu-used": "4", "row-mt": "1"}
    lossless = {"lossless": "1"} if quality == BEST else {}
    return {"crf": _of_63(quality), "b": "0", **speed, **lossless}


def _svt_av1(quality: int) -> dict[str, str]:
    # By default the library prints its settings to the terminal.
    os.environ.setdefault("SVT_LOG", "1")
    lossless = {"svtav1-params": "lossless=1"} if quality == BEST else {}
    return {"crf": _of_63(quality), "preset": "8", **lossless}


def _of_63(quality: int) -> str:
    """The rate factor of VP9 and AV1, from 0 to 63."""
    return str(round(quality * 63 / SMALLEST))


def _prores(quality: int) -> dict[str, str]:
    return {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}


def _webp(quality: int) -> dict[str, str]:
    """WebP's quality is from 0 (smallest) to 100."""
    lossless = {"lossless": "1"} if quality == BEST else {}
    return {"quality": str(round(100 - quality * 100 / SMALLEST)), **lossless}


_MP4 = Encoding(suffix=".mp4", muxer="mp4", codec="libx264", pixels="yuv420p", audio="aac",
                options=_x264)  # fmt: skip
_WEBM = Encoding(suffix=".webm", muxer="webm", codec="libvpx-vp9", pixels="yuv420p",
                 alpha_pixels="yuva420p", audio="libopus", options=_vp9)  # fmt: skip
_AV1 = {"codec": "libsvtav1", "options": _svt_av1, "alpha_pixels": None}

ENCODINGS = {
    "mp4": _MP4,
    "webm": _WEBM,
    "gif": Encoding(suffix=".gif", partial_suffix=".mkv", alpha_pixels="rgba", loops=True,
                    codec="gif"),
    "png": Encoding(suffix="", alpha_pixels="rgba"),
    "mp4 (H.265)": replace(_MP4, codec="libx265", tag="hvc1", options=_x265),
    "mp4 (AV1)": replace(_MP4, **_AV1),
    "webm (AV1)": replace(_WEBM, **_AV1),
    "mov (ProRes 4444)": Encoding(
        suffix=".mov", muxer="mov", codec="prores_ks", pixels="yuv444p10le",
        alpha_pixels="yuva444p10le", deep=True, audio="pcm_s16le", options=_prores,
    ),
    "webp": Encoding(suffix=".webp", partial_suffix=".mkv", alpha_pixels="rgba", loops=True,
                     codec="libwebp", options=_webp),
    "apng": Encoding(suffix=".png", partial_suffix=".mkv", alpha_pixels="rgba", loops=True,
                     codec="apng"),
}  # fmt: skip
"""The formats encoded on the CPU; `hardware` adds those of this machine's hardware encoders."""
FORMATS = tuple(ENCODINGS)
BY_SUFFIX = {"mp4": "mp4", "webm": "webm", "gif": "gif", "png": "png", "webp": "webp",
             "mov": "mov (ProRes 4444)"}  # fmt: skip
