import pytest
import torch
from model_toys import SCHEDULE, normal
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.networks.context_frames import (
    CLEAN,
    ContextFrames,
    given_frames,
    no_context,
    perturbed,
)

KNOWN = normal(2, 2, 4, 3, 5)


def test_given_frames_stand_at_their_positions_and_the_rest_is_zero():
    context = given_frames(KNOWN, [0, 3], 5)
    assert context.mask.tolist() == [[1, 0, 0, 1, 0]] * 2
    assert torch.equal(context.latents[:, [0, 3]], KNOWN)
    assert (context.latents[:, [1, 2, 4]] == 0).all()
    assert context.noise_level.tolist() == [CLEAN] * 2 and context.step.tolist() == [0, 0]


def test_the_mask_is_the_last_channel_of_what_layers_are_given():
    context = given_frames(KNOWN, [1, 2], 4)
    masked = context.masked
    assert masked.shape == (2, 4, 5, 3, 5)
    assert torch.equal(masked[:, :, :4], context.latents)
    assert torch.equal(masked[:, :, 4, 0, 0], context.mask)
    assert (masked[:, :, 4] == masked[:, :, 4, :1, :1]).all()


def test_masked_latents_are_zero_even_if_something_stands_there():
    full = ContextFrames(
        latents=normal(1, 3, 4, 2, 2), mask=torch.tensor([[0.0, 1, 0]]), noise_level=torch.zeros(1)
    )
    assert (full.masked[:, [0, 2]] == 0).all()


def test_dropping_and_no_context_are_the_same():
    dropped, none = given_frames(KNOWN, [0, 1], 4).dropped(), no_context((2, 4, 4, 3, 5))
    assert torch.equal(dropped.masked, none.masked)
    assert torch.equal(dropped.noise_level, none.noise_level)


def test_perturbation_is_the_forward_process_on_the_given_frames_alone():
    context, noise = given_frames(KNOWN, [0, 3], 5), normal(2, 5, 4, 3, 5, seed=1)
    lvdm = scaled_linear(start=0.0015, end=0.0155)
    told = perturbed(context, lvdm, 100, noise)
    # The factors of LVDM's prediction model at s = 100.
    expected = 0.910394 * KNOWN + 0.413742 * noise[:, [0, 3]]
    torch.testing.assert_close(told.latents[:, [0, 3]], expected, atol=1e-5, rtol=1e-5)
    assert (told.latents[:, [1, 2, 4]] == 0).all()
    assert told.noise_level.tolist() == [100, 100]
    assert torch.equal(context.latents[:, [0, 3]], KNOWN)
    assert perturbed(context, SCHEDULE, 0, noise) is context


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"2 given frames cannot stand at positions \[0\]"):
        given_frames(KNOWN, [0], 5)
    with pytest.raises(ValueError, match=r"positions \[0, 5\] of a video of 5"):
        given_frames(KNOWN, [0, 5], 5)
    context = given_frames(KNOWN, [0, 1], 5)
    for level in (-1, 1000):
        with pytest.raises(ValueError, match=f"{level} must lie in 0 .. 999"):
            perturbed(context, SCHEDULE, level, context.latents)
    with pytest.raises(ValueError, match=r"needs a mask \[2, 5\] .* got \[2, 4\]"):
        ContextFrames(
            latents=context.latents, mask=context.mask[:, :4], noise_level=context.noise_level
        )
