"""Writes videos, animated images and numbered PNG files while the frames are generated.

Frames are written one by one to `<stem>.partial<suffix>` next to the target. This file is empty
until its first fragment is complete. After that it is playable at any moment, even if the process
is killed, and has all frames except those still in the encoder: 5 with H.264, 25 with VP9, about 50
with H.265 and AV1, 1 with animated images, none with png (two more before the first fragment if
there is sound). It is renamed after the last frame; see `new_files`. `codecs` lists the formats:

* mp4, mov   written as fragments, then remuxed (not encoded again) to an ordinary file with its
             index first, so that browsers and metadata readers need not seek;
* webm       written in clusters and left as it is;
* gif, webp, apng  a first pass stores the frames losslessly in `<stem>.partial.mkv`, a second one
             encodes them: gif with one palette for the whole video and ordered dithering, which
             does not flicker;
* png        numbered files in a folder.

4:2:0 needs even sizes: an odd width or height is padded by replicating one column or row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..graph.wording import counted
from .animations import AnimationWriter
from .codecs import BEST, BY_SUFFIX, SMALLEST, Encoding
from .colour import DEEP_WHITE
from .container import ContainerWriter, OutputSettings
from .hardware import encoding_of
from .info import AudioClip, VideoInfo, exact_frame_rate, fault_reason
from .new_files import NewFile
from .pictures import over_black
from .reading import open_video
from .sound import mixed_down

AT_ONCE = 2**24
"""Up to this many pixels, an interrupted animation is still encoded, in about a second; a longer
one is left as the lossless file of the first pass."""
GIF_MAX_RATE = 50  # browsers slow down pictures shorter than 20 ms
MAX_LOOPS = 65535


def write_video(
    path: str | PathLike[str] | NewFile,
    chunks: Iterable[Tensor],
    *,
    frame_rate: Fraction | float,
    format: str | None = None,
    quality: int = 18,
    metadata: Mapping[str, str] | None = None,
    audio: AudioClip | None = None,
) -> VideoInfo:
    """Write float chunks `t c h w` or `1 t c h w` in [-1, 1] as they are generated.

    c is 1, 3, or 4 with alpha last (1 is opaque), blended over black in formats without
    transparency. `format` is one of FORMATS or of this machine's hardware formats (default: by the
    path's suffix; for "png" the folder is the path without suffix). `quality` is a constant rate
    factor from 0 (lossless, huge) to 51 (smallest), unused by gif, apng, png and ProRes.
    `metadata` holds texts such as "prompt" and "workflow". Sound is cut or padded with silence to
    the length of the frames; only mp4, mov and webm can have it. A file at `path` is replaced once
    the new one is complete, but not one that appears meanwhile; for a numbered NewFile, the
    returned path may have a higher number.

    If `chunks` raises anything, including KeyboardInterrupt, the frames so far are saved in
    `<stem>.partial<suffix>` and the exception propagates. If writing fails, one OSError names the
    path and how many frames were saved, and where. Bad settings raise ValueError before the first
    chunk is requested; frames with a wrong shape, NaN or infinity when they arrive.
    """
    settings = checked_settings(
        path, frame_rate=frame_rate, format=format, quality=quality, metadata=metadata, audio=audio
    )
    return write_checked(path, chunks, settings)


def write_checked(
    path: str | PathLike[str] | NewFile, chunks: Iterable[Tensor], settings: OutputSettings
) -> VideoInfo:
    """As `write_video`, with checked settings."""
    file = path if isinstance(path, NewFile) else _begin(Path(path), settings.encoding)
    sink = _Sink(file, settings)
    try:
        for chunk in chunks:
            for image in _images(chunk, sink.frames, settings.encoding):
                sink.add(image)
            del chunk  # free it before the next one is generated
        if not sink.frames:
            raise ValueError(f"{file.path} was not written because there are no frames")
    except BaseException:
        sink.close_partial()
        raise
    return sink.finish()


# Checks before work starts.


def checked_settings(
    path: str | PathLike[str] | NewFile,
    *,
    frame_rate: Fraction | float,
    format: str | None = None,
    quality: int = 18,
    metadata: Mapping[str, str] | None = None,
    audio: AudioClip | None = None,
    loop_count: int = 0,
) -> OutputSettings:
    """Check the settings of `write_video` and return them for `write_checked`; ValueError for bad
    ones.

    loop_count: how often a gif, webp or apng plays, 0 forever; other formats ignore it.
    """
    path = path.path if isinstance(path, NewFile) else Path(path)
    encoding = _encoding(path, format)
    if not BEST <= quality <= SMALLEST:
        raise ValueError(f"quality {quality} must be from 0 (lossless) to 51 (smallest)")
    if not 0 <= loop_count <= MAX_LOOPS:
        raise ValueError(f"loop_count {loop_count} must be from 0 (for ever) to {MAX_LOOPS}")
    return OutputSettings(
        encoding=encoding,
        frame_rate=_checked_rate(exact_frame_rate(frame_rate), encoding),
        quality=quality,
        metadata=_checked_texts(metadata or {}),
        audio=_checked_audio(audio, encoding),
        loop_count=loop_count,
    )


def _encoding(path: Path, format: str | None) -> Encoding:
    if format is not None:
        return encoding_of(format)
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in BY_SUFFIX:
        raise ValueError(f"format {suffix!r} of {path} is not one of {', '.join(BY_SUFFIX)}")
    return encoding_of(BY_SUFFIX[suffix])


def begin_video(path: Path, format: str | None = None) -> NewFile:
    """Start the file `path`, or for "png" the folder; OSError if it cannot be written."""
    return _begin(path, _encoding(path, format))


def _begin(path: Path, encoding: Encoding) -> NewFile:
    is_folder = not encoding.suffix
    if is_folder:
        path = path.with_suffix("") if path.suffix == ".png" else path
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise FileExistsError(f"{path} already exists and is not an empty folder")
    try:
        return NewFile.at(path, folder=is_folder, partial_suffix=encoding.partial_suffix)
    except OSError as fault:
        raise OSError(
            f"{path} cannot be written, 0 frames kept: {fault_reason(fault)} ({path.parent})"
        ) from fault


def _checked_rate(rate: Fraction, encoding: Encoding) -> Fraction:
    if encoding.suffix == ".gif" and rate > GIF_MAX_RATE:
        raise ValueError(f"a GIF shows at most {GIF_MAX_RATE} frames per second, not {rate}")
    return rate


def _checked_texts(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ValueError(f"metadata {key!r} is {type(text).__name__}, not str; use json.dumps")
    return dict(metadata)


def _checked_audio(audio: AudioClip | None, encoding: Encoding) -> AudioClip | None:
    if audio is None:
        return None
    if encoding.audio is None:
        kind = encoding.suffix.removeprefix(".") or "png"
        raise ValueError(f"format {kind!r} cannot carry sound; use mp4 or webm")
    return mixed_down(audio)


def _images(chunk: Tensor, first: int, encoding: Encoding) -> Iterator[np.ndarray]:
    """Yield a chunk's frames as `h w 3` or `h w 4`, uint8 or for deep encodings uint16; `first` is
    the index of its first frame, for errors."""
    shape = tuple(chunk.shape)
    if chunk.ndim == 5 and shape[0] == 1:
        chunk = chunk[0]
    if chunk.ndim != 4 or chunk.shape[1] not in (1, 3, 4) or not chunk.is_floating_point():
        raise ValueError(
            f"chunk {shape} of {chunk.dtype} must be float and (t, c, h, w) or (1, t, c, h, w), "
            f"c 1, 3 or 4"
        )
    white, kind = (DEEP_WHITE, np.uint16) if encoding.deep else (255, np.uint8)
    for index, frame in enumerate(chunk):  # one by one: no second copy of a large chunk
        frame = frame.detach().to("cpu", torch.float32)
        if not frame.isfinite().all():
            raise ValueError(f"frame {first + index} has NaN or infinite pixels")
        pixels = frame.add(1).mul_(white / 2).round_().clamp_(0, white)
        pixels = pixels.expand(max(3, len(pixels)), -1, -1).permute(1, 2, 0)
        image = np.ascontiguousarray(pixels.numpy().astype(kind))
        is_transparent = image.shape[2] == 4 and encoding.alpha_pixels is None
        yield over_black(image) if is_transparent else image


# Writing one file.


class _Sink:
    """Writes one file: opened at the first frame, then finished, closed partial or salvaged."""

    def __init__(self, file: NewFile, settings: OutputSettings):
        self.file, self.settings, self.partial = file, settings, file.partial
        self.writer: ContainerWriter | AnimationWriter | _FolderWriter | None = None
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.frames = 0
        self.is_broken = False

    def add(self, image: np.ndarray) -> None:
        if self.writer is not None and image.shape != self.shape:
            raise ValueError(
                f"frame {self.frames} is {_described(image.shape)} but the video began with "
                f"{_described(self.shape)}"
            )
        try:
            if self.writer is None:
                self.shape = image.shape
                self.writer = self._open()
            self.writer.add(image)
        except (av.error.FFmpegError, OSError) as fault:
            raise self._salvaged(fault) from fault
        self.frames += 1

    def _open(self) -> ContainerWriter | AnimationWriter | _FolderWriter:
        settings = replace(self.settings, has_alpha=self.shape[2] == 4)
        if not settings.encoding.suffix:
            return _FolderWriter(self.partial, settings.frame_rate, settings.metadata)
        kind = AnimationWriter if settings.encoding.loops else ContainerWriter
        return kind(self.partial, self.shape[:2], settings)

    def finish(self) -> VideoInfo:
        try:
            path = self.file.finish(self.writer.finish())
        except (av.error.FFmpegError, OSError) as fault:
            raise self._salvaged(fault) from fault
        height, width = self.writer.shape
        return VideoInfo(path, self.frames, width, height, self.settings.frame_rate)

    def close_partial(self) -> None:
        """Save the frames so far in the partial file, suppressing further write errors, which would
        hide the first one."""
        if self.writer is not None and not self.is_broken:
            pixels = self.frames * math.prod(self.shape[:2])
            is_long = self.settings.encoding.loops and pixels > AT_ONCE
            with suppress(av.error.FFmpegError, OSError):
                self.writer.salvage() if is_long else self.writer.finish()
        self.file.discard()

    def _salvaged(self, fault: BaseException) -> OSError:
        self.is_broken = True
        kept, place = 0, self.partial
        if self.writer is not None:
            place = self.writer.salvage()
            place = self.file.left() or place
            with suppress(ValueError, OSError):
                kept = open_video(place).frames
        if not kept:
            place.unlink(missing_ok=True) if not place.is_dir() else self.file.discard()
        where = f" in {place}" if kept else ""
        return OSError(
            f"{self.file.path} cannot be written, {kept} of {counted(self.frames, 'frame')} kept"
            f"{where}: {fault_reason(fault)}"
        )


def _described(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[0]}" + (" with transparency" if shape[2] == 4 else "")


class _FolderWriter:
    """Writes `00000.png`, `00001.png`, ...; the first has the metadata and the frame rate."""

    def __init__(self, partial: Path, frame_rate: Fraction, metadata: dict[str, str]):
        self.partial, self.frames, self.shape = partial, 0, (0, 0)
        self.text = PngInfo()
        for key, value in {**metadata, "frame_rate": str(frame_rate)}.items():
            self.text.add_text(key, value)

    def add(self, image: np.ndarray) -> None:
        path = self.partial / f"{self.frames:05d}.png"
        try:
            Image.fromarray(image).save(path, pnginfo=None if self.frames else self.text)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self.frames, self.shape = self.frames + 1, image.shape[:2]

    def finish(self) -> Path:
        return self.partial

    def salvage(self) -> Path:
        return self.partial
