"""Writes mp4, mov and webm, with frames and sound muxed in one pass."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch.nn.functional import pad

from .codecs import Encoding
from .colour import EncoderPictures, tag_bt709
from .info import AudioClip
from .scheduling import usual_scheduling
from .sound import LAYOUTS, audio_frame

OPUS_RATE = 48_000
# AAC's sampling rates; sound at other rates is resampled to OPUS_RATE, for Opus always.
AAC_RATES = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000),
    *(24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
FEW = 2  # frames that are decoded in the order in which they are shown, whatever the encoder
_BRAND_KEYS = ("major_brand", "minor_version", "compatible_brands", "encoder")


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """The settings of a file to write: format, frames per second, quality (see `codecs`), texts,
    sound, loop count (0: forever), and whether the frames `h w 4` have transparency."""

    encoding: Encoding
    frame_rate: Fraction
    quality: int
    metadata: dict[str, str]
    audio: AudioClip | None = None
    loop_count: int = 0
    has_alpha: bool = False

    @property
    def pixels(self) -> str:
        """The encoder's pixel format."""
        return self.encoding.alpha_pixels if self.has_alpha else self.encoding.pixels


class ContainerWriter:
    """Encodes frames into the partial file as they come, each with its stretch of sound."""

    def __init__(self, partial: Path, shape: tuple[int, int], settings: OutputSettings):
        self.partial, self.settings, self.frames = partial, settings, 0
        self.pictures: EncoderPictures | None = None
        encoding, audio = settings.encoding, settings.audio
        even = 2 if encoding.is_subsampled else 1
        self.shape = tuple(side + side % even for side in shape)
        # One fragment or cluster per frame keeps the file playable while it is open; "bitexact"
        # keeps Matroska from writing a random segment number.
        flags = "delay_moov+default_base_moof+use_metadata_tags"
        fragments = {"movflags": flags, "frag_duration": "1"}
        clusters = {"fflags": "bitexact", "cluster_time_limit": "1"}
        options = {"flush_packets": "1", **(fragments if encoding.is_fragmented else clusters)}
        self.container = av.open(str(partial), "w", format=encoding.muxer, options=options)
        self.container.metadata.update(settings.metadata)
        self.stream = self._add_video()
        self.sound = self._add_audio() if audio is not None else None
        # The second frame completes the first fragment, the third if there is sound. Until then the
        # file stays empty, since players could not open it.
        self.early: list[av.Packet] | None = []
        self.enough = 2 if self.sound is None else 3

    def _add_video(self) -> av.VideoStream:
        settings = self.settings
        rate, encoding = settings.frame_rate, settings.encoding
        options = encoding.options(settings.quality)
        stream = self.container.add_stream(encoding.codec, rate=rate, options=options)
        stream.height, stream.width = self.shape
        stream.pix_fmt = settings.pixels
        context = stream.codec_context
        context.time_base = 1 / rate
        context.gop_size = max(1, round(2 * rate))  # 2 s, the most that a full disk costs
        if encoding.tag is not None:
            context.codec_tag = encoding.tag
        tag_bt709(context)
        return stream

    def _add_audio(self) -> av.AudioStream:
        codec, rate = self.settings.encoding.audio, self.settings.audio.sample_rate
        if codec == "libopus" or (codec == "aac" and rate not in AAC_RATES):
            rate = OPUS_RATE
        layout = LAYOUTS[self.settings.audio.waveform.shape[0]]
        return self.container.add_stream(codec, rate=rate, layout=layout)

    def add(self, image: np.ndarray) -> None:
        """Encode a frame `h w 3` or `h w 4` (uint8, or uint16 for deep encodings) and its sound."""
        height, width = self.shape
        padding = (0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)
        image = np.pad(image, padding, mode="edge")
        if self.pictures is None:
            left_chroma = self.settings.encoding.has_left_chroma
            self.pictures = EncoderPictures(image, self.settings.pixels, left_chroma=left_chroma)
        picture = self.pictures(image)
        picture.pts, picture.time_base = self.frames, 1 / self.settings.frame_rate
        self._mux(self.stream, picture)
        if self.sound is not None:
            self._add_sound()
        self.frames += 1

    def _add_sound(self) -> None:
        waveform, rate = self.settings.audio
        begin, end = (
            round(n * rate / self.settings.frame_rate) for n in (self.frames, self.frames + 1)
        )
        if begin == end:
            return
        samples = waveform[:, begin:end]
        samples = pad(samples, (0, end - begin - samples.shape[1]))  # Silence after short sound.
        block = audio_frame(samples.T.reshape(1, -1), LAYOUTS[samples.shape[0]], rate)
        block.pts, block.time_base = begin, Fraction(1, rate)
        self._mux(self.sound, block)

    @staticmethod
    def _encoded(
        stream: av.VideoStream | av.AudioStream, frame: av.VideoFrame | av.AudioFrame | None
    ) -> list[av.Packet]:
        if stream.codec_context.is_open:
            return stream.encode(frame)
        with usual_scheduling():  # The first frame opens the encoder.
            return stream.encode(frame)

    def _mux(
        self, stream: av.VideoStream | av.AudioStream, frame: av.VideoFrame | av.AudioFrame | None
    ) -> None:
        for packet in self._encoded(stream, frame):
            if stream is self.stream and not packet.duration:
                packet.duration = round(1 / self.settings.frame_rate / packet.time_base)
            if stream is self.stream and frame is None and self.frames <= FEW:
                packet.dts = packet.pts  # x265 leaves it unset for so few: any number may be there.
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
        if self.settings.encoding.is_fragmented:
            _copy_index_first(self.partial, self.settings.encoding.muxer)
        return self.partial

    def salvage(self) -> Path:
        """Make the file playable after an error, and return its path."""
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        if self.settings.encoding.is_fragmented and self.partial.exists():
            _cut_after_last_fragment(self.partial)
        return self.partial


def _copy_index_first(path: Path, muxer: str) -> None:
    """Remux a fragmented file in place to one whose index (moov) precedes the data."""
    finishing = path.with_name(f"{path.stem}.finishing{path.suffix}")
    try:
        with av.open(str(path)) as source:
            options = {
                "movflags": "use_metadata_tags+faststart",
                "video_track_timescale": str(source.streams.video[0].time_base.denominator),
            }
            with av.open(str(finishing), "w", format=muxer, options=options) as copy:
                _copy_packets(source, copy)
        os.replace(finishing, path)
    except BaseException:
        finishing.unlink(missing_ok=True)
        raise


def _copy_packets(source: av.container.InputContainer, copy: av.container.OutputContainer) -> None:
    tags = {key: text for key, text in source.metadata.items() if key not in _BRAND_KEYS}
    copy.metadata.update(tags)
    # opaque: copy the packets; otherwise PyAV 14 would encode them again.
    streams = {s.index: copy.add_stream_from_template(s, opaque=True) for s in source.streams}
    for packet in source.demux():
        if packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)


def _cut_after_last_fragment(path: Path) -> None:
    """Truncate a broken fragmented file after its last complete top-level box of media data."""
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
