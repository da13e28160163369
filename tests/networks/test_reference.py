"""Reference windows: in every window, attention also reads the tokens of one planned window."""

from dataclasses import replace

import pytest
import torch
from animatediff_toys import TEXT, toy_config, toy_layers, toy_unet_of_one_seed
from model_toys import SCHEDULE, normal, toy_sampling
from videoldm.core.diffusion.curves import StepAt
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.opened_modules import attend
from videoldm.core.networks.reference import ReferenceBank, ReferenceUse, ReferenceWindow
from videoldm.core.networks.video_unet import inject
from videoldm.core.tasks.segment import conditions_of
from videoldm.core.tasks.sliding import SlidingWindows, sliding

ALWAYS = ReferenceWindow(end=1.0)
SIZE = (1, 4, 8, 8)


def network():
    return inject(toy_unet_of_one_seed(), toy_layers(toy_config("v2")))


def seen(unet, x, use=None):
    with torch.no_grad():
        return unet(x, torch.tensor(500), Conditions(text=TEXT[: len(x)], reference=use))


def uses(how=ALWAYS, **more):
    bank = ReferenceBank()
    return (ReferenceUse(bank=bank, settings=how, records=True, **more),
            ReferenceUse(bank=bank, settings=how, **more))  # fmt: skip


def test_recording_changes_nothing_and_an_empty_bank_neither():
    unet, x = network(), normal(1, 4, 4, 8, 8)
    records, reads = uses()
    plain = seen(unet, x)
    torch.testing.assert_close(seen(unet, x, reads), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen(unet, x, records), plain, rtol=1e-4, atol=1e-5)
    assert len(records.bank.kept) == 4, "down and middle attend once, up twice"


@pytest.mark.parametrize("how", [ALWAYS, ReferenceWindow(strength=0.0, end=1.0)])
def test_reading_itself_or_nothing_changes_nothing(how):
    """Attention over keys and values that all occur twice is the same attention."""
    unet, x = network(), normal(1, 4, 4, 8, 8)
    records, reads = uses(how)
    other = x if how.strength else normal(1, 4, 4, 8, 8, seed=5)
    seen(unet, other, records)
    torch.testing.assert_close(seen(unet, x, reads), seen(unet, x), rtol=1e-4, atol=1e-4)


def test_attention_reads_the_tokens_of_the_same_frame_by_the_formula():
    tokens, other = normal(3, 5, 8), normal(3, 5, 8, seed=1)
    _, reads = uses(ReferenceWindow(strength=0.25, end=1.0))
    reads.bank.kept["here", None] = other
    more = reads.extra_tokens("here", tokens, 3)
    torch.testing.assert_close(more, 0.25 * other + 0.75 * tokens)
    # Frames before or after the planned window read its first or last frame.
    ahead = replace(reads, lead=1).extra_tokens("here", normal(5, 5, 8), 5)
    assert ahead.shape == (5, 5, 8)
    whole = replace(reads, settings=ALWAYS, lead=1).extra_tokens("here", normal(5, 5, 8), 5)
    torch.testing.assert_close(whole, other[[0, 0, 1, 2, 2]])
    attention = network().image_unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    q, k = normal(1, 5, 32), normal(1, 5, 32, seed=3)
    twice = attend(attention, q, torch.cat([k, k], 1), torch.cat([k, k], 1), 0 * q)
    torch.testing.assert_close(twice, attend(attention, q, k, k, 0 * q), rtol=1e-4, atol=1e-5)


def test_prompts_keep_their_banks_apart_and_have_strengths_of_their_own():
    _, reads = uses(ReferenceWindow(strength=1.0, negative=0.0, end=1.0))
    positive, negative = (reads.of_branch(0, is_negative=one) for one in (False, True))
    records = replace(reads, records=True)
    tokens, a, b = (normal(2, 3, 4, seed=seed) for seed in range(3))
    records.of_branch(0, is_negative=False).extra_tokens("here", a, 2)
    assert negative.extra_tokens("here", tokens, 2) is None
    records.of_branch(0, is_negative=True).extra_tokens("here", b, 2)
    torch.testing.assert_close(positive.extra_tokens("here", tokens, 2), a)
    torch.testing.assert_close(negative.extra_tokens("here", tokens, 2), tokens)
    alike = replace(negative, settings=ALWAYS)
    torch.testing.assert_close(alike.extra_tokens("here", tokens, 2), b)


# --------------------------------------------------------------------------------------------------
# Long videos.


class Watched:
    """Denoisers of a real model that record the windows they are called for."""

    def __init__(self):
        model = DiffusionModel(network=network(), preconditioning=discrete("eps", SCHEDULE),
                               factor=8, latent_scale=1.0)  # fmt: skip
        self.model, self.asked = model, []

    def __call__(self, condition):
        given = conditions_of(condition, {}, TEXT[:1])
        denoiser = self.model.denoiser(given)

        def denoise(x, sigma):
            use = condition.reference
            self.asked.append((tuple(condition.frames), use is not None and use.records))
            return denoiser(x, sigma)

        return denoise


def made(reference=None, frames=10, **changed):
    watched, sampling = Watched(), toy_sampling(3)
    windows = SlidingWindows(**{"window": 4, "overlap": 1, "free_noise": False,
                                "reference": reference, **changed})  # fmt: skip
    with torch.no_grad():
        video = torch.cat(list(sliding(watched, SIZE, sampling, frames, windows=windows)), 1)
    return video, watched.asked


def test_the_planned_window_costs_nothing_where_it_is_one_of_the_steps_windows():
    plain, asked = made()
    read, with_reference = made(ALWAYS)
    assert len(with_reference) == len(asked)
    first = [one for one in with_reference if one[1]]
    assert {one[0] for one in first} == {(0, 1, 2, 3)} and len(first) == 3
    assert (read - plain).abs().max() > 1e-3


def test_another_planned_window_is_evaluated_besides():
    _, plain = made()
    _, asked = made(ReferenceWindow(first=5, end=1.0))
    assert len(asked) == len(plain) + 3
    assert {one[0] for one in asked if one[1]} == {(5, 6, 7, 8)}
    _, asked = made(ReferenceWindow(first=99, end=1.0))
    assert {one[0] for one in asked if one[1]} == {(6, 7, 8, 9)}


def test_the_order_of_windows_does_not_matter(monkeypatch):
    from videoldm.core.tasks import windows as plans

    read, _ = made(ALWAYS)
    straight = plans.sliding_windows
    monkeypatch.setitem(
        __import__("videoldm.core.tasks.window_schedules", fromlist=["x"]).SCHEDULES, "static",
        lambda frames, window, overlap, *rest: straight(frames, window, overlap)[::-1],
    )  # fmt: skip
    assert torch.equal(made(ALWAYS)[0], read)


def test_outside_of_its_steps_it_is_as_if_it_were_not_there():
    plain, _ = made()
    for how in (ReferenceWindow(strength=0.0, negative=0.0, end=1.0),):
        torch.testing.assert_close(made(how)[0], plain, rtol=1e-3, atol=1e-3)
    early = ReferenceWindow(end=0.0)
    assert [early.acts(StepAt(k, 4)) for k in range(4)] == [True, False, False, False]
    assert [ReferenceWindow(begin=0.5, end=1.0).acts(StepAt(k, 4)) for k in range(4)] == [
        False, False, True, True,
    ]  # fmt: skip
    _, asked = made(early)
    assert sum(records for _, records in asked) == 1


@pytest.mark.parametrize("schedule", ["uniform", "looped", "batched"])
def test_windows_of_every_schedule_read(schedule):
    read, _ = made(ALWAYS, schedule=schedule)
    plain, _ = made(schedule=schedule)
    assert torch.isfinite(read).all() and (read - plain).abs().max() > 1e-3


def test_numbers_that_make_no_sense_are_refused():
    for how, text in (
        ({"strength": 1.5}, r"lie in 0 .. 1, got \(1.5, 1.0\)"),
        ({"begin": 0.6, "end": 0.5}, "in order within 0 .. 1, got 0.6 and 0.5"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            ReferenceWindow(**how)
