"""What the Video Sampler displays: which chunks were cached and which were sampled, and the noise
plan."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.graph.content_key import upstream
from ...core.graph.wording import counted
from ...core.tasks.chunk_store import ChunkRequest, Run
from ..choices import HIERARCHICAL, PREDICTION, ROLLING
from ..host.shared.finished_stages import keep_latent

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ...core.tasks.finished import Finished
    from ..host.interface import Host, RunningNode, Wire
    from .strategy import Strategy

CONTINUED = {PREDICTION: "segment", HIERARCHICAL: "keys", ROLLING: ""}
"""Strategies whose chunks continue each other, and the level of these chunks."""
MOST_PICTURES, HEIGHT = 32, 48
"""Maximum number and height in pixels of the thumbnails, spread evenly over the video."""
MOST_CELLS = 4_000_000
"""Frames times rows above which a plan is not drawn."""
PNG = "png"


class Sampled(NamedTuple):
    """A video's LATENT and how it was sampled: the store of its chunks, the strategy, the number of
    latent frames and the sigmas."""

    latent: dict[str, Any]
    finished: Finished
    strategy: Strategy
    frames: int
    sigmas: Tensor


def store_and_report(host: Host, model: Wire, video: Sampled) -> dict[str, Any] | None:
    """Store the video with its UI data, and return the node's UI output: a sentence if some chunks
    were cached; for a browser also the windows, with thumbnails for the timeline, and the noise
    plan."""
    facts = _facts(host, model, video)
    keep_latent(host, video.finished, video.latent, shown=facts)
    return _shown(host, cache_summary(_asked(video), CONTINUED.get(video.strategy.name)), facts)


def _facts(host: Host, model: Wire, video: Sampled) -> dict[str, Any]:
    """The UI data of a video as JSON values; images are PNG files in base64."""
    asked, facts = _asked(video), {}
    if host.shows_previews:
        windows = _windows(host, model, video, asked) if asked else None
        found = {"videoldm_windows": windows, "videoldm_plan": _plan(video)}
        facts = {name: one for name, one in found.items() if one is not None}
    return {**facts, "chunks": len(asked)}


def cached_report(host: Host, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The UI output for a video that is cached as a whole. facts: those stored with it."""
    there = facts["chunks"]
    sentence = f"{there} of {counted(there, 'chunk')} were finished before: nothing was made again"
    windows = facts.get("videoldm_windows")
    if windows is not None:
        taken = [[*one[:-1], True] for one in windows["windows"]]
        facts = {**facts, "videoldm_windows": {**windows, "windows": taken}}
    return _shown(host, sentence, facts)


def _asked(video: Sampled) -> Sequence[ChunkRequest]:
    return video.finished.requests if isinstance(video.finished, Run) else []


def _shown(host: Host, sentence: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    shown: dict[str, Any] = {"text": (sentence,)} if sentence else {}
    if not host.shows_previews:
        return shown or None
    if windows := facts.get("videoldm_windows"):
        found = {**windows, "nodes": _made_by(host.running())}
        if pictures := windows.get("pictures"):
            found["pictures"] = _saved(host, pictures, "timeline")
        shown["videoldm_windows"] = (found,)
    if plan := facts.get("videoldm_plan"):
        shown["videoldm_plan"] = (_saved(host, plan, "plan"),)
    return shown or None


def cache_summary(asked: Sequence[ChunkRequest], continued: str | None) -> str:
    """A sentence that counts the cached chunks and names those sampled again because they continue
    a chunk that was; "" if none was cached.

    continued: the level of chunks that continue each other.
    """
    there = sum(one.was_cached for one in asked)
    if not there:
        return ""
    found = f"{there} of {counted(len(asked), 'chunk')} were finished before"
    if there == len(asked):
        return f"{found}: nothing was made again"
    chain = [one for one in asked if one.level == continued]
    again = [k for k, one in enumerate(chain) if not one.was_cached]
    if not again:
        return f"{found}; the others were made"
    first = chain[again[0]].frames
    sentence = f"{found}; made again were frames {min(first)} to {max(first)}"
    if len(again) == 1:
        return sentence
    return (
        f"{sentence}, and {counted(len(again) - 1, 'chunk')} behind them, to frame "
        f"{max(chain[again[-1]].frames)}, that continue from what was made or have other prompts"
    )


def _windows(
    host: Host, model: Wire, video: Sampled, asked: Sequence[ChunkRequest]
) -> dict[str, Any]:
    """The windows as the browser draws them, without the nodes that produced them."""
    frames = 1 + max(max(one.frames) for one in asked)
    found = {
        "frames": frames,
        "continued": CONTINUED.get(video.strategy.name),
        "windows": [_window(one) for one in asked],
    }
    strip = _strip(host, model, video.latent)
    return found if strip is None else {**found, "pictures": strip}


def _made_by(running: RunningNode | None) -> dict[str, Any]:
    """The running node and all upstream of it, in API format."""
    if running is None:
        return {}
    keys = ("class_type", "inputs")
    nodes = upstream(running.node_of, running.node_id)
    return {key: {name: node[name] for name in keys} for key, node in nodes.items()}


def _window(one: ChunkRequest) -> list[Any]:
    """[first frame, last frame, stride, level, whether it was cached]"""
    step = one.frames[1] - one.frames[0] if len(one.frames) > 1 else 1
    return [min(one.frames), max(one.frames), max(step, 1), one.level, one.was_cached]


def _strip(host: Host, model: Wire, latent: dict[str, Any]) -> dict[str, Any] | None:
    """Thumbnails side by side; None if the host makes none."""
    samples = latent["samples"]
    total = len(samples) if samples.ndim == 4 else samples.shape[2]
    count = min(MOST_PICTURES, total)
    at = [k * (total - 1) // max(count - 1, 1) for k in range(count)]
    pictures = host.thumbnails(model, latent, at)
    if not pictures:
        return None
    from PIL import Image

    width = max(1, round(HEIGHT * pictures[0].width / pictures[0].height))
    strip = Image.new("RGB", (width * count, HEIGHT))
    for k, picture in enumerate(pictures):
        strip.paste(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR), (k * width, 0))
    return {**_png(strip), "count": count}


def _plan(video: Sampled) -> dict[str, Any] | None:
    """An image of the noise plan with its figures; None if there is none or it is too large."""
    from .planning import drawn, figures, plan_of

    steps, window = len(video.sigmas) - 1, max(video.strategy.window, 2)
    if video.frames**2 * steps // (window // 2) > MOST_CELLS:
        return None
    try:
        plan = plan_of(video.strategy, video.frames, video.sigmas.cpu())
    except ValueError:
        return None
    return {**_png(drawn(plan)), **figures(plan)}


def _png(picture: Image.Image) -> dict[str, str]:
    file = BytesIO()
    picture.save(file, format="PNG")
    return {PNG: base64.b64encode(file.getvalue()).decode()}


def _saved(host: Host, picture: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Write an image to a temporary file; returns its facts and the file as frontends name it."""
    file = host.folders.new_file(f"preview/{name}", ".png", temp=True)
    with file.writing() as partial:
        partial.write_bytes(base64.b64decode(picture[PNG]))
    found, folder = host.folders.relative(file.path)
    facts = {key: value for key, value in picture.items() if key != PNG}
    return {"filename": found, "subfolder": folder, "type": "temp", **facts}
