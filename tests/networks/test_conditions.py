import pytest
import torch
from model_toys import normal
from videoldm.core.networks.conditions import (
    FRAME_RATE,
    NOISE_LEVEL,
    Conditions,
    NetworkSpec,
    first_frame_text,
    frame_rate_ids,
)
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.tasks.segment import SegmentCondition, conditions_of

SPEC = NetworkSpec(name="toy network", latent_channels=4, concatenated=3, text=16,
                   ids={NOISE_LEVEL: 50}, context=4)  # fmt: skip
LOW = normal(2, 3, 3, 8, 8)
EVERYTHING = Conditions(
    text=normal(1, 5, 16), pooled_text=normal(1, 12), image=normal(1, 2, 16),
    ids={NOISE_LEVEL: torch.tensor(7), "motion": torch.tensor([127.0])}, concatenated=LOW[:1],
    context=given_frames(normal(2, 1, 4, 8, 8), [0], 3), image_only=torch.zeros(1, 3),
    times=torch.arange(3),
)  # fmt: skip


def test_what_a_network_takes_and_what_it_is_given_have_the_same_names():
    assert SPEC.takes == ("text", "concatenated", "context", NOISE_LEVEL)
    named = {"text", "pooled_text", "image", "concatenated", "context", "image_only", "times"}
    assert set(EVERYTHING.given) == {*named, NOISE_LEVEL, "motion"}
    assert Conditions().given == ()


@pytest.mark.parametrize("more, name", [
    (dict(image=normal(2, 1, 16)), "image"),
    (dict(image_only=torch.zeros(2, 3)), "image_only"),
    (dict(pooled_text=normal(2, 12)), "pooled_text"),
    (dict(times=torch.arange(3)), "times"),
    (dict(ids={"motion": torch.tensor([127])}), "motion"),
])  # fmt: skip
def test_more_than_a_network_takes_is_refused_with_both(more, name):
    SPEC.check(Conditions(concatenated=LOW))
    with pytest.raises(ValueError, match=f"toy network takes text, .* was also given {name}"):
        SPEC.check(Conditions(concatenated=LOW, **more))


def test_what_a_network_needs_must_be_given():
    with pytest.raises(ValueError, match="takes 3 channels besides the 4 .* but 0 were given"):
        SPEC.check(Conditions())
    pooled = NetworkSpec(name="toy network", latent_channels=4, pooled_text=True)
    with pytest.raises(ValueError, match="0 pooled vectors"):
        pooled.check(Conditions())
    with pytest.raises(ValueError, match="takes no conditions, but was also given text"):
        NetworkSpec(name="toy network", latent_channels=4).check(Conditions(text=normal(1, 5, 16)))


def test_what_is_there_once_serves_every_video():
    both = EVERYTHING.for_videos(2)
    assert both.text.shape == (2, 5, 16) and both.image.shape == (2, 2, 16)
    assert both.pooled_text.shape == (2, 12) and both.image_only.shape == (2, 3)
    assert both.ids[NOISE_LEVEL].tolist() == [7, 7] and both.ids["motion"].tolist() == [127, 127]
    assert both.concatenated.shape == LOW.shape and both.context is EVERYTHING.context


def test_what_is_computed_with_takes_the_networks_precision_and_numbers_keep_theirs():
    low = EVERYTHING.to("cpu", torch.bfloat16)
    computed = (low.text, low.pooled_text, low.image, low.concatenated)
    assert {one.dtype for one in computed} == {torch.bfloat16}
    assert low.ids[NOISE_LEVEL].dtype == torch.int64 and low.ids["motion"].dtype == torch.float32
    assert low.context.latents.dtype == torch.float32 and low.times.dtype == torch.int64


def test_what_has_frames_must_fit_the_video():
    x = normal(2, 3, 4, 8, 8)
    EVERYTHING.check_fits(x)
    with pytest.raises(ValueError, match=r"\[2, 3, 4, 8, 8\] do not fit .* \[2, 3, 4, 8, 4\]"):
        EVERYTHING.check_fits(x[..., :4])
    for more, words in ((dict(concatenated=LOW[:, :2]), r"concatenated of shape \[2, 2, 3, 8, 8\]"),
                        (dict(image_only=torch.zeros(2, 5)), r"image_only of shape \[2, 5\]"),
                        (dict(times=torch.arange(4)), "4 times .* 3 frames")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Conditions(**more).check_fits(x)


def test_the_frame_rate_is_given_to_networks_that_read_it_and_to_no_other():
    assert frame_rate_ids({}, 1) == {}
    assert frame_rate_ids({FRAME_RATE: 2}, None)[FRAME_RATE].tolist() == [0]
    assert frame_rate_ids({FRAME_RATE: 2}, 1)[FRAME_RATE].tolist() == [1]
    assert frame_rate_ids({FRAME_RATE: None}, 24)[FRAME_RATE].tolist() == [24]
    with pytest.raises(ValueError, match="class 2 must lie in 0 .. 1"):
        frame_rate_ids({FRAME_RATE: 2}, 2)


def test_the_first_frames_prompt_stands_for_the_video():
    texts = normal(2, 3, 5, 16)
    assert torch.equal(first_frame_text(texts), texts[:, 0])
    assert first_frame_text(None) is None and first_frame_text(texts[:, 1]).shape == (2, 5, 16)


def test_given_frames_of_a_window_and_of_a_joined_batch():
    context = given_frames(normal(2, 2, 4, 8, 8), [0, 3], 5)
    window = context.at([3, 4])
    assert torch.equal(window.latents, context.latents[:, 3:]) and window.mask.tolist()[0] == [1, 0]
    again = context.repeated(2)
    assert torch.equal(again.latents[2:], context.latents) and again.noise_level.shape == (4,)


def test_frames_are_numbered_absolutely():
    given = conditions_of(SegmentCondition(frames=range(8, 12)), {})
    assert given.numbers(4) == (8, 9, 10, 11) and "frames" not in given.given
    assert Conditions().numbers(3) == (0, 1, 2)
    with pytest.raises(ValueError, match="4 frames do not fit a video of 3 frames"):
        given.check_fits(torch.zeros(1, 3, 4, 8, 8))
