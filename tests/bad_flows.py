"""A workflow of the toy family for tests to break with bad input."""

from __future__ import annotations

import copy
from pathlib import Path

from node_inputs import strategy
from videoldm.core.media.files import open_video

FRAMES, SIZE = 4, 16


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def flow() -> dict:
    """Nodes 1 and 2 save a first clip; the others make a video from a prompt and save it."""
    clip = node("VideoLDM_LoadVideo", file="rendered: shapes", start=0, count=3, stride=1, width=0,
                height=0, fit="crop", multiple_of=8)  # fmt: skip
    sampler = node(
        "VideoLDM_VideoSampler", model=["5", 0], positive=["6", 0], negative=["7", 0], width=SIZE,
        height=SIZE, frames=FRAMES, steps=1, cfg=1.0, sampler_name="ddim", schedule="uniform",
        seed=1, guidance_rescale=0.0, **strategy(),
    )  # fmt: skip
    return {
        "1": clip,
        "2": save("first", images=["1", 0]),
        "3": node("VideoLDM_LoadImageModel", model="embedded"),
        "4": node("VideoLDM_LoadTemporalLayers", layers="embedded: text to video"),
        "5": node("VideoLDM_InjectTemporalLayers", model=["3", 0], layers=["4", 0], strength=1.0,
                  attention_strength=1.0, convolution_strength=1.0, sites=""),
        "6": node("CLIPTextEncode", clip=["3", 1], text="a red circle moves right"),
        "7": node("CLIPTextEncode", clip=["3", 1], text=""),
        "8": sampler,
        "9": node("VideoLDM_TemporalVAEDecodeToVideo", samples=["8", 0], vae=["3", 2],
                  frame_rate=8.0, chunk=2, tile=0),
        "10": save("second", video=["9", 0]),
    }  # fmt: skip


def save(prefix: str, **clip) -> dict:
    return node("VideoLDM_SaveVideo", filename_prefix=prefix, format="mp4", quality=18,
                frame_rate=8.0, **clip)  # fmt: skip


def sampling(kind: str, **inputs) -> dict:
    """Interpolate Frames or Upsample Video, with the inputs that both have."""
    common = {"positive": ["6", 0], "negative": ["7", 0], "steps": 1, "cfg": 1.0, "seed": 1,
              "sampler_name": "ddim", "schedule": "uniform"}  # fmt: skip
    return node(kind, **common, **inputs)


def finished(here: Path) -> bool:
    """Whether the first clip exists, complete and playable."""
    path = here / "output" / "first_00001_.mp4"
    return path.is_file() and open_video(path).frames == 3


def changed(workflow: dict, changes: dict) -> dict:
    """Apply changes such as {"8.steps": 0, "8.class_type": ...} to a workflow. None removes an
    input; a new strategy removes the settings of the old one."""
    for place, value in changes.items():
        node_id, name = place.split(".", 1)
        if name == "strategy":
            inputs = workflow[node_id]["inputs"]
            for opened in [one for one in inputs if one.startswith("strategy.")]:
                del inputs[opened]
        target = workflow[node_id] if name == "class_type" else workflow[node_id]["inputs"]
        target.pop(name, None)
        if value is not None:
            target[name] = value
    return workflow


def longer(**inputs) -> dict:
    return {f"8.{name}": value for name, value in inputs.items()}


UPSAMPLE = {
    "4": node("VideoLDM_LoadUpsampler", upsampler="embedded"),
    "6": node("CLIPTextEncode", clip=["4", 1], text=""),
    "7": node("CLIPTextEncode", clip=["4", 1], text=""),
    "8": sampling("VideoLDM_UpsampleVideo", model=["4", 0], images=["1", 0], noise_level=20,
                  chunk=4, overlap=4, tile=0, tile_overlap=8),
}  # fmt: skip


def with_nodes(changes: dict) -> dict:
    """The workflow with whole nodes ("8") and single inputs ("8.steps") replaced."""
    nodes = {key: copy.deepcopy(value) for key, value in changes.items() if "." not in key}
    inputs = {key: value for key, value in changes.items() if "." in key}
    return changed(flow() | nodes, inputs)
