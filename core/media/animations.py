"""Writes animated images in two passes, never with all frames in memory.

The first pass stores the frames losslessly in a Matroska file that is playable at any moment. The
second encodes them as GIF (with one palette for the whole video), WebP or APNG.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .animation_texts import insert_texts
from .container import OutputSettings

# An ordered dither pattern, which stays in place; error diffusion flickers from frame to frame.
PALETTE_USE = "dither=bayer:bayer_scale=4:diff_mode=rectangle"
# Durations are whole multiples of this unit in seconds; APNG has fractions.
CLOCKS = {".gif": Fraction(1, 100), ".webp": Fraction(1, 1000)}
MUXERS = {".gif": "gif", ".webp": "webp", ".png": "apng"}


class AnimationWriter:
    """Writes an animated image: `add` frames, then `finish`, or `salvage` the first pass."""

    def __init__(self, partial: Path, shape: tuple[int, int], settings: OutputSettings):
        self.spool, self.shape, self.settings, self.frames = partial, shape, settings, 0
        # One cluster per frame keeps the file playable at any moment. A cluster is complete with
        # the next frame; until the first one is, the file stays empty.
        self.early: list[av.Packet] | None = []
        options = {"flush_packets": "1", "cluster_time_limit": "1"}
        self.container = av.open(str(self.spool), "w", format="matroska", options=options)
        self.stream = self.container.add_stream("ffv1", rate=settings.frame_rate)
        self.stream.height, self.stream.width = shape
        self.stream.pix_fmt = "bgra" if settings.has_alpha else "bgr0"
        self.stream.codec_context.time_base = 1 / settings.frame_rate
        self.palette = _PaletteFinder(shape, settings.has_alpha) if self._is_gif else None

    @property
    def _is_gif(self) -> bool:
        return self.settings.encoding.suffix == ".gif"

    def add(self, image: np.ndarray) -> None:
        """Store a uint8 frame `h w 3`, or `h w 4` if the settings have alpha."""
        picture = av.VideoFrame.from_ndarray(image, "rgba" if image.shape[2] == 4 else "rgb24")
        picture.pts, picture.time_base = self.frames, 1 / self.settings.frame_rate
        if self.palette is not None:
            self.palette.add(picture.reformat(format="bgra"))
        self._spool(picture.reformat(format=self.stream.pix_fmt))
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
        """Write the animation next to the lossless frames, remove those, and return its path."""
        self._spool(None)
        self.container.close()
        target = self.spool.with_suffix(self.settings.encoding.suffix)
        encoded, finishing = (
            target.with_name(f"{target.stem}.{stage}{target.suffix}")
            for stage in ("encoding", "finishing")
        )
        try:
            self._encode(encoded)
            insert_texts(encoded, finishing, self.settings.metadata)
            os.replace(finishing, target)
        finally:
            encoded.unlink(missing_ok=True)
            finishing.unlink(missing_ok=True)
        self.spool.unlink()
        return target

    def salvage(self) -> Path:
        """Close the file of lossless frames so far and return its path."""
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        return self.spool

    def _encode(self, path: Path) -> None:
        rate, encoding = self.settings.frame_rate, self.settings.encoding
        clock = CLOCKS.get(encoding.suffix, 1 / rate)
        muxer = MUXERS[encoding.suffix]
        with (
            av.open(str(self.spool)) as source,
            av.open(str(path), "w", format=muxer, options=self._loops()) as target,
        ):
            options = encoding.options(self.settings.quality)
            stream = target.add_stream(encoding.codec, rate=rate, options=options)
            stream.height, stream.width = self.shape
            stream.pix_fmt = _PIXELS[encoding.suffix, self.settings.has_alpha]
            stream.codec_context.time_base = clock
            for index, picture in enumerate(self._mapped(source, stream.pix_fmt)):
                # Round the times, not the durations, so that the error does not accumulate.
                begin, end = (round(n / rate / clock) for n in (index, index + 1))
                picture.pts, picture.time_base = begin, clock
                for packet in stream.encode(picture):
                    packet.duration = end - begin
                    target.mux(packet)
            target.mux(stream.encode(None))

    def _mapped(self, source: av.container.InputContainer, pixels: str) -> Iterator[av.VideoFrame]:
        pictures = source.decode(video=0)
        if self.palette is not None:
            return self.palette.mapped(pictures)
        return (picture.reformat(format=pixels) for picture in pictures)

    def _loops(self) -> dict[str, str]:
        """The muxer's loop option: GIF counts repetitions (-1: none), the others count plays."""
        plays = self.settings.loop_count
        if self._is_gif:
            return {"loop": str(plays - 1 if plays != 1 else -1) if plays else "0"}
        return {"plays" if self.settings.encoding.suffix == ".png" else "loop": str(plays)}


_PIXELS = {
    (".gif", False): "pal8", (".gif", True): "pal8", (".webp", False): "bgra",
    (".webp", True): "bgra", (".png", False): "rgb24", (".png", True): "rgba",
}  # fmt: skip


class _PaletteFinder:
    """Finds one palette for all added frames, then maps frames to it."""

    def __init__(self, shape: tuple[int, int], has_alpha: bool):
        self.shape = shape
        self.graph = av.filter.Graph()
        reserved = f"reserve_transparent={int(has_alpha)}"
        nodes = [_rgb_source(self.graph, shape), self.graph.add("palettegen", reserved)]
        self.graph.link_nodes(*nodes, self.graph.add("buffersink")).configure()

    def add(self, picture: av.VideoFrame) -> None:
        self.graph.push(picture)

    def mapped(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield the frames in the palette's colours, with time stamps from 0."""
        self.graph.push(None)
        palette, graph = self.graph.pull(), av.filter.Graph()
        frames, colours = _rgb_source(graph, self.shape), _rgb_source(graph, (16, 16))
        mapper, sink = graph.add("paletteuse", PALETTE_USE), graph.add("buffersink")
        frames.link_to(mapper, 0, 0)
        colours.link_to(mapper, 0, 1)
        mapper.link_to(sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        for index, picture in enumerate(pictures):
            picture = picture.reformat(format="bgra")
            picture.pts, picture.time_base = index, Fraction(1, 100)
            frames.push(picture)
            yield sink.pull()


def _rgb_source(graph: av.filter.Graph, shape: tuple[int, int]) -> av.filter.context.FilterContext:
    height, width = shape
    return graph.add_buffer(width=width, height=height, format="bgra", time_base=Fraction(1, 100))
