"""Scoped denoisers: every task announces each sampling, for which they prepare once."""

import pytest
import torch
from model_toys import SCHEDULE, Denoisers, normal, toy_sampling, whole
from videoldm.core.families.lavie_sampling import plan
from videoldm.core.tasks.independent_chunks import NoiseStream, independent_chunks
from videoldm.core.tasks.interpolation import Interpolation, interpolate
from videoldm.core.tasks.long_video import (
    Between,
    ContextUse,
    Continuation,
    Hierarchy,
    SlidingWindows,
    hierarchical,
    prediction,
    single_segment,
    sliding,
)
from videoldm.core.tasks.segment import ScopedDenoisers
from videoldm.core.tasks.sparse_first import SparseFirst, sparse_first
from videoldm.core.tasks.upsampling import Upsampling, upsample_continued, upsample_whole

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()
LOW = normal(2, 10, 3, 9, 12).tanh()


class Scoped(ScopedDenoisers):
    """Asserts that each evaluation lies in an announced sampling of its frames and size."""

    def __init__(self, denoiser_for=None):
        self.denoiser_for = denoiser_for or Denoisers()
        self.planned, self.begun, self.evaluated = None, [], 0

    def __call__(self, condition):
        denoiser = self.denoiser_for(condition)

        def denoise(x, sigma):
            assert self.planned is not None, "an evaluation outside of a sampling"
            assert (len(x), *x.shape[2:]) == self.planned.size
            assert x.shape[1] == len(self.planned.condition.frames)
            assert sigma in self.planned.sigmas
            self.evaluated += 1
            return denoiser(x, sigma)

        return denoise

    def sampling(self, planned, run):
        assert self.planned is None, "a sampling within another"
        self.planned = planned
        self.begun.append(planned.condition)
        try:
            return run()
        finally:
            self.planned = None


def upsampler(condition):
    low = condition.concatenated.mean(2, keepdim=True)
    return lambda x, s: ((x + x.mean(1, keepdim=True)) / (1 + s)).tanh() + low


def upsampling(**changed):
    return Upsampling(**{"schedule": SCHEDULE, "chunk": 4, "overlap": 1} | changed)


def chunks_by(denoiser_for):
    how, noise = plan("ddim", 3), NoiseStream(torch.Generator().manual_seed(0))
    return independent_chunks(denoiser_for, LOW, how, upsampling(overlap=0), noise)


def sparse(denoiser_for):
    how = SparseFirst(count=2, sampling=SAMPLING, denoiser_for=denoiser_for)
    return sparse_first(denoiser_for, SIZE, toy_sampling(4), 6, how)


HIERARCHY = Hierarchy(
    keys=Continuation(window=4, context=1), between=Between(passes=1, window_keys=3)
)
MADE = {
    "single clip": (1, lambda d: single_segment(d, SIZE, SAMPLING, 6)),
    "sparse first": (2, sparse),
    "sliding": (1, lambda d: sliding(
        d, SIZE, SAMPLING, 11, windows=SlidingWindows(window=4, overlap=2))),
    "prediction": (3, lambda d: prediction(
        d, SIZE, SAMPLING, 10,
        settings=Continuation(window=4, context=1, use=ContextUse(scale=2.0)))),
    "hierarchical": (4, lambda d: hierarchical(d, SIZE, SAMPLING, 14, settings=HIERARCHY)),
    "interpolation": (2, lambda d: interpolate(
        d, normal(2, 5, 4, 3, 5), SAMPLING, settings=Interpolation(window_keys=3))),
}  # fmt: skip
UPSAMPLED = {
    "continued": (3, lambda d: upsample_continued(d, LOW, SAMPLING, upsampling())),
    "in tiles": (3, lambda d: upsample_continued(
        d, LOW, SAMPLING, upsampling(tile=6, tile_overlap=2))),
    "blended": (1, lambda d: [upsample_whole(d, LOW, SAMPLING, upsampling())]),
    "blended in tiles": (1, lambda d: [upsample_whole(
        d, LOW, SAMPLING, upsampling(tile=6, tile_overlap=2))]),
    "independent": (3, chunks_by),
}  # fmt: skip


@pytest.mark.parametrize("task", MADE)
def test_a_sampling_is_announced_for_each_segment(task):
    clips, make = MADE[task]
    check(Scoped(), Denoisers(), make, clips)


@pytest.mark.parametrize("task", UPSAMPLED)
def test_a_sampling_is_announced_for_each_segment_of_an_upsampler(task):
    clips, make = UPSAMPLED[task]
    check(Scoped(upsampler), upsampler, make, clips)


def check(scoped, plain, make, clips):
    made = whole(make(scoped))
    assert len(scoped.begun) == clips
    assert scoped.evaluated > 0
    assert torch.equal(made, whole(make(plain)))
