"""Low-resolution frames to latents of a video four times as large, and to that video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...core.tasks.gathering import Gathering
from ...core.tasks.independent_chunks import NoiseStream, independent_chunks
from ...core.tasks.segment import reporter
from ...core.tasks.upsampling import Upsampling, upsample_continued, upsample_whole
from ..checks import require, upsampling_faults
from ..choices import BORDERS
from ..host.interface import Guidance
from ..host.shared.finished_stages import keep_latent
from ..host.shared.misfits import without_effect
from ..host.shared.runs import finished_chunks
from ..host.shared.runs_folder import runs_folder
from ..host.shared.setup_warnings import upsampling_warnings
from .decoding import Decoding
from .media import frames_stream
from .running import Meter, Settings, gathered, plan_for, require_room, sampling_for
from .upsampled_video import NO_VIDEO, upsampled_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...core.media.files import VideoStream
    from ...core.tasks.finished import Finished
    from ...core.tasks.segment import Sampling
    from ..host.interface import Host, ModelFacts, Wire

IN_CHUNKS = ("seed", "images", "vae")
"""Inputs that finished chunks depend on by their values alone, chunk by chunk, or not at all."""


@dataclass(frozen=True, kw_only=True)
class UpsamplingRequest:
    """What the node's inputs say, in frames and in pixels of the small frames; tile 0: whole."""

    cfg: float
    noise_level: int
    chunk: int
    overlap: int
    tile: int
    tile_overlap: int
    borders: str = "automatic"
    same_noise: bool = False


def upsample_video(
    host: Host, model: Wire, prompts: tuple[list, list], images: Tensor | Wire,
    request: UpsamplingRequest, settings: Settings, vae: Wire | None = None,
) -> tuple[dict[str, Any], Wire]:  # fmt: skip
    """Upsample an IMAGE or a VIDEO; returns the LATENT of the large video, and with a VAE the VIDEO
    that is decoded from it."""
    require(upsampling_faults, vars(request))
    facts = host.facts(model)
    if not facts.is_upsampler:
        raise ValueError("the model is not an upsampler; take the one from Load Upsampler")
    if request.noise_level > facts.max_noise_level:
        raise ValueError(
            f"noise_level {request.noise_level} is above the {facts.max_noise_level} that the "
            "model knows"
        )
    how = Upsampling(
        schedule=facts.low_res_schedule or facts.schedule,
        latent_channels=facts.latent_channels,
        noise_level=request.noise_level,
        same_noise=request.same_noise,
        chunk=request.chunk,
        overlap=request.overlap,
        tile=request.tile or None,
        tile_overlap=request.tile_overlap,
    )
    make = _way(request.borders, facts)
    video = frames_stream(host, images)
    _check_size(host, facts, video, request)
    denoiser_for = host.denoiser_for(model, *prompts, Guidance(cfg=request.cfg))
    finished = finished_chunks(host, without=IN_CHUNKS, prompts=prompts)
    run = _Run(host, model, denoiser_for, video, how, settings, prompts[0], finished)
    latent = gathered(host, model, make(run), video.frames)
    keep_latent(host, finished, latent, factor=facts.factor)
    if vae is None or isinstance(images, Tensor):
        return latent, host.blocked(NO_VIDEO)
    decoding = Decoding(chunk=request.chunk, tile=facts.factor * request.tile)
    return latent, upsampled_video(host, latent, vae, video, decoding)


def _way(borders: str, facts: ModelFacts) -> Callable[[_Run], Iterator[Tensor]]:
    if borders not in BORDERS:
        raise ValueError(f"borders {borders!r} must be one of {', '.join(BORDERS)}")
    if borders == "automatic":
        borders = "blended" if facts.family else "continued"
    return {"continued": _continued, "blended": _blended, "independent": _independent}[borders]


def _check_size(
    host: Host, facts: ModelFacts, video: VideoStream, request: UpsamplingRequest
) -> None:
    found = upsampling_warnings(facts.layers, video.frames, request.chunk)
    for sentence in (*found, *without_effect(facts, "Upsample Video")):
        host.warn(sentence)
    # The network works at the size of the given frames: `factor` pixels become one again.
    sides = [min(side, request.tile or side) * facts.factor for side in (video.width, video.height)]
    require_room(host, facts, min(request.chunk, video.frames), tuple(sides), request.cfg)


class _Run(NamedTuple):
    host: Host
    model: Wire
    denoiser_for: Any
    video: VideoStream
    how: Upsampling
    settings: Settings
    positive: list
    finished: Finished

    def low_res(self) -> Iterator[Tensor]:
        """The given frames [1 t 3 h w], chunk by chunk."""
        device = self.host.facts(self.model).device
        return (chunk[None].to(device) for chunk in self.video.chunks())

    @property
    def sampling(self) -> Sampling:
        return sampling_for(self.host, self.model, self.settings, self.positive, self.finished)


def _continued(run: _Run) -> Iterator[Tensor]:
    """Each chunk goes on from the finished frames of the one before."""
    meter = Meter(run.host)
    return upsample_continued(
        run.denoiser_for, run.low_res(), run.sampling, run.how, total=run.video.frames,
        callback=meter,
    )  # fmt: skip


def _blended(run: _Run) -> Iterator[Tensor]:
    """All chunks side by side, averaged where they overlap at every step: one chunk, the whole."""
    meter, low_res = Meter(run.host), Gathering(runs_folder(run.host.folders.output))
    for chunk in run.low_res():
        low_res.add(chunk)
    yield upsample_whole(run.denoiser_for, low_res.tensor(), run.sampling, run.how, callback=meter)


def _independent(run: _Run) -> Iterator[Tensor]:
    """Chunks sampled independently of each other, with the noise of one stream."""
    generator, meter = torch.Generator().manual_seed(run.settings.seed), Meter(run.host)
    chunks = -(-run.video.frames // run.how.chunk)
    return independent_chunks(
        run.denoiser_for, run.low_res(), plan_for(run.host, run.model, run.settings), run.how,
        NoiseStream(generator), callback=lambda k: reporter(meter, "upsampling", k, chunks),
        finished=run.finished,
    )  # fmt: skip
