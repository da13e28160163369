"""Upsample low-resolution frames to the latents of a video four times as large, and decode it."""

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
"""Inputs outside the key of a run: chunks have their values in their own keys, or do not depend on
them."""


@dataclass(frozen=True, kw_only=True)
class UpsamplingRequest:
    """The node's inputs. chunk, overlap: in frames. tile, tile_overlap: in pixels of the
    low-resolution frames; tile 0 takes whole frames."""

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
    """Upsample an IMAGE or a VIDEO; returns the LATENT of the large video and, for a VIDEO with a
    VAE, the VIDEO decoded from it."""
    require(upsampling_faults, vars(request))
    facts = host.facts(model)
    if not facts.is_upsampler:
        raise ValueError("the model is not an upsampler: use one from Load Upsampler")
    if request.noise_level > facts.max_noise_level:
        raise ValueError(
            f"noise_level {request.noise_level} is above the {facts.max_noise_level} that the "
            "model was trained with"
        )
    upsampling = Upsampling(
        schedule=facts.low_res_schedule or facts.schedule,
        latent_channels=facts.latent_channels,
        noise_level=request.noise_level,
        same_noise=request.same_noise,
        chunk=request.chunk,
        overlap=request.overlap,
        tile=request.tile or None,
        tile_overlap=request.tile_overlap,
    )
    make = _method(request.borders, facts)
    video = frames_stream(host, images)
    _check_size(host, facts, video, request)
    denoiser_for = host.denoiser_for(model, *prompts, Guidance(cfg=request.cfg))
    finished = finished_chunks(host, without=IN_CHUNKS, prompts=prompts)
    run = _Run(host, model, denoiser_for, video, upsampling, settings, prompts[0], finished)
    latent = gathered(host, model, make(run), video.frames)
    keep_latent(host, finished, latent, factor=facts.factor)
    if vae is None or isinstance(images, Tensor):
        return latent, host.blocked(NO_VIDEO)
    decoding = Decoding(chunk=request.chunk, tile=facts.factor * request.tile)
    return latent, upsampled_video(host, latent, vae, video, decoding)


def _method(borders: str, facts: ModelFacts) -> Callable[[_Run], Iterator[Tensor]]:
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
    # The latents have the size of the given frames; require_room takes that of the large ones.
    sides = [min(side, request.tile or side) * facts.factor for side in (video.width, video.height)]
    require_room(host, facts, min(request.chunk, video.frames), tuple(sides), request.cfg)


class _Run(NamedTuple):
    host: Host
    model: Wire
    denoiser_for: Any
    video: VideoStream
    upsampling: Upsampling
    settings: Settings
    positive: list
    finished: Finished

    def low_res(self) -> Iterator[Tensor]:
        """Yield the low-resolution frames [1 t 3 h w] chunk by chunk, on the model's device."""
        device = self.host.facts(self.model).device
        return (chunk[None].to(device) for chunk in self.video.chunks())

    @property
    def sampling(self) -> Sampling:
        return sampling_for(self.host, self.model, self.settings, self.positive, self.finished)


def _continued(run: _Run) -> Iterator[Tensor]:
    """Each chunk continues the finished frames of the previous one."""
    meter = Meter(run.host)
    return upsample_continued(
        run.denoiser_for, run.low_res(), run.sampling, run.upsampling, total=run.video.frames,
        callback=meter,
    )  # fmt: skip


def _blended(run: _Run) -> Iterator[Tensor]:
    """Denoise all chunks in parallel, averaged at every step where they overlap; yields the whole
    video at once."""
    meter, low_res = Meter(run.host), Gathering(runs_folder(run.host.folders.output))
    for chunk in run.low_res():
        low_res.add(chunk)
    yield upsample_whole(
        run.denoiser_for, low_res.tensor(), run.sampling, run.upsampling, callback=meter
    )


def _independent(run: _Run) -> Iterator[Tensor]:
    """Sample chunks independently of each other, with noise from a single generator."""
    generator, meter = torch.Generator().manual_seed(run.settings.seed), Meter(run.host)
    chunks = -(-run.video.frames // run.upsampling.chunk)
    return independent_chunks(
        run.denoiser_for, run.low_res(), plan_for(run.host, run.model, run.settings),
        run.upsampling, NoiseStream(generator), finished=run.finished,
        callback=lambda k: reporter(meter, "upsampling", k, chunks),
    )  # fmt: skip
