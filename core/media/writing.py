"""Frames -> files: mp4, webm, gif and numbered png, written while the frames are being made.

Frames go into `<stem>.partial<suffix>` beside the target, one by one. This file is empty until its
first fragment is complete. From then on it can be played at any moment, even after the process was
killed, and holds all frames but the last ones, which the encoder still keeps: 5 with mp4, 25 with
webm, 1 with gif, none with png (two more before the first fragment if there is sound). It takes the
final name when the last frame is in (`new_files` says how names are kept apart):

* mp4  H.264 4:2:0, BT.709, collected as fragments and then copied (not encoded again) into an
       ordinary file whose index comes first, so that browsers and metadata readers need no seek;
* webm VP9 (AV1 where VP9 is missing) 4:2:0, BT.709;
* gif  a first pass keeps the frames without loss in `<stem>.partial.mkv` while the palette of the
       whole clip is gathered, a second pass dithers with a fixed pattern, which does not crawl;
* png  numbered files in a folder.

4:2:0 needs even sizes: an odd width or height grows by one replicated column or row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
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
from .gif import GifWriter
from .info import AudioClip, VideoInfo, exact_frame_rate, fault_reason
from .new_files import NewFile
from .reading import open_video
from .sound import LAYOUTS, audio_frame, mixed_down

FORMATS = ("mp4", "webm", "gif", "png")
BT709 = 1  # the same number in H.273's three tables
LIMITED_RANGE = 1
GIF_AT_ONCE = 2**24
"""Pixels of an interrupted gif that are still made into one, in about a second; more stay in the
first pass's file, which has all colours."""
GIF_MAX_RATE = 50  # browsers slow down pictures shorter than 20 ms
UNDER_WAY = {"gif": ".mkv"}
"""Suffix of a format's partial file, where it is not that of the finished one."""
OPUS_RATE = 48_000
# What AAC can be sampled at; other sound is resampled, as all sound is for Opus.
AAC_RATES = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000),
    *(24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)


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
    """Write float chunks `t c h w` or `1 t c h w` in [-1, 1] (c 1 or 3) as they come; say what was.

    `format` is one of FORMATS (by default the path's suffix; for "png" the path without suffix is
    the folder). `quality` is a constant rate factor from 0 (lossless, huge) to 51 (smallest),
    unused by gif and png. `metadata` holds texts such as "prompt" and "workflow"; sound is cut to
    the length of the pictures and only mp4 and webm carry it. A file at `path` is replaced once
    the new one is complete, but not one that appears meanwhile; for a NewFile, whose name was
    reserved before, the path that is returned may have a higher number.

    When `chunks` raises anything, KeyboardInterrupt included, the frames so far are closed into
    `<stem>.partial<suffix>` and the exception goes on. When the disk refuses, one OSError names
    the path and how many frames are kept, and where. Bad settings raise ValueError before the
    first chunk is asked for; frames of a wrong shape or with NaN do when they come.
    """
    format = _checked_format(path.path if isinstance(path, NewFile) else Path(path), format)
    rate = _checked_rate(exact_frame_rate(frame_rate), format)
    if not 0 <= quality <= 51:
        raise ValueError(f"quality {quality} must be from 0 (lossless) to 51 (smallest)")
    texts = _checked_texts(metadata or {})
    audio = _checked_audio(audio, format)
    file = path if isinstance(path, NewFile) else begin_video(Path(path), format)
    sink = _Sink(file, format, rate, quality, texts, audio)
    try:
        for chunk in chunks:
            for image in _images(chunk, sink.frames):
                sink.add(image)
            del chunk  # or it would stay alive while the next one is made
        if not sink.frames:
            raise ValueError(f"{file.path} was not written because there are no frames")
    except BaseException:
        sink.close_partial()
        raise
    return sink.finish()


# Checks before work starts.


def _checked_format(path: Path, format: str | None) -> str:
    format = (format or path.suffix.removeprefix(".")).lower()
    if format not in FORMATS:
        raise ValueError(f"format {format!r} of {path} is not one of {', '.join(FORMATS)}")
    return format


def begin_video(path: Path, format: str) -> NewFile:
    """Begin the file `path`, or for "png" the folder; OSError if it cannot be written."""
    if format == "png":
        path = path.with_suffix("") if path.suffix == ".png" else path
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise FileExistsError(f"{path} already exists and is not an empty folder")
    try:
        return NewFile.at(path, folder=format == "png", under_way=UNDER_WAY.get(format))
    except OSError as fault:
        raise OSError(
            f"{path} cannot be written, 0 frames kept: {fault_reason(fault)} ({path.parent})"
        ) from fault


def _checked_rate(rate: Fraction, format: str) -> Fraction:
    if format == "gif" and rate > GIF_MAX_RATE:
        raise ValueError(f"a GIF shows at most {GIF_MAX_RATE} frames per second, not {rate}")
    return rate


def _checked_texts(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ValueError(f"metadata {key!r} is {type(text).__name__}, not str; use json.dumps")
    return dict(metadata)


def _checked_audio(audio: AudioClip | None, format: str) -> AudioClip | None:
    if audio is None:
        return None
    if format not in ("mp4", "webm"):
        raise ValueError(f"format {format!r} cannot carry sound; use mp4 or webm")
    return mixed_down(audio)


def _images(chunk: Tensor, first: int) -> Iterator[np.ndarray]:
    """Yield a chunk's frames as `h w 3` uint8; `first` is the number of its first frame."""
    shape = tuple(chunk.shape)
    if chunk.ndim == 5 and shape[0] == 1:
        chunk = chunk[0]
    if chunk.ndim != 4 or chunk.shape[1] not in (1, 3) or not chunk.is_floating_point():
        raise ValueError(
            f"chunk {shape} of {chunk.dtype} must be float and (t, c, h, w) or (1, t, c, h, w), "
            f"c 1 or 3"
        )
    for index, frame in enumerate(chunk):  # one by one: no second copy of a large chunk
        frame = frame.detach().to("cpu", torch.float32)
        if not frame.isfinite().all():
            raise ValueError(f"frame {first + index} has NaN or infinite pixels")
        pixels = frame.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
        yield np.ascontiguousarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())


# One file under way.


class _Sink:
    """A file under way: opened by its first frame, then finished, left partial or salvaged."""

    def __init__(
        self,
        file: NewFile,
        format: str,
        frame_rate: Fraction,
        quality: int,
        metadata: dict[str, str],
        audio: AudioClip | None,
    ):
        self.file, self.format, self.frame_rate = file, format, frame_rate
        self.quality, self.metadata, self.audio = quality, metadata, audio
        self.partial = file.partial
        self.writer: _ContainerWriter | GifWriter | _FolderWriter | None = None
        self.shape: tuple[int, int] = (0, 0)
        self.frames = 0
        self.is_broken = False

    def add(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if self.writer is not None and (height, width) != self.shape:
            raise ValueError(
                f"frame {self.frames} is {width}x{height} but the clip began with "
                f"{self.shape[1]}x{self.shape[0]}"
            )
        try:
            if self.writer is None:
                self.shape = height, width
                self.writer = self._open()
            self.writer.add(image)
        except (av.error.FFmpegError, OSError) as fault:
            raise self._salvaged(fault) from fault
        self.frames += 1

    def _open(self) -> _ContainerWriter | GifWriter | _FolderWriter:
        if self.format == "gif":
            return GifWriter(self.partial, self.shape, self.frame_rate, self.metadata)
        if self.format == "png":
            return _FolderWriter(self.partial, self.frame_rate, self.metadata)
        return _ContainerWriter(self)

    def finish(self) -> VideoInfo:
        try:
            path = self.file.finish(self.writer.finish())
        except (av.error.FFmpegError, OSError) as fault:
            raise self._salvaged(fault) from fault
        height, width = self.writer.shape
        return VideoInfo(path, self.frames, width, height, self.frame_rate)

    def close_partial(self) -> None:
        """Close the frames so far into the partial file; a second fault must not hide the first."""
        if self.writer is not None and not self.is_broken:
            is_long = self.format == "gif" and self.frames * math.prod(self.shape) > GIF_AT_ONCE
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


class _ContainerWriter:
    """mp4 or webm: frames are encoded into the partial file, with sound frame by frame."""

    def __init__(self, sink: _Sink):
        self.partial, self.is_mp4 = sink.partial, sink.format == "mp4"
        self.frame_rate, self.audio, self.frames = sink.frame_rate, sink.audio, 0
        self.shape = tuple(side + side % 2 for side in sink.shape)
        # A fragment or cluster for each frame (their shortest time) can be played without closing
        # the file; "bitexact" keeps Matroska from inventing a random segment number.
        flags = "delay_moov+default_base_moof+use_metadata_tags"
        fragments = {"movflags": flags, "frag_duration": "1"}
        kind = fragments if self.is_mp4 else {"fflags": "bitexact", "cluster_time_limit": "1"}
        options = {"flush_packets": "1", **kind}
        self.container = av.open(str(self.partial), "w", format=sink.format, options=options)
        self.early: list[av.Packet] | None = []
        self.container.metadata.update(sink.metadata)
        self.stream = self._add_video(sink.quality)
        self.sound = self._add_audio() if self.audio is not None else None
        # The second frame completes the first fragment, one more if sound has to be in it. The
        # file stays empty until then: with less in it nobody could play it.
        self.early: list[av.Packet] | None = []
        self.enough = 2 if self.sound is None else 3

    def _add_video(self, quality: int) -> av.VideoStream:
        codec, options = _video_codec(self.is_mp4, quality)
        stream = self.container.add_stream(codec, rate=self.frame_rate, options=options)
        stream.height, stream.width = self.shape
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self.frame_rate
        context.gop_size = max(1, round(2 * self.frame_rate))  # seconds lost when a disk fills up
        _tag_bt709(context)
        return stream

    def _add_audio(self) -> av.AudioStream:
        rate = self.audio.sample_rate if self.is_mp4 else OPUS_RATE
        rate = rate if rate in AAC_RATES else OPUS_RATE
        layout = LAYOUTS[self.audio.waveform.shape[0]]
        codec = "aac" if self.is_mp4 else "libopus"
        return self.container.add_stream(codec, rate=rate, layout=layout)

    def add(self, image: np.ndarray) -> None:
        height, width = self.shape
        padding = (0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)
        picture = av.VideoFrame.from_ndarray(np.pad(image, padding, mode="edge"), format="rgb24")
        # Without a matrix the converter takes BT.601 whatever the file then claims.
        picture = picture.reformat(
            format="yuv420p",
            dst_colorspace="ITU709",
            src_color_range="JPEG",
            dst_color_range="MPEG",
        )
        _tag_bt709(picture)
        picture.pts, picture.time_base = self.frames, 1 / self.frame_rate
        self._mux(self.stream, picture)
        if self.sound is not None:
            self._add_sound()
        self.frames += 1

    def _add_sound(self) -> None:
        rate = self.audio.sample_rate
        begin, end = (round(n * rate / self.frame_rate) for n in (self.frames, self.frames + 1))
        samples = self.audio.waveform[:, begin:end]
        if samples.shape[1] == 0:
            return
        block = audio_frame(samples.T.reshape(1, -1), LAYOUTS[samples.shape[0]], rate)
        block.pts, block.time_base = begin, Fraction(1, rate)
        self._mux(self.sound, block)

    def _mux(
        self, stream: av.VideoStream | av.AudioStream, frame: av.VideoFrame | av.AudioFrame | None
    ) -> None:
        for packet in stream.encode(frame):
            if stream is self.stream and not packet.duration:
                packet.duration = round(1 / self.frame_rate / packet.time_base)
            if self.early is None:
                self.container.mux(packet)
                continue
            self.early.append(packet)
            if sum(one.stream is self.stream for one in self.early) == self.enough:
                self._mux_early()

    def _mux_early(self) -> None:
        packets, self.early = self.early or (), None
        for packet in packets:
            self.container.mux(packet)

    def finish(self) -> Path:
        """Complete the partial file and return it."""
        self._mux(self.stream, None)
        if self.sound is not None:
            self._mux(self.sound, None)
        self._mux_early()
        self.container.close()
        if self.is_mp4:
            _copy_index_first(self.partial)
        return self.partial

    def salvage(self) -> Path:
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        if self.is_mp4 and self.partial.exists():
            _cut_after_last_fragment(self.partial)
        return self.partial


def _video_codec(is_mp4: bool, quality: int) -> tuple[str, dict[str, str]]:
    if is_mp4:
        # x264's macroblock tree is not reproducible on small pictures, and gains 5 % at most here.
        return "libx264", {"crf": str(quality), "preset": "medium", "mbtree": "0"}
    crf = str(round(quality * 63 / 51))  # VP9 and AV1 count to 63
    if "libvpx-vp9" in av.codecs_available:
        speed = {"deadline": "good", "cpu-used": "4", "row-mt": "1"}
        return "libvpx-vp9", {"crf": crf, "b": "0", **speed}
    return "libsvtav1", {"crf": crf, "preset": "8"}


def _tag_bt709(target: av.VideoFrame | av.VideoCodecContext) -> None:
    target.colorspace, target.color_range = BT709, LIMITED_RANGE
    if hasattr(target, "color_primaries"):  # frames of older PyAV have none
        target.color_primaries = target.color_trc = BT709


def _copy_index_first(path: Path) -> None:
    """Replace a fragmented mp4 by a copy whose index (moov) precedes the data."""
    finishing = path.with_name(f"{path.stem}.finishing{path.suffix}")
    try:
        with av.open(str(path)) as source:
            options = {
                "movflags": "use_metadata_tags+faststart",
                "video_track_timescale": str(source.streams.video[0].time_base.denominator),
            }
            with av.open(str(finishing), "w", format="mp4", options=options) as copy:
                _copy_packets(source, copy)
        os.replace(finishing, path)
    except BaseException:
        finishing.unlink(missing_ok=True)
        raise


def _copy_packets(source: av.container.InputContainer, copy: av.container.OutputContainer) -> None:
    tags = {key: text for key, text in source.metadata.items() if key not in _BRAND_KEYS}
    copy.metadata.update(tags)
    # Opaque means without an encoder, which PyAV 14 would run the packets through.
    streams = {s.index: copy.add_stream_from_template(s, opaque=True) for s in source.streams}
    for packet in source.demux():
        if packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)


_BRAND_KEYS = ("major_brand", "minor_version", "compatible_brands", "encoder")


def _cut_after_last_fragment(path: Path) -> None:
    """Cut a broken fragmented mp4 after its last whole top-level box of media data."""
    size, position, end = path.stat().st_size, 0, 0
    with path.open("r+b") as file:
        while position + 8 <= size:
            file.seek(position)
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if length < 8 or position + length > size:  # unfinished (a long box stays 0 or 1)
                break
            position += length
            if kind == b"mdat":
                end = position
        file.truncate(end)


class _FolderWriter:
    """png: `00000.png`, `00001.png`, ...; the first carries the metadata and the frame rate."""

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
