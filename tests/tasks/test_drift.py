"""Drift: colours matched to those before, and first frames that are held in attention."""

import pytest
import torch
from model_toys import Denoisers, normal, toy_sampling, whole
from videoldm.core.networks.reference import ReferenceWindow
from videoldm.core.tasks.drift import HeldReference, matched
from videoldm.core.tasks.long_video import Continuation, prediction
from videoldm.core.tasks.segment import SegmentCondition

SIZE = (2, 4, 3, 5)
SAMPLING = toy_sampling()


def statistics(frames):
    """Mean and within-frame deviation of each channel, [2, b, c]."""
    variance = frames.var((3, 4), correction=0).mean(1)
    return torch.stack([frames.mean((1, 3, 4)), variance.sqrt()])


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_mean_and_deviation_of_each_channel_move_to_those_before(strength):
    before, new = normal(2, 3, 4, 8, 8), 3 * normal(2, 5, 4, 8, 8, seed=1) + 2
    found = statistics(matched(new, before, strength))
    wanted = torch.lerp(statistics(new), statistics(before), strength)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_flat_channel_takes_the_mean_and_stays_finite():
    new = torch.full((1, 2, 1, 4, 4), 5.0)
    found = matched(new, normal(1, 1, 1, 4, 4))
    torch.testing.assert_close(found.mean(), normal(1, 1, 1, 4, 4).mean())


class Brighter(Denoisers):
    """Makes each segment a little brighter than the frames it continues."""

    def __call__(self, condition):
        known = condition.context
        shift = 0.0 if known is None else float(known.latents[:, :2].mean()) + 0.5
        return lambda x, sigma: (x / (1 + sigma)).tanh() + shift


def test_matched_segments_do_not_grow_brighter():
    def ends(match):
        how = Continuation(window=6, context=2, match=match)
        video = whole(prediction(Brighter(), SIZE, SAMPLING, 40, settings=how))
        return [float(video[:, at].mean()) for at in (5, -1)]

    (first, drifted), (same, held) = ends(0.0), ends(1.0)
    assert first == same
    assert drifted - first > 3 and abs(held - first) < 0.5


class Flickering(Denoisers):
    """Gives every frame its own brightness and contrast."""

    def __call__(self, condition):
        at = torch.tensor(condition.frames)[None, :, None, None, None]
        light, contrast = torch.sin(2.4 * at), 1 + 0.5 * torch.cos(1.7 * at)
        return lambda x, sigma: (x / (1 + sigma)).tanh() * contrast + light


@pytest.mark.parametrize("given", [None, normal(2, 1, 4, 3, 5)])
def test_segments_that_are_matched_are_all_as_the_first(given):
    """Matched to the beginning, not to the one frame that a segment continues: a small sample."""
    how = Continuation(window=6, context=1, match=1.0, given=given)
    chunks = list(prediction(Flickering(), SIZE, SAMPLING, 101, settings=how))
    first = chunks[0] if given is None else given
    assert len(chunks) > 10
    for chunk in chunks[1:]:
        torch.testing.assert_close(statistics(chunk), statistics(first), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", [None, normal(2, 1, 4, 3, 5)])
def test_a_matched_run_continues_bit_for_bit(given):
    how = Continuation(window=6, context=2, match=0.7, reference=ReferenceWindow(), given=given)
    chunks = list(prediction(Denoisers(), SIZE, SAMPLING, 22, settings=how))
    for k in range(1, len(chunks)):
        rest = list(
            prediction(Denoisers(), SIZE, SAMPLING, 22, settings=how, done=whole(chunks[:k]))
        )
        assert all(torch.equal(a, b) for a, b in zip(rest, chunks[k:], strict=True))


def test_first_frames_are_evaluated_at_the_levels_of_the_segment():
    seen = []

    def denoiser_for(condition):
        def denoise(x, sigma):
            seen.append((condition.reference.records, tuple(condition.frames), x, sigma))
            return x

        return denoise

    clean = normal(1, 3, 4, 3, 5)
    held = HeldReference(denoiser_for, clean, ReferenceWindow(), SAMPLING)
    sigma = torch.tensor([[0.0, 0.1, 2.0, 3.0]])
    held(SegmentCondition(frames=range(9, 13)))(normal(1, 4, 4, 3, 5), sigma)
    (records, frames, x, levels), (reads, own, _, _) = seen
    assert records and frames == (0, 1, 2) and not reads and own == (9, 10, 11, 12)
    assert torch.equal(levels, sigma[:, :3])
    assert torch.equal(x[:, 0], clean[:, 0]) and not torch.allclose(x[:, 2], clean[:, 2])


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"match must lie in 0 .. 1, got 1.5"):
        Continuation(match=1.5)
