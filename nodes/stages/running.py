"""Shared by all sampling stages: samplers, progress, noise per segment, saving interrupted runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.diffusion.noise import NoiseSource
from ...core.diffusion.samplers import SAMPLERS
from ...core.diffusion.sampling_plan import Plan
from ...core.families import published_plan
from ...core.graph.wording import counted
from ...core.tasks.finished import Abandoned, Finished, LocalCallback, always_made
from ...core.tasks.gathering import HELD, Gathering
from ...core.tasks.segment import Progress, Sampling
from ..checks import require, schedule_faults
from ..choices import AS_PUBLISHED
from ..host.interface import StageProgress
from ..host.shared.arriving import passed_on
from ..host.shared.runs_folder import runs_folder
from ..host.shared.working_memory import network_of, working_memory

if TYPE_CHECKING:
    from ..host.interface import Host, ModelFacts, Wire

log = logging.getLogger("videoldm")
SEED = "videoldm_seed"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The widgets that all sampling nodes share."""

    steps: int
    sampler_name: str
    schedule: str
    seed: int
    denoise: float = 1.0


def sampling_for(
    host: Host, model: Wire, settings: Settings, conditioning: Sequence = (),
    finished: Finished = always_made,
) -> Sampling:  # fmt: skip
    """The settings for core's tasks. conditioning: prompts, of which those of segments may carry
    seeds. finished: where chunks are stored."""
    plan = plan_for(host, model, settings)
    facts = host.facts(model)
    common = dict(
        sampler=plan.sample if settings.schedule == AS_PUBLISHED else plan.sampler,
        sigmas=plan.sigmas,
        seed=settings.seed,
        device=facts.device,
        shared_noise=facts.shared_noise,
        finished=finished,
    )
    seeds = _segment_seeds(conditioning)
    return SegmentedSampling(**common, segments=seeds) if seeds else Sampling(**common)


def require_room(
    host: Host, facts: ModelFacts, frames: int, size: tuple[int, int], cfg: float
) -> None:
    """Check that there is memory for the network to process `frames` frames of `size` (width,
    height) in pixels at once."""
    width, height = size
    need = working_memory(
        network_of(facts.channels), frames=frames, width=width, height=height, cfg=cfg,
        pixels=facts.factor, precision=facts.precision,
    )  # fmt: skip
    host.require_memory(need, f"making {counted(frames, 'frame')} of {width}x{height} together")


def plan_for(host: Host, model: Wire, settings: Settings) -> Plan:
    """The sampler and sigmas of the settings, or those published with the model's family."""
    facts = host.facts(model)
    if settings.schedule != AS_PUBLISHED:
        sigmas = host.sigmas(model, settings.schedule, settings.steps, settings.denoise)
        sampler = SAMPLERS[settings.sampler_name]
        return Plan(schedule=facts.schedule, sampler=sampler, sigmas=sigmas)
    if not facts.family:
        raise ValueError(
            f'the schedule "{AS_PUBLISHED}" is for models of a published family; '
            "take another schedule for this model"
        )
    require(schedule_faults, vars(settings))
    return published_plan(facts.family, settings.sampler_name, settings.steps, facts.schedule)


class Meter(LocalCallback):
    """Combined progress of stages whose number is not known in advance; chunks may report out of
    order."""

    def __init__(self, host: Host):
        self.host = host
        self.stages: dict[str, tuple[int, int]] = {}
        self.steps: dict[str, dict[int, int]] = {}  # remaining steps by stage and chunk

    def __call__(self, progress: Progress) -> None:
        stage, chunk, chunks, step = progress
        left = self.steps.setdefault(stage, {chunk: 0})
        left[chunk] = step.total - step.index - 1
        # Earlier chunks that have not reported were cached.
        latest = max(left)
        self.steps[stage] = {k: n for k, n in left.items() if n or k == latest}
        done = (latest + 1) * step.total - sum(left.values())
        self.stages[stage] = done, max(chunks, latest + 1) * step.total
        done, total = (sum(column) for column in zip(*self.stages.values(), strict=True))
        self.host.progress(done, total, _part(progress))


def _part(progress: Progress) -> StageProgress:
    stage, chunk, chunks, step = progress
    return StageProgress(stage, chunk + 1, chunks, step.index + 1, step.total)


def gathered(host: Host, model: Wire, chunks: Iterable[Tensor], frames: int = 0) -> dict[str, Any]:
    """The LATENT of all chunks; if sampling is interrupted, the finished ones are saved.

    The exception is raised again and the log says where the frames are. A long video is
    memory-mapped. frames: their total number if later stages may read chunks as they are finished,
    0 if not.
    """
    finished = _Gathered(host, model)
    if frames:
        chunks = _forwarded(host, model, chunks, frames)
    try:
        for chunk in chunks:
            finished.add(chunk)
    except Abandoned:
        raise
    except BaseException:
        if finished.frames:
            _keep(host, finished)
        raise
    return finished.latent()


class _Gathered:
    """Collects chunks [b t c h w] into a LATENT: in memory while they are small, in a file once
    they exceed `HELD` bytes."""

    def __init__(self, host: Host, model: Wire):
        self.host, self.model, self.frames = host, model, 0
        self.held: list[Tensor] = []
        self.raw: Gathering | None = None

    def add(self, chunk: Tensor) -> None:
        self.held.append(chunk)
        self.frames += chunk.shape[1]
        if self.raw is not None or sum(one.nbytes for one in self.held) > HELD:
            self._move()

    def _move(self) -> None:
        for chunk in self.held:
            raw = self.host.from_core(self.model, chunk)["samples"]
            if self.raw is None:
                folder = runs_folder(self.host.folders.output)
                self.raw = Gathering(folder, axis=0 if raw.ndim == 4 else 2, held=0)
            self.raw.add(raw)
        self.held = []

    def latent(self) -> dict[str, Any]:
        """The LATENT of all chunks; RuntimeError if there are none."""
        if self.raw is not None:
            return {"samples": self.raw.tensor()}
        return self.host.from_core(self.model, torch.cat(self.held, dim=1))


def _forwarded(host: Host, model: Wire, chunks: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """Yield the same chunks, and pass them on to later stages that already read them."""
    followed, is_first = None, True
    try:
        for chunk in chunks:
            if is_first and chunk.shape[1] < frames:
                followed = passed_on(host, (len(chunk), frames, *chunk.shape[2:]))
            is_first = False
            if followed is not None:
                followed.add(host.from_core(model, chunk))
            yield chunk
    except BaseException:
        if followed is not None:
            followed.end(dropped=True)
        raise
    if followed is not None:
        followed.end()


def _keep(host: Host, finished: _Gathered) -> None:
    """Save finished frames; an error here must not mask the one that ended the run."""
    many = counted(finished.frames, "finished frame")
    try:
        path = host.save_unfinished(finished.latent())
    except (OSError, ValueError) as error:
        log.warning("could not keep the %s: %s", many, error)
    else:
        host.report_unfinished(path, f"kept the {many} in {path}")


# --------------------------------------------------------------------------------------------------
# A seed for each segment.


@dataclass(frozen=True)
class SegmentedSampling(Sampling):
    """Sampling with a noise seed per segment.

    segments: (first frame, seed) in order; frames before the first use the run's seed.
    """

    segments: tuple[tuple[int, int], ...] = ()

    def noise(self, videos: int, frames: Sequence[int]) -> SegmentedNoise:
        seeds = [self._seed(frame) for frame in frames]
        return SegmentedNoise(videos, tuple(frames), tuple(seeds), self.shared_noise)

    def _seed(self, frame: int) -> int:
        begun = [seed for start, seed in self.segments if start <= frame]
        return begun[-1] if begun else self.seed


@dataclass(frozen=True)
class SegmentedNoise:
    """A `NoiseSource` with a seed for each frame; only frames with the same seed share noise."""

    videos: int
    frames: tuple[int, ...]
    seeds: tuple[int, ...]
    shared: float = 0.0

    def __call__(self, step: int, x: Tensor) -> Tensor:
        return self._drawn(x, lambda source, part: source(step, part))

    def initial(self, x: Tensor) -> Tensor:
        return self._drawn(x, NoiseSource.initial)

    def like(self, x: Tensor, *, stream: str) -> Tensor:
        return self._drawn(x, lambda source, part: source.like(part, stream=stream))

    def _drawn(self, x: Tensor, draw: Callable[[NoiseSource, Tensor], Tensor]) -> Tensor:
        parts = [
            draw(self._source(frame, seed), x[:, k : k + 1])
            for k, (frame, seed) in enumerate(zip(self.frames, self.seeds, strict=True))
        ]
        return torch.cat(parts, dim=1)

    def _source(self, frame: int, seed: int) -> NoiseSource:
        return NoiseSource(tuple(range(seed, seed + self.videos)), (frame,), self.shared)

    def for_frames(self, frames: Sequence[int]) -> SegmentedNoise:
        at = [self.frames.index(frame) for frame in frames]
        return replace(self, frames=tuple(frames), seeds=tuple(self.seeds[k] for k in at))


def _segment_seeds(conditioning: Sequence) -> tuple[tuple[int, int], ...]:
    found = [(more["videoldm_frames"][0], more[SEED]) for _, more in conditioning if SEED in more]
    return tuple(sorted(found))
