"""Contact sheets: one image with each video as a captioned row of evenly spaced frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..graph.wording import counted
from .info import VideoInfo
from .reading import open_video, read_frames

GAP = 4  # pixels between frames
CAPTION_SIZE = 12  # pixels, the height of the letters
CAPTION_LINE = CAPTION_SIZE + 4
PAPER, INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(
    videos: Sequence[Tensor | Iterable[Tensor]],
    *,
    frames_per_row: int = 8,
    labels: Sequence[str] | None = None,
    scale: float = 1,
) -> Image.Image:
    """Lay out one row per video: at most `frames_per_row` frames, including the first and the last.

    A video is float `t 3 h w` in [-1, 1] or an iterable of such chunks, which is consumed once
    while keeping only some frames. `labels` are captions above the rows; `scale` multiplies sizes
    (nearest neighbour for a whole number, else Lanczos).
    """
    if not videos:
        raise ValueError("a contact sheet needs at least 1 video, not 0")
    if frames_per_row < 1 or scale <= 0:
        raise ValueError(f"frames_per_row {frames_per_row} and scale {scale} must be positive")
    if labels is not None and len(labels) != len(videos):
        raise ValueError(f"{len(labels)} labels do not fit {counted(len(videos), 'video')}")
    rows = [_row(_evenly(video, frames_per_row), scale) for video in videos]
    return _stack(rows, labels)


def sheet_from_video(
    path: str | PathLike[str],
    *,
    frames_per_row: int = 8,
    rows: int = 1,
    label: str | None = None,
    scale: float = 1,
) -> Image.Image:
    """Lay out evenly spaced frames of a file over `rows` rows, with `label` or its properties as
    caption."""
    info = open_video(path)
    if rows < 1:
        raise ValueError(f"rows {rows} must be at least 1")
    wanted = min(frames_per_row * rows, info.frames)
    picked = torch.cat(list(_picked(read_frames(path), even_positions(info.frames, wanted))))
    lines = list(picked.split(frames_per_row))
    captions = [label or describe(info), *[""] * (len(lines) - 1)]
    return contact_sheet(lines, frames_per_row=frames_per_row, labels=captions, scale=scale)


def describe(info: VideoInfo) -> str:
    """Describe a video in one line: name, length, size and frame rate."""
    rate = f"{float(info.frame_rate):.3f}".rstrip("0").rstrip(".")
    return (
        f"{info.path.name}: {counted(info.frames, 'frame')}, {info.width}x{info.height}, {rate} fps"
    )


def even_positions(frames: int, count: int) -> list[int]:
    """Spread `count` positions over `frames` frames, including the first and the last."""
    if count >= frames:
        return list(range(frames))
    return [round(i * (frames - 1) / max(count - 1, 1)) for i in range(count)]


def _picked(chunks: Iterable[Tensor], positions: list[int]) -> Iterator[Tensor]:
    first = 0
    for chunk in chunks:
        inside = [p - first for p in positions if first <= p < first + len(chunk)]
        if inside:
            yield chunk[inside]
        first += len(chunk)


def _evenly(video: Tensor | Iterable[Tensor], count: int) -> Tensor:
    """Pick evenly spaced frames, `t 3 h w`; an iterable's length is known only at its end."""
    if isinstance(video, Tensor):
        video = video[0] if video.ndim == 5 and video.shape[0] == 1 else video
        video = [video[even_positions(len(video), count)]]
    frames = _thinned(video, 8 * count)
    return torch.stack([frames[p] for p in even_positions(len(frames), count)])


def _thinned(chunks: Iterable[Tensor], most: int) -> list[Tensor]:
    """Keep fewer than 2 `most` evenly spaced frames, and the last, by dropping every other one."""
    kept: list[Tensor] = []
    step, index, last = 1, -1, None
    for chunk in chunks:
        if chunk.ndim == 5 and chunk.shape[0] == 1:
            chunk = chunk[0]
        if chunk.ndim != 4 or chunk.shape[1] != 3:
            raise ValueError(f"a video's frames must be (t, 3, h, w), not {tuple(chunk.shape)}")
        for frame in chunk:
            index, last = index + 1, frame
            if index % step == 0:
                kept.append(frame.clone())  # a view would keep the whole chunk
            if len(kept) >= 2 * most:
                kept, step = kept[::2], 2 * step
    if last is None:
        raise ValueError("a video of a contact sheet has 0 frames")
    if index % step:
        kept.append(last.clone())
    return kept


def _row(frames: Tensor, scale: float) -> Image.Image:
    pictures = [_picture(frame, scale) for frame in frames]
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), PAPER)
    for index, picture in enumerate(pictures):
        row.paste(picture, (index * (width + GAP), 0))
    return row


def _picture(frame: Tensor, scale: float) -> Image.Image:
    pixels = frame.detach().to("cpu", torch.float32).add(1).mul(127.5).round().clamp(0, 255)
    picture = Image.fromarray(np.ascontiguousarray(pixels.byte().permute(1, 2, 0).numpy()))
    if scale == 1:
        return picture
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    kind = Image.Resampling.NEAREST if scale == int(scale) else Image.Resampling.LANCZOS
    return picture.resize(size, kind)


def _stack(rows: list[Image.Image], labels: Sequence[str] | None) -> Image.Image:
    captions = list(labels) if labels is not None else [""] * len(rows)
    heights = [
        row.height + GAP + (CAPTION_LINE if text else 0)
        for row, text in zip(rows, captions, strict=True)
    ]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width + 2 * GAP, sum(heights) + GAP), PAPER)
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(CAPTION_SIZE), GAP
    for row, text, height in zip(rows, captions, heights, strict=True):
        if text:
            draw.text((GAP, top), _fitted(text, font, width), fill=INK, font=font)
        sheet.paste(row, (GAP, top + (CAPTION_LINE if text else 0)))
        top += height
    return sheet


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a caption with an ellipsis until it fits the sheet."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
