"""Small workflows in API form that run in a moment, from which mutations start."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from videoldm.nodes.choices import VIDEO_FORMATS

from . import values

Flow = dict[str, Any]
RENDERED = "rendered: shapes"
SINGLE_SEGMENT = {
    "strategy": "single clip", "strategy.context_frames": 1, "strategy.context_guidance": 1.0,
    "strategy.perturbation": 0,
}  # fmt: skip
SLIDING_WINDOWS = {
    "strategy": "sliding windows", "strategy.window": 4, "strategy.overlap": 1,
    "strategy.context_frames": 1, "strategy.free_noise": True,
}  # fmt: skip


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def load_video(file: str = RENDERED, **changes: Any) -> dict[str, Any]:
    common = {"start": 0, "count": 3, "stride": 1, "width": 16, "height": 16, "fit": "crop",
              "multiple_of": 8}  # fmt: skip
    return node("VideoLDM_LoadVideo", file=file, **common | changes)


def save_video(prefix: str = "clip", format: str = "mp4", **clip: Any) -> dict[str, Any]:
    return node("VideoLDM_SaveVideo", filename_prefix=prefix, format=format, quality=18,
                frame_rate=8.0, **clip)  # fmt: skip


def copy_clip(file: str = RENDERED, prefix: str = "clip", format: str = "mp4") -> Flow:
    return {"1": load_video(file), "2": save_video(prefix, format, images=["1", 0])}


def copy_part(rng: Random, file: str) -> Flow:
    """A part by index or by time, at another rate, with ping-pong, into any format."""
    some = rng.choice
    load = {
        "count": some((0, 0, 1, 3)), "start": some((0, 0, 1)), "stride": some((1, 1, 2)),
        "width": 0, "height": 0, "multiple_of": some((1, 2, 8)),
        "force_rate": some((0.0, 0.0, 8.0, 23.976, 240.0)),
        "start_time": some((0.0, 0.0, 0.04, 0.5)), "duration": some((0.0, 0.0, 0.1, 1e5)),
        "ping_pong": some((False, False, True)), "alpha": some(("over black", "keep")),
        "load": some(("frames", "frames", "video only")),
    }  # fmt: skip
    save = {
        "format": some(VIDEO_FORMATS), "ping_pong": some((False, False, True)),
        "loop_count": some((0, 1, 5)),
        "audio_length": some(("as the frames", "as the shorter of both")),
    }  # fmt: skip
    parts = {"images": ["1", 0], "mask": ["1", 4], "audio": ["1", 3]}
    saved = save_video("part", **save, **some(({"video": ["1", 5]}, parts)))
    return {"1": load_video(file, **load), "2": saved}


def copy_image(file: str, prefix: str = "image") -> Flow:
    return {
        "1": node("LoadImage", image=file),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def copy_video(file: str, prefix: str = "video") -> Flow:
    """A video through ComfyUI's nodes, as a whole and by its components."""
    return {
        "1": node("LoadVideo", file=file),
        "2": node("SaveVideo", video=["1", 0], filename_prefix=prefix, format="auto", codec="auto"),
        "3": node("GetVideoComponents", video=["1", 0]),
        "4": node("CreateVideo", images=["3", 0], fps=["3", 2], audio=["3", 1]),
        "5": save_video(f"{prefix}_again", video=["4", 0]),
    }


def picture(text: str = "a red circle", model: str = "embedded") -> Flow:
    """An image, sampled in one step."""
    return {
        "1": node("VideoLDM_LoadImageModel", model=model),
        "2": node("CLIPTextEncode", clip=["1", 1], text=text),
        "3": node("EmptyLatentImage", width=16, height=16, batch_size=1),
        "4": _ksampler(model=["1", 0], positive=["2", 0]),
        "5": node("VAEDecode", samples=["4", 0], vae=["1", 2]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="picture"),
    }


def _ksampler(**wires: Any) -> dict[str, Any]:
    return node("KSampler", seed=1, steps=1, cfg=1.0, sampler_name="euler", scheduler="normal",
                negative=["2", 0], latent_image=["3", 0], denoise=1.0, **wires)  # fmt: skip


def clip_from_text(text: str = "a red circle", layers: str = "embedded: text to video") -> Flow:
    """Text to video from loaders to file: 4 frames, sampled in one step."""
    sampler = node(
        "VideoLDM_VideoSampler", model=["3", 0], positive=["4", 0], negative=["4", 0], width=16,
        height=16, frames=4, steps=1, cfg=1.0, sampler_name="ddim", schedule="uniform", seed=1,
        guidance_rescale=0.0, **SINGLE_SEGMENT,
    )  # fmt: skip
    inject = node("VideoLDM_InjectTemporalLayers", model=["1", 0], layers=["2", 0], strength=1.0,
                  attention_strength=1.0, convolution_strength=1.0, sites="")  # fmt: skip
    return {
        "1": node("VideoLDM_LoadImageModel", model="embedded"),
        "2": node("VideoLDM_LoadTemporalLayers", layers=layers),
        "3": inject,
        "4": node("CLIPTextEncode", clip=["1", 1], text=text),
        "5": sampler,
        "6": node("VideoLDM_TemporalVAEDecodeToVideo", samples=["5", 0], vae=["1", 2],
                  frame_rate=8.0, chunk=2, tile=0),
        "7": save_video("made", video=["6", 0]),
    }  # fmt: skip


def long_clip(segments: str) -> Flow:
    flow = clip_from_text()
    flow["4"] = node("VideoLDM_LongHorizonSegments", clip=["1", 1], segments=segments)
    inputs = {k: v for k, v in flow["5"]["inputs"].items() if k not in SINGLE_SEGMENT}
    flow["5"]["inputs"] = inputs | SLIDING_WINDOWS | {"frames": 6}
    return flow


def boxes(text: str, listed: str) -> Flow:
    flow = picture()
    flow["2"] = node("VideoLDM_BoundingBoxes", clip=["1", 1], text=text, boxes=listed)
    return flow


def ui_of(flow: Flow) -> dict[str, Any]:
    """The workflow in UI form."""
    from videoldm.core.graph.ui_write import to_ui
    from videoldm.nodes import node_registry

    return to_ui(flow, node_registry())


def written(flow: Any, path: Path) -> str:
    """Write a workflow as JSON; returns the file's name."""
    path.write_text(flow if isinstance(flow, str) else values.to_text(flow), encoding="utf-8")
    return path.name


def run_command(rng: Random, file: str, *more: str) -> list[str]:
    shown = ["--json"] if rng.random() < 0.3 else ["--quiet"]
    return ["run", file, "--device", "cpu", *shown, *more]


def dumped(data: Any) -> str:
    """JSON for a text input."""
    return json.dumps(data)
