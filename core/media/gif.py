"""Write a GIF in two passes, with one palette for the whole clip and never all frames in memory."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# A dither pattern that stays in place: error diffusion boils from frame to frame.
PALETTE_USE = "dither=bayer:bayer_scale=4:diff_mode=rectangle"


class GifWriter:
    """gif in two passes: lossless frames and their palette first, dithered pictures after."""

    def __init__(
        self,
        spool: Path,
        shape: tuple[int, int],
        frame_rate: Fraction,
        metadata: dict[str, str],
    ):
        self.spool = spool
        self.shape, self.frame_rate, self.metadata = shape, frame_rate, metadata
        self.frames = 0
        # A cluster for each frame, so that the file can be played at any moment. It is complete
        # with the next frame, and the file stays empty until then.
        self.early: list[av.Packet] | None = []
        options = {"flush_packets": "1", "cluster_time_limit": "1"}
        self.container = av.open(str(self.spool), "w", format="matroska", options=options)
        self.stream = self.container.add_stream("ffv1", rate=frame_rate)
        self.stream.height, self.stream.width = shape
        self.stream.pix_fmt = "bgr0"
        self.stream.codec_context.time_base = 1 / frame_rate
        self.palette = av.filter.Graph()
        nodes = [_rgb_source(self.palette, shape), self.palette.add("palettegen")]
        self.palette.link_nodes(*nodes, self.palette.add("buffersink")).configure()

    def add(self, image: np.ndarray) -> None:
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts, picture.time_base = self.frames, 1 / self.frame_rate
        self.palette.push(picture.reformat(format="bgra"))
        self._spool(picture.reformat(format="bgr0"))
        self.frames += 1

    def _spool(self, picture: av.VideoFrame | None) -> None:
        packets = self.stream.encode(picture)
        if self.early is not None:
            self.early += packets
            if picture is not None and len(self.early) < 2:
                return
            packets, self.early = self.early, None
        for packet in packets:
            self.container.mux(packet)

    def finish(self) -> Path:
        """Write the GIF beside the lossless frames, remove those, and return it."""
        self._spool(None)
        self.container.close()
        self.palette.push(None)
        target = self.spool.with_suffix(".gif")
        encoded, finishing = (
            target.with_name(f"{target.stem}.{stage}{target.suffix}")
            for stage in ("encoding", "finishing")
        )
        try:
            self._encode(encoded, self.palette.pull())
            _insert_comment(encoded, finishing, self.metadata)
            os.replace(finishing, target)
        finally:
            encoded.unlink(missing_ok=True)
            finishing.unlink(missing_ok=True)
        self.spool.unlink()
        return target

    def _encode(self, finishing: Path, palette: av.VideoFrame) -> None:
        graph = av.filter.Graph()
        frames, colours = _rgb_source(graph, self.shape), _rgb_source(graph, (16, 16))
        mapper, sink = graph.add("paletteuse", PALETTE_USE), graph.add("buffersink")
        frames.link_to(mapper, 0, 0)
        colours.link_to(mapper, 0, 1)
        mapper.link_to(sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        with (
            av.open(str(self.spool)) as source,
            av.open(str(finishing), "w", format="gif", options={"loop": "0"}) as gif,
        ):
            stream = gif.add_stream("gif", rate=self.frame_rate)
            stream.height, stream.width = self.shape
            stream.pix_fmt = "pal8"
            stream.codec_context.time_base = Fraction(1, 100)
            for index, picture in enumerate(source.decode(video=0)):
                picture = picture.reformat(format="bgra")
                picture.pts, picture.time_base = index, Fraction(1, 100)
                frames.push(picture)
                self._mux(gif, stream, sink.pull(), index)
            gif.mux(stream.encode(None))

    def _mux(
        self,
        gif: av.container.OutputContainer,
        stream: av.VideoStream,
        picture: av.VideoFrame,
        index: int,
    ) -> None:
        # Whole hundredths of a second, rounded so that the sum never drifts from the clock.
        begin, end = (round(n * 100 / self.frame_rate) for n in (index, index + 1))
        picture.pts, picture.time_base = begin, Fraction(1, 100)
        for packet in stream.encode(picture):
            packet.duration = end - begin
            gif.mux(packet)

    def salvage(self) -> Path:
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        return self.spool


def _rgb_source(graph: av.filter.Graph, shape: tuple[int, int]) -> av.filter.context.FilterContext:
    height, width = shape
    return graph.add_buffer(width=width, height=height, format="bgra", time_base=Fraction(1, 100))


def _insert_comment(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Copy a GIF with the metadata, as a JSON object, in a comment block before the pictures."""
    text = json.dumps(metadata, ensure_ascii=False).encode() if metadata else b""
    blocks = (text[i : i + 255] for i in range(0, len(text), 255))
    with source.open("rb") as encoded, target.open("wb") as gif:
        header = encoded.read(13)
        has_palette, depth = header[10] >> 7, (header[10] & 7) + 1
        gif.write(header + encoded.read(3 * 2**depth if has_palette else 0))
        if text:
            gif.write(b"\x21\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\x00")
        shutil.copyfileobj(encoded, gif)
