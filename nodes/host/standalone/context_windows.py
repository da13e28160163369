"""ComfyUI's context windows for the standalone host's KSampler; schedules that omit frames in
ComfyUI cover them here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ....core.diffusion.curves import current_step, step_of
from ....core.diffusion.denoiser import Denoiser
from ....core.diffusion.noise import free_noise
from ....core.networks.reference import ReferenceWindow
from ....core.tasks import windows as plans
from ....core.tasks.reference import WindowReference
from ....core.tasks.segment import DenoiserFor, SegmentCondition


@dataclass(frozen=True, kw_only=True)
class ContextWindows:
    """The node's settings, in frames. closed: looped windows also cover the seam of the loop.
    anchored: each window also sees the frame before it, whose output is dropped."""

    schedule: str
    length: int
    overlap: int
    stride: int
    closed: bool
    fuse: str
    free_noise: bool
    anchored: bool

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"context_overlap {self.overlap} must be smaller than context_length {self.length}"
            )

    def act_on(self, frames: int) -> bool:
        """Whether a video of `frames` frames is longer than one window."""
        return frames > self.length

    def windows(self, frames: int, step: int) -> list[plans.Window]:
        """The windows of a sampling step."""
        size = frames, self.length, self.overlap
        if self.schedule == "standard_static":
            return plans.sliding_windows(*size)
        if self.schedule == "batched":
            return plans.disjoint_windows(*size[:2])
        more = {"octaves": self.stride, "step": step}
        if self.schedule == "standard_uniform":
            return plans.uniform_windows(*size, **more)
        return plans.looped_windows(*size, **more, closed=self.closed)

    def shuffled(self, noise: Tensor, seed: int) -> Tensor:
        """The initial noise [b t c h w], shuffled for long videos if FreeNoise is on."""
        if not self.free_noise or not self.act_on(noise.shape[1]):
            return noise
        return free_noise(noise, self.length, self.overlap, seed)

    def denoiser(
        self, denoiser_for: DenoiserFor, frames: int, sigmas: Tensor,
        read: ReferenceWindow | None = None,
    ) -> Denoiser:  # fmt: skip
        """The denoiser of all frames, in windows if needed; `read`: a reference window."""
        if not self.act_on(frames):
            return denoiser_for(SegmentCondition(frames=range(frames)))

        reference = None
        if read is not None:
            reference = WindowReference(read, _condition_of, denoiser_for, frames, self.length)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            step = current_step.get() or step_of(float(sigma.flatten()[0]), sigmas.tolist())
            plan = self.windows(frames, step.index)
            weights = plans.fuse_weights(self.fuse, plan, frames, self.overlap)
            known = {} if reference is None else reference.record(x, sigma, step)
            answers = self._answers(denoiser_for, plan, (x, sigma), (reference, known))
            return plans.fuse(answers, plan, weights, like=x)

        return denoise

    def _answers(
        self, denoiser_for: DenoiserFor, plan: Sequence[plans.Window], at: tuple[Tensor, Tensor],
        reading: tuple[WindowReference | None, dict[plans.Window, Denoiser]],
    ) -> Iterator[Tensor]:  # fmt: skip
        (x, sigma), (reference, known) = at, reading
        for window in plan:
            before = (window[0] - 1,) if self.anchored and window[0] > 0 else ()
            seen, condition = before + window, _condition_of(before + window)
            if window in known and reference is not None and not before:
                yield known[window](x[:, list(window)], sigma)
                continue
            if reference is not None and window not in known:
                condition = reference.reading(condition, lead=len(before))
            yield denoiser_for(condition)(x[:, list(seen)], sigma)[:, len(before) :]


def _condition_of(window: plans.Window) -> SegmentCondition:
    return SegmentCondition(frames=window, level="window")


def check_known(dim: int, **unknown: object) -> None:
    """Raise ValueError for settings of the node that this host does not support."""
    if dim != 0:
        raise ValueError(f"frames are axis 0 of the latents here, but dim is {dim}")
    for name, value in unknown.items():
        if value:
            raise ValueError(f"{name} is not supported outside of ComfyUI: leave it empty or off")
