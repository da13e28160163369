"""Small workflows in API format whose stages store their chunks, each ending in one video."""

from __future__ import annotations

import json
from typing import Any

from videoldm.core.graph.schema import NodeSpec
from videoldm.nodes import node_registry

Flow = dict[str, Any]
COMMON = {
    "steps": 3,
    "cfg": 2.0,
    "sampler_name": "euler_ancestral",
    "schedule": "uniform",
    "seed": 7,
}
WINDOWS = {"window": 4, "overlap": 2, "free_noise": True}
SPARSE = {"first_frames": 2, "fill_steps": 2, "fill_denoise": 1.0}
CONTINUED = {"window": 4, "context_frames": 1}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def models() -> Flow:
    """Node "1" is the image model; "11", "12" and "13" have layers for text to video, prediction
    and interpolation injected."""
    flow = {
        "1": node("VideoLDM_LoadImageModel", model="embedded"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red circle moves right"),
        "3": node("CLIPTextEncode", clip=["1", 1], text=""),
    }
    for k, name in enumerate(("text to video", "prediction", "interpolation"), start=1):
        flow[f"2{k}"] = node("VideoLDM_LoadTemporalLayers", layers=f"embedded: {name}")
        flow[f"1{k}"] = node("VideoLDM_InjectTemporalLayers", model=["1", 0],
                             layers=[f"2{k}", 0], sites="")  # fmt: skip
    return flow


def decoded(flow: Flow, latents: str, vae: list) -> Flow:
    """The workflow with the latents of a node decoded while the video is saved."""
    decode = node("VideoLDM_TemporalVAEDecodeToVideo", samples=[latents, 0], vae=vae,
                  frame_rate=8.0, chunk=4)  # fmt: skip
    save = node("VideoLDM_SaveVideo", filename_prefix="clip", format="mp4", quality=18,
                frame_rate=8.0, video=["8", 0])  # fmt: skip
    return _filled({**flow, "8": decode, "9": save})


def _filled(flow: Flow) -> Flow:
    """The workflow with defaults for the inputs that it omits."""
    registry = node_registry()
    return {key: {**one, "inputs": _with_defaults(registry[one["class_type"]], one["inputs"])}
            for key, one in flow.items()}  # fmt: skip


def _with_defaults(spec: NodeSpec, given: dict[str, Any]) -> dict[str, Any]:
    opened = {**given}
    while True:  # The inputs of a dynamic combo may be dynamic combos, too.
        missing = {name: one.initial() for name, one in spec.live_inputs(opened).items()
                   if name not in opened and one.kind == "widget"}  # fmt: skip
        if not missing:
            return opened
        opened |= missing


def sampled(name: str, *, frames: int, model: str = "11", prompt: str = "2", **own: Any) -> Flow:
    strategy = {"strategy": name} | {f"strategy.{key}": value for key, value in own.items()}
    sampler = node(
        "VideoLDM_VideoSampler", model=[model, 0], positive=[prompt, 0], negative=["3", 0],
        width=16, height=16, frames=frames, guidance_rescale=0.0, **COMMON, **strategy,
    )  # fmt: skip
    return models() | {"7": sampler}


def interpolated() -> Flow:
    flow = sampled("single clip", frames=7)
    keys = node("VideoLDM_InterpolateFrames", model=["13", 0], positive=["2", 0],
                negative=["3", 0], latent=["7", 0], passes=2, context_guidance=1.0, window_keys=3,
                keep_keys=True, **COMMON)  # fmt: skip
    return decoded(flow | {"6": keys}, "6", ["1", 2])


def upsampled(borders: str) -> Flow:
    load = node("VideoLDM_LoadVideo", file="rendered: shapes", start=0, count=20, stride=1,
                width=16, height=16, fit="crop", multiple_of=8)  # fmt: skip
    larger = node(
        "VideoLDM_UpsampleVideo", model=["4", 0], positive=["2", 0], negative=["3", 0],
        images=["5", 0], noise_level=20, chunk=6, overlap=2, tile=0, tile_overlap=8,
        borders=borders, **COMMON,
    )  # fmt: skip
    flow = models() | {"4": node("VideoLDM_LoadUpsampler", upsampler="embedded"), "5": load}
    return decoded(flow | {"6": larger}, "6", ["4", 2])


def enlarged_video() -> Flow:
    """A video that is read, upsampled and decoded chunk by chunk."""
    flow = upsampled("continued")
    flow["5"]["inputs"]["load"] = "video only"
    flow["6"]["inputs"] |= {"images": ["5", 5], "vae": ["4", 2]}
    flow["9"]["inputs"]["video"] = ["6", 1]
    del flow["8"]
    return flow


def decoded_to_images() -> Flow:
    """A video whose frames are all decoded to an IMAGE before they are saved."""
    flow = decoded(sampled("single clip", frames=12), "7", ["1", 2])
    decode = node("VideoLDM_TemporalVAEDecode", samples=["7", 0], vae=["1", 2], chunk=4)
    del flow["9"]["inputs"]["video"]
    flow["9"]["inputs"]["images"] = ["8", 0]
    return _filled(flow | {"8": decode})


def segmented(*segments: tuple[str, int], frames: int = 9) -> Flow:
    """Prediction with its own prompt and seed for each segment of `frames` frames."""
    listed = [{"prompt": prompt, "frames": frames, "seed": seed} for prompt, seed in segments]
    segments = node("VideoLDM_LongHorizonSegments", clip=["1", 1], segments=json.dumps(listed))
    flow = sampled("prediction", frames=len(listed) * frames, prompt="30",
                   prediction_model=["12", 0], **CONTINUED)  # fmt: skip
    return decoded(flow | {"30": segments}, "7", ["1", 2])


def flows() -> dict[str, Flow]:
    made = {
        "single clip": sampled("single clip", frames=8),
        "sparse first": sampled("sparse first", frames=8, model="12", **SPARSE),
        "sliding windows": sampled("sliding windows", frames=12, **WINDOWS),
        "prediction": sampled("prediction", frames=19, prediction_model=["12", 0], **CONTINUED),
        "hierarchical": sampled(
            "hierarchical", frames=40, prediction_model=["12", 0], interpolation_model=["13", 0],
            passes=2, **CONTINUED,
        ),
    }  # fmt: skip
    found = {name: decoded(flow, "7", ["1", 2]) for name, flow in made.items()}
    found["interpolation"] = interpolated()
    for borders in ("continued", "blended", "independent"):
        found[f"upsampling, {borders}"] = upsampled(borders)
    return found | {"upsampling, video": enlarged_video(), "images": decoded_to_images()}
