"""Draws the thumbnails of the templates from actual results of the workflows.

python tests/thumbnails.py [NAME ...]      (all take about ten minutes on two cores)

The templates dialog shows a square image with a badge over its upper left corner, so captions are
at the bottom. Workflows that start from a video show it beside or above the result; those whose
models do not come with this pack are drawn as a diagram of their groups.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from templates import NOTES, ROOT, TEMPLATES, is_embedded, read, twin

SIDE, BAR, GAP = 512, 56, 6
INK, PAPER, DIM = (240, 240, 240), (24, 26, 34), (120, 124, 136)
LETTERS = 27

Frames = list[Image.Image]
Change = Callable[[dict], None]


# Frames.


def frames(name: str, change: Change | None = None) -> list[Frames]:
    """Run a workflow with `videoldm run`; returns the frames of each saved video."""
    prompt = twin(ROOT / "workflows" / f"{name}.json")
    for node in prompt.values():
        if node["class_type"] == "VideoLDM_SaveVideo":
            node["inputs"]["format"] = "png"
    if change:
        change(prompt)
    return _run(json.dumps(prompt))


@cache
def _run(prompt: str) -> list[Frames]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workflow.json"
        file.write_text(prompt)
        command = [sys.executable, "-m", "videoldm.nodes.headless", "run", file, "--json",
                   "--output", Path(folder) / "output", "--device", "cpu"]  # fmt: skip
        done = subprocess.run([str(one) for one in command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(done.returncode)
        saved = [Path(one) for one in json.loads(done.stdout.splitlines()[-1])["files"]]
        return [[_read(one) for one in each] for _, each in groupby(saved, lambda one: one.parent)]


def _read(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _given(count: int) -> Change:
    """A change that reduces a workflow to saving the first frames of the video it loads."""

    def change(prompt: dict) -> None:
        (load,) = [key for key, node in prompt.items()
                   if node["class_type"] == "VideoLDM_LoadVideo"]  # fmt: skip
        (save,) = [key for key, node in prompt.items()
                   if node["class_type"] == "VideoLDM_SaveVideo"]  # fmt: skip
        kept = {key: prompt[key] for key in (load, save)}
        kept[load]["inputs"] |= {"count": count, "load": "frames"}
        del kept[save]["inputs"]["video"]
        kept[save]["inputs"] |= {"images": [load, 0], "frame_rate": 24.0}
        prompt.clear()
        prompt |= kept

    return change


# Drawing.


def canvas(caption: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A square image with a caption in a bar at the bottom."""
    picture = Image.new("RGB", (SIDE, SIDE), PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, caption, (SIDE / 2, SIDE - BAR / 2), LETTERS, SIDE - 20)
    return picture, draw


def write(draw, text: str, middle: tuple[float, float], size: int, width: float) -> None:
    """Write a centred line, in at most `size`, shrunk to fit the width."""
    while draw.textlength(text, font(size)) > width:
        size -= 1
    draw.text(middle, text, INK, font(size), anchor="mm")


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def place(picture: Image.Image, frame: Image.Image, box: Sequence[float], how=None) -> None:
    """Paste a frame into a box (left, top, right, bottom), scaled to cover it and cropped."""
    left, top, right, bottom = map(round, box)
    wide, high = right - left, bottom - top
    scale = max(wide / frame.width, high / frame.height)
    size = round(frame.width * scale), round(frame.height * scale)
    scaled = frame.resize(size, Image.Resampling.LANCZOS if how is None else how)
    x, y = (size[0] - wide) // 2, (size[1] - high) // 2
    picture.paste(scaled.crop((x, y, x + wide, y + high)), (left, top))


def grid(picture: Image.Image, chosen: Frames, columns: int, box: Sequence[float]) -> None:
    """Arrange frames in rows within a box."""
    rows = -(-len(chosen) // columns)
    wide, high = (box[2] - box[0] + GAP) / columns, (box[3] - box[1] + GAP) / rows
    for k, frame in enumerate(chosen):
        x, y = box[0] + wide * (k % columns), box[1] + high * (k // columns)
        place(picture, frame, (x, y, x + wide - GAP, y + high - GAP))


def spread(video: Frames, count: int) -> Frames:
    return [video[round(k * (len(video) - 1) / (count - 1))] for k in range(count)]


def tag(draw, text: str, corner: tuple[float, float], *, right: bool = False) -> None:
    """A label whose lower left or, with `right`, lower right corner is `corner`."""
    width = draw.textlength(text, font(22)) + 20
    left = corner[0] - width if right else corner[0]
    draw.rectangle((left, corner[1] - 34, left + width, corner[1]), PAPER)
    draw.text((left + 10, corner[1] - 17), text, INK, font(22), anchor="lm")


ALL = (0, 0, SIDE, SIDE - BAR)


# One function per workflow.


def text_to_video() -> Image.Image:
    (video,) = frames("text_to_video")
    picture, draw = canvas("a prompt to 61 frames, 256x256")
    place(picture, video[0], (0, 0, SIDE, 330))
    grid(picture, spread(video, 4), 4, (0, 336, SIDE, SIDE - BAR))
    return picture


def image_to_video() -> Image.Image:
    ((given,),) = frames("image_to_video", _given(1))
    (video,) = frames("image_to_video")
    picture, draw = canvas("a video that begins with a picture")
    place(picture, given, (96, 0, 416, 300), Image.Resampling.BICUBIC)
    tag(draw, "given", (96, 300))
    grid(picture, spread(video, 5)[1:], 4, (0, 310, SIDE, SIDE - BAR))
    return picture


def long_video() -> Image.Image:
    (video,) = frames("long_video")
    picture, _ = canvas("241 frames, or any number")
    grid(picture, spread(video, 16), 4, ALL)
    return picture


def text_to_long_video() -> Image.Image:
    """The subgraph's node with its widgets."""
    workflow = read(ROOT / "workflows" / "text_to_long_video.json")
    node = next(one for one in workflow["nodes"] if one["properties"].get("proxyWidgets"))
    names = [one["name"] for one in node["inputs"] if "widget" in one]
    picture, draw = canvas("a long video from one node")
    left, top, right = 56, 60, SIDE - 56
    draw.rounded_rectangle((left, top, right, SIDE - BAR - 16), 16, (53, 53, 58), DIM, 2)
    write(draw, node["title"], (SIDE / 2, top + 28), 30, right - left - 40)
    draw.line((left, top + 56, right, top + 56), DIM, 2)
    for k, (name, value) in enumerate(zip(names, node["widgets_values"], strict=True)):
        y = top + 82 + 32 * k
        draw.text((left + 20, y), name, INK, font(20), anchor="lm")
        draw.rounded_rectangle((left + 130, y - 13, right - 20, y + 13), 8, (84, 84, 92))
        words = str(value)
        while draw.textlength(words, font(18)) > right - left - 170:
            words = f"{words.removesuffix('...')[:-1]}..."
        draw.text((left + 140, y), words, INK, font(18), anchor="lm")
    return picture


def driving_simulation() -> Image.Image:
    futures = frames("driving_simulation")
    prompt = twin(ROOT / "workflows" / "driving_simulation.json")
    (boxes,) = [node["inputs"]["boxes"] for node in prompt.values() if "boxes" in node["inputs"]]
    picture, draw = canvas("bounding boxes to three futures")
    top = (156, 0, 356, 200)
    place(picture, futures[0][0], top)
    for box in json.loads(boxes):
        edges = [(top[k % 2] + 200 * box[name]) for k, name in enumerate(("x0", "y0", "x1", "y1"))]
        draw.rectangle(edges, outline=(255, 255, 255), width=3)
    for row, video in enumerate(futures):
        high = (SIDE - BAR - 206) / 3
        y = 206 + row * high
        grid(picture, spread(video, 6)[1:], 5, (0, y, SIDE, y + high - GAP))
    return picture


def interpolate_video() -> Image.Image:
    (given,) = frames("interpolate_video", _given(16))
    (video,) = frames("interpolate_video")
    picture, draw = canvas("four times the frame rate")
    side = (SIDE - 4 * GAP) / 5
    first = 4  # of the given frames
    for k in range(5):
        x = k * (side + GAP)
        slot = (x, 60, x + side, 60 + 150)
        if k % 4 == 0:
            place(picture, given[first + k // 4], slot)
        else:
            draw.rectangle(slot, outline=DIM, width=2)
            draw.text((x + side / 2, 135), "?", DIM, font(48), anchor="mm")
        place(picture, video[4 * first + k], (x, 290, x + side, 290 + 150))
    tag(draw, "before", (0, 210))
    tag(draw, "after", (0, 440))
    return picture


def upscale_video() -> Image.Image:
    (given,) = frames("upscale_video", _given(1))
    (video,) = frames("upscale_video")
    picture, draw = canvas("four times the size")
    high, wide = SIDE - BAR, (SIDE - GAP) / 2
    nearest, smooth = Image.Resampling.NEAREST, Image.Resampling.BICUBIC
    for k, (frame, how) in enumerate(((given[0], nearest), (video[0], smooth))):
        part = frame.crop([round(frame.width * at) for at in (0.17, 0.28, 0.5, 0.87)])
        place(picture, part, (k * (wide + GAP), 0, k * (wide + GAP) + wide, high), how)
    tag(draw, "64x64", (0, high))
    tag(draw, "256x256", (SIDE, high), right=True)
    return picture


def temporal_decode() -> Image.Image:
    """The same crop of a frame from both decoders and, below, its error, amplified."""

    def frame_by_frame(prompt: dict) -> None:
        (image_model,) = [key for key, node in prompt.items()
                          if node["class_type"] == "VideoLDM_LoadImageModel"]  # fmt: skip
        for node in prompt.values():
            if node["class_type"] == "VideoLDM_TemporalVAEDecodeToVideo":
                node["inputs"]["vae"] = [image_model, 2]

    at, gain, half = 10, 6, (SIDE - BAR - GAP) / 2
    (given,) = frames("temporal_decode", _given(at + 1))
    picture, draw = canvas("decoding with less flicker")
    for k, change in enumerate((frame_by_frame, None)):
        decoded = frames("temporal_decode", change)[0][at]
        far = np.abs(np.asarray(decoded, float) - np.asarray(given[at], float))
        error = Image.fromarray(np.uint8(np.clip(gain * far, 0, 255)))
        left, right = k * (SIDE + GAP) / 2, k * (SIDE + GAP) / 2 + (SIDE - GAP) / 2
        for row, one in enumerate((decoded, error)):
            part = one.crop([round(one.width * at) for at in (0.05, 0.32, 0.65, 0.85)])
            top = row * (half + GAP)
            place(picture, part, (left, top, right, top + half), Image.Resampling.NEAREST)
        corner = (left if k == 0 else right, half)
        tag(draw, ("frame by frame", "temporal")[k], corner, right=bool(k))
    tag(draw, f"error x{gain}", (0, SIDE - BAR))
    return picture


def groups_of(file: Path) -> Image.Image:
    """The groups of a workflow from top to bottom, for models that do not come with this pack."""
    workflow = read(file)
    groups = sorted(workflow["groups"], key=lambda group: group["bounding"][0])
    picture, draw = canvas(heading(workflow))
    top = 52  # the badge's
    high = (SIDE - BAR - top) / len(groups)
    gap = min(34, 0.32 * high)  # between groups; contains the shadow
    for k, group in enumerate(groups):
        y, right = top + k * high, SIDE - 40
        bottom = y + high - gap
        color = tuple(bytes.fromhex(_long(group["color"])))
        for depth in range(5, -1, -1):
            shade = tuple(round(part * (1 - 0.12 * depth)) for part in color)
            x, down = 24 + 5 * depth, depth * gap / 7
            edges = (x, y + down, right + 4 * depth, bottom + down)
            draw.rectangle(edges, shade, outline=None if depth else INK)
        title, _, more = group["title"].partition("(")
        title, _, size = (part.strip() for part in title.partition(": "))
        two = bool(size) and bottom - y > 70
        lines = [(title, 30), (size, 20)] if two else [(", ".join(filter(None, (title, size))), 30)]
        for line, (text, letters) in enumerate(lines):
            at = y + (bottom - y) * ((0.36, 0.74)[line] if two else 0.5)
            letters = min(letters, round(0.75 * (bottom - y)))
            write(draw, text, ((24 + right) / 2, at), letters, right - 60)
    return picture


def heading(workflow: dict) -> str:
    """The heading of the workflow's note."""
    (note,) = [node for node in workflow["nodes"] if node["type"] in NOTES]
    return note["widgets_values"][0].splitlines()[0].removeprefix("# ")


def _long(color: str) -> str:
    digits = color.removeprefix("#")
    return digits if len(digits) == 6 else "".join(2 * one for one in digits)


OWN = {one.__name__: one for one in (
    text_to_video, image_to_video, long_video, text_to_long_video, driving_simulation,
    interpolate_video, upscale_video, temporal_decode,
)}  # fmt: skip


def thumbnail(file: Path) -> Image.Image:
    if file.stem in OWN:
        return OWN[file.stem]()
    if not is_embedded(twin(file)):
        return groups_of(file)
    videos = frames(file.stem)
    picture, _ = canvas(heading(read(file)))
    grid(picture, spread(videos[0], 9), 3, ALL)
    return picture


def main(names: Sequence[str]) -> None:
    for file in TEMPLATES:
        if not names or file.stem in names:
            thumbnail(file).save(file.with_suffix(".jpg"), quality=88)
            print(file.with_suffix(".jpg").relative_to(ROOT), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
