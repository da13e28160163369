"""Noise plans: each frame is denoised to 0 once, and the tasks call the model as planned."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from model_toys import Denoisers, toy_sampling, whole
from videoldm.core.diffusion.samplers import sample_euler
from videoldm.core.tasks.long_video import (
    Between,
    Continuation,
    Hierarchy,
    SlidingWindows,
    hierarchical,
    prediction,
    single_segment,
    sliding,
)
from videoldm.core.tasks.noise_plan import (
    NoisePlan,
    hierarchical_plan,
    prediction_plan,
    rolling_plan,
    single_plan,
    sliding_plan,
)
from videoldm.core.tasks.rolling import Rolling, rolling

SIZE = (1, 2, 3, 3)
SAMPLING = replace(toy_sampling(7), sampler=sample_euler)
SIGMAS = SAMPLING.sigmas
LOOP = SlidingWindows(window=5, overlap=2, schedule="looped", strides=2, free_noise=False)
STATIC = SlidingWindows(window=5, overlap=2)
ROLLS = (Rolling(window=4), Rolling(window=5, lookahead=False), Rolling(window=7))
CASES = {
    "single clip": (single_plan, single_segment, {}),
    "sliding windows": (lambda f, s: sliding_plan(f, s, STATIC), sliding, {"windows": STATIC}),
    "looped": (lambda f, s: sliding_plan(f, s, LOOP), sliding, {"windows": LOOP}),
    "prediction": (lambda f, s: prediction_plan(f, s, 6, 2), prediction,
                   {"settings": Continuation(window=6, context=2)}),
    "hierarchical": (lambda f, s: hierarchical_plan(f, s, 4, 1, passes=2, keys=3), hierarchical,
                     {"settings": Hierarchy(keys=Continuation(window=4),
                                            between=Between(window_keys=3, passes=2))}),
    **{f"rolling {how.window}": (lambda f, s, how=how: rolling_plan(f, s, how), rolling,
                                 {"settings": how}) for how in ROLLS},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("frames", [1, 2, 9, 33, 64])
def test_every_frame_comes_down_to_0_once_and_skips_no_level(name, frames):
    plan = CASES[name][0](frames, SIGMAS)
    plan.check()
    levels = plan.levels
    assert levels.shape == (len(plan.calls) + 1, frames)
    assert bool((levels[-1] == 0).all()) and bool((levels.diff(dim=0) <= 0).all())
    assert bool(((levels[:-1] > 0) & (levels[1:] == 0)).sum(0).eq(1).all())


class Spy(Denoisers):
    """Counts the model's calls by frames and the level of each."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __call__(self, condition):
        inner = super().__call__(condition)

        def denoise(x, sigma):
            each = sigma.expand(x.shape[:2]) if sigma.ndim < 2 else sigma
            self.calls[tuple(condition.frames), tuple(each[0].tolist())] += 1
            return inner(x, sigma)

        return denoise


def told(plan, name):
    """The calls of a plan as (frames, levels): given frames at the level of the updated ones; of a
    rolling plan, only the calls whose frames all belong to the video."""
    found = Counter()
    for row, calls in enumerate(plan.calls):
        for one in calls:
            inside = [frame for frame in one.updated if 0 <= frame < plan.frames]
            if name.startswith("rolling"):
                if not inside:
                    continue
                known = {f: float(plan.levels[row, f]) for f in range(plan.frames)}
                if set(one.seen) <= set(known):
                    found[one.seen, tuple(known[f] for f in one.seen)] += 1
                continue
            level = float(plan.levels[row, inside[0]])
            found[one.seen, (level,) * len(one.seen)] += 1
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_task_calls_the_model_as_planned(name):
    make, task, more = CASES[name]
    spy, frames = Spy(), 33
    whole(task(spy, SIZE, SAMPLING, frames, **more))
    plan = make(frames, SIGMAS)
    expected = told(plan, name)
    if name.startswith("rolling"):
        assert expected and not expected - spy.calls
        calls = sum(len(row) for row in plan.calls) + len(SIGMAS) - 1
        assert spy.calls.total() == calls
        return
    assert spy.calls == expected


def test_evaluations_are_counted():
    assert single_plan(4, SIGMAS).evaluations == 4 * 7
    assert prediction_plan(10, SIGMAS, 6, 2).evaluations == 12 * 7
    rolled = rolling_plan(9, SIGMAS, Rolling(window=7, lookahead=False))
    assert rolled.evaluations == 7 * 7 + 9 * 7 and rolled.together == 7


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ([[0], [2]], "takes 2 levels in row 0, where it is updated"),
        ([[0], [0]], "takes 0 levels in row 0, where it is updated"),
        ([[1], [0]], "takes -1 levels"),
        ([[0], [1]], r"ends after 1 of 2 steps, at sigma 0.5"),
    ],
)
def test_broken_plans_are_refused(taken, words):
    whole_plan = single_plan(1, torch.tensor([1.0, 0.5]))
    plan = NoisePlan(torch.tensor([1.0, 0.5, 0.0]), torch.tensor(taken), whole_plan.calls)
    with pytest.raises(ValueError, match=words):
        plan.check()
