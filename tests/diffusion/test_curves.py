"""Curves over absolute frames and over the sampler's steps: interpolation, products, masks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from videoldm.core.diffusion import samplers as sampling
from videoldm.core.diffusion.curves import (
    AXES,
    INTERPOLATIONS,
    Curve,
    Line,
    StepAt,
    current_step,
    per_frame,
    step_of,
)

numbers = st.floats(-4, 4, allow_nan=False)
rising = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted)


@given(rising, st.data(), st.sampled_from(INTERPOLATIONS))
def test_a_line_goes_through_its_points_and_stays_between_them(at, data, interpolation):
    values = data.draw(st.lists(numbers, min_size=len(at), max_size=len(at)))
    line = Line(tuple(zip(at, values, strict=True)), interpolation, "frames")
    assert [line(x) for x in at] == values
    assert line(at[0] - 1) == values[0]
    assert line(at[-1] + 1) == values[-1]
    for k, x in enumerate(at[:-1]):
        inside = [line(x + t * (at[k + 1] - x)) for t in (0.1, 0.5, 0.9)]
        low, high = sorted(values[k : k + 2])
        assert all(low - 1e-9 <= one <= high + 1e-9 for one in inside)
        # Each piece is monotonic.
        assert inside == sorted(inside, reverse=values[k + 1] < values[k]) or low == high


@given(numbers, rising, st.sampled_from(INTERPOLATIONS), st.sampled_from(AXES))
def test_equal_points_are_the_number_itself(value, at, interpolation, over):
    line = Line(tuple((x, value) for x in at), interpolation, over)
    curve = Curve(lines=(line,))
    assert curve.constant == (value if value else 0.0)
    assert curve.amount(range(50), StepAt(3, 9)) == value
    assert {line(0.37 * x) for x in range(60)} == {value}


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_two_points_at_zero_are_a_jump_behind_the_first_step(interpolation):
    line = Line(((0.0, 1.0), (0.0, 0.25)), interpolation)
    values = [Curve(lines=(line,)).at(0, StepAt(k, 20)) for k in range(20)]
    assert values == [1.0] + [0.25] * 19


def test_a_jump_in_the_middle():
    line = Line(((0, 0.0), (8, 1.0), (8, 5.0), (16, 6.0)), "linear", "frames")
    assert [line(x) for x in (7, 8, 9, 16)] == [0.875, 1.0, 5.125, 6.0]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ((), "got 0"),
        (((0, 1), (0, 2), (0, 3)), "3 points of a curve are at 0"),
        (((1, 1), (0, 2)), "order"),
        (((0, float("inf")),), "finite"),
    ],
)
def test_what_points_cannot_mean_is_refused(points, words):
    with pytest.raises(ValueError, match=words):
        Line(points)


def test_frames_count_absolutely_in_any_window():
    ramp = Curve(lines=(Line(((0, 0.0), (63, 6.3)), "linear", "frames"),))
    whole = ramp.amount(range(64))
    for window in ([8, 9, 10, 11], [62, 63, 0, 1], range(40, 56, 4)):
        assert torch.equal(ramp.amount(list(window)), whole[list(window)])


def test_a_list_is_one_number_per_frame_and_its_last_remains():
    curve = per_frame([0.5, 1.0, 2.0])
    assert [curve.at(frame) for frame in range(5)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert per_frame([0.5]).constant == 0.5


@given(numbers, numbers)
def test_products(a, b):
    steps = Line(((0, a), (1, b)))
    frames = Line(((0, b), (9, a)), "hold", "frames")
    both = Curve(2.0, (steps,)) * Curve(lines=(frames,)) * 3.0
    assert both.at(9, StepAt(0, 5)) == pytest.approx(6 * a * a)
    assert both.at(0, StepAt(4, 5)) == pytest.approx(6 * b * b)


def test_masks_are_pictures_per_frame_of_any_size():
    mask = torch.zeros(2, 8, 8)
    mask[1, :, 4:] = 1.0
    curve = Curve(0.5, masks=(mask,))
    amount = curve.amount([0, 1, 7], size=(4, 4))
    assert amount.shape == (3, 4, 4)
    assert not amount[0].any()
    assert torch.equal(amount[1], amount[2])
    assert amount[1, :, 0].max() < 1e-6
    assert torch.allclose(amount[1, :, 3], torch.tensor(0.5))
    with pytest.raises(ValueError, match="height and width"):
        curve.amount([0])


def test_zero_everywhere_is_the_number_zero():
    assert Curve(0.0, masks=(torch.ones(1, 2, 2),)).amount([0, 1], size=(4, 4)) == 0.0
    off_late = Curve(lines=(Line(((0, 1), (0.5, 0)), "hold"),))
    assert off_late.constant is None
    assert off_late.amount([0, 1], StepAt(9, 10)) == 0.0


# --------------------------------------------------------------------------------------------------
# Steps.

SAMPLERS = {
    "euler": (sampling.sample_euler, 1),
    "euler_ancestral": (sampling.sample_euler_ancestral, 1),
    "heun": (sampling.sample_heun, 2),
    "dpmpp_2m": (sampling.sample_dpmpp_2m, 1),
    "dpmpp_2m_sde": (sampling.sample_dpmpp_2m_sde, 1),
    "unipc": (sampling.sample_unipc, 1),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_is_a_step_of_the_sampler(name):
    sampler, evaluations = SAMPLERS[name]
    seen = []

    def denoiser(x, sigma):
        seen.append(current_step.get())
        return 0.5 * x

    sampler(denoiser, torch.ones(1, 2), torch.tensor([8.0, 4, 2, 1, 0]), noise=lambda k, x: x)
    wanted = [StepAt(k, 4) for k in range(4) for _ in range(evaluations)]
    # Heun's last step, down to 0, has no corrector.
    assert seen == (wanted[:-1] if name == "heun" else wanted)
    assert current_step.get() is None


def test_a_sampling_within_a_sampling_does_not_disturb_it():
    seen = []

    def outer(x, sigma):
        sampling.sample_euler(lambda x, sigma: x, x, torch.tensor([2.0, 1.0, 0.0]))
        seen.append(current_step.get())
        return x

    sampling.sample_euler(outer, torch.ones(1), torch.tensor([3.0, 2.0, 1.0, 0.0]))
    assert seen == [StepAt(k, 3) for k in range(3)]


def test_steps_by_noise_level_where_no_sampler_tells():
    levels = [14.6, 7.0, 3.0, 1.0, 0.0]
    assert [step_of(one, levels).index for one in levels[:-1]] == [0, 1, 2, 3]
    # Between two levels, where second-order samplers evaluate, it is still the earlier step.
    assert [step_of(one, levels).index for one in (10.0, 4.5, 1.7, 0.3)] == [0, 1, 2, 3]
    assert step_of(99.0, levels) == StepAt(0, 4)
