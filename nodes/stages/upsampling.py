"""Low-resolution frames to latents of a video four times as large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ...core.tasks.independent_chunks import independent_chunks, one_stream, with_stream
from ...core.tasks.segment import reporter
from ...core.tasks.upsampling import Upsampling, upsample_continued, upsample_whole
from ..checks import require, upsampling_faults
from ..choices import BORDERS
from ..host.interface import Guidance
from ..host.shared.runs import finished_chunks
from ..host.shared.setup_warnings import upsampling_warnings
from .running import Meter, Settings, gathered, plan_for, require_room, sampling_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ...core.tasks.chunk_store import Finished
    from ...core.tasks.segment import Sampling
    from ..host.interface import Host, Wire

IN_CHUNKS = ("seed", "images")
"""Inputs that finished chunks depend on by their values alone, chunk by chunk."""


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
    host: Host, model: Wire, prompts: tuple[list, list], images: Tensor,
    request: UpsamplingRequest, settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """Upsample an IMAGE; returns the LATENT of the large video."""
    require(upsampling_faults, vars(request))
    facts = host.facts(model)
    if not facts.is_upsampler:
        raise ValueError("the model is not an upsampler; take the one of Load Upsampler")
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
    borders, chunk = request.borders, request.chunk
    if borders not in BORDERS:
        raise ValueError(f"borders {borders!r} must be one of {', '.join(BORDERS)}")
    if borders == "automatic":
        borders = "blended" if facts.family else "continued"
    for sentence in upsampling_warnings(facts.layers, len(images), chunk):
        host.warn(sentence)
    # The network works at the size of the given frames: `factor` pixels become one again.
    sides = [min(side, request.tile or side) * facts.factor for side in images.shape[2:0:-1]]
    require_room(host, facts, min(chunk, len(images)), tuple(sides), request.cfg)
    make = {"continued": _continued, "blended": _blended, "independent": _independent}[borders]
    denoiser_for = host.denoiser_for(model, *prompts, Guidance(cfg=request.cfg))
    finished = finished_chunks(host, without=IN_CHUNKS, prompts=prompts)
    run = _Run(host, model, denoiser_for, host.pixels(images), how, settings, prompts[0], finished)
    return gathered(host, model, make(run))


class _Run(NamedTuple):
    host: Host
    model: Wire
    denoiser_for: Any
    low_res: Tensor
    how: Upsampling
    settings: Settings
    positive: list
    finished: Finished

    @property
    def sampling(self) -> Sampling:
        return sampling_for(self.host, self.model, self.settings, self.positive, self.finished)


def _continued(run: _Run) -> Iterator[Tensor]:
    """Each chunk goes on from the finished frames of the one before."""
    meter = Meter(run.host)
    return upsample_continued(run.denoiser_for, run.low_res, run.sampling, run.how, callback=meter)


def _blended(run: _Run) -> Iterator[Tensor]:
    """All chunks side by side, averaged where they overlap at every step: one chunk, the whole."""
    meter = Meter(run.host)
    yield upsample_whole(run.denoiser_for, run.low_res, run.sampling, run.how, callback=meter)


def _independent(run: _Run) -> Iterator[Tensor]:
    """Chunks sampled independently of each other, with the noise of one stream."""
    generator, meter = torch.Generator().manual_seed(run.settings.seed), Meter(run.host)
    chunks = -(-run.low_res.shape[1] // run.how.chunk)
    return independent_chunks(
        run.denoiser_for, run.low_res, plan_for(run.host, run.model, run.settings), run.how,
        one_stream(generator), callback=lambda k: reporter(meter, "upsampling", k, chunks),
        finished=with_stream(run.finished, generator),
    )  # fmt: skip
