"""Prompts that change over the frames: how they are parsed, and the prompt of each frame."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from videoldm.nodes.host.shared.conditioning import pooled_for, text_for, with_frames
from videoldm.nodes.stages.parsing import segments_conditioning
from videoldm.nodes.stages.prompt_travel import Clock, read_travel
from videoldm.nodes.stages.texts import read_segments

KNOWN = {"a": 1.0, "b": 4.0, "c": 9.0}


class Encoder:
    """A host that encodes a prompt as a number: tokens [1, 1, 1], pooled [1, 1] ten times that."""

    def encode_text(self, clip, text):
        value = KNOWN[text]
        return [[torch.full((1, 1, 1), value), {"pooled_output": torch.full((1, 1), 10 * value)}]]


def travelled(text: str, frames: int = 0, rate: float = 15.0) -> tuple[list[float], int]:
    """(The token value of each frame, the number of frames)."""
    conditioning, total = segments_conditioning(
        Encoder(), None, text, Clock(frames=frames, rate=rate)
    )
    return values(text_for(conditioning, range(total)), total), total


def values(found: torch.Tensor, frames: int) -> list[float]:
    return (
        found.flatten().expand(frames).tolist() if found.numel() == 1 else found.flatten().tolist()
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 60), st.sampled_from(sorted(KNOWN)), min_size=1, max_size=6),
       st.integers(61, 80))  # fmt: skip
def test_every_frame_blends_its_two_endpoints(prompts, frames):
    """Each frame interpolates linearly between the nearest prompts before and after it."""
    text = ", ".join(f'"{frame}": "{prompt}"' for frame, prompt in prompts.items())
    found, total = travelled(text, frames)
    places = sorted(prompts)
    levels = torch.tensor([KNOWN[prompts[place]] for place in places])
    assert total == frames == len(found)
    for frame, value in enumerate(found):
        after = next((k for k, place in enumerate(places) if place >= frame), len(places) - 1)
        before = max(after - 1, 0) if places[after] > frame else after
        span = places[after] - places[before]
        share = (frame - places[before]) / span if span else 0.0
        wanted = levels[before] + share * (levels[after] - levels[before])
        assert value == pytest.approx(float(wanted), abs=1e-5)


def test_half_of_the_way_is_half_of_each_and_pooled_text_goes_along():
    conditioning, _ = segments_conditioning(
        Encoder(), None, '"0": "a", "16": "b"', Clock(frames=17)
    )
    for share, frame in ((0.25, 4), (0.5, 8), (0.75, 12)):
        wanted = 1 + 3 * share
        assert float(text_for(conditioning, [frame])) == pytest.approx(wanted)
        assert float(pooled_for(conditioning, [frame])) == pytest.approx(10 * wanted)
    assert pooled_for(conditioning, range(17)).shape == (1, 17, 1)
    assert pooled_for(conditioning, [0]).shape == (1, 1)
    windows = [range(0, 9), (16, 0, 5), range(8, 17)]
    whole = pooled_for(conditioning, range(17))
    for window in windows:
        torch.testing.assert_close(pooled_for(conditioning, window), whole[:, list(window)])


SPELLINGS = [
    '"0": "a", "16": "b"', '0 = "a", 16 = "b"', '{"0": "a", "16": "b"}', '"0":"a",\n"16":"b",',
    '"16": "b", "0": "a"', '"0.0": "a", "1.0": "b"', '"0%": "a", "-1": "b"', '-17="a", -1="b"',
    '"0s": "a", "2s": "b"', '"0:1": "a", "16:17": "b"', '0="a",1.0="b"',
]  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings_of_the_same_prompts(text):
    wanted = [1 + 3 * frame / 16 for frame in range(17)]
    found, total = travelled(text, frames=17, rate=8.0)
    assert total == 17 and found == pytest.approx(wanted)


@pytest.mark.parametrize(("text", "frames", "wanted"), [
    ('"0:": "a", "4": "b"', 6, [1, 1, 1, 1, 4, 4]),
    ('"0:3": "a", "5": "b"', 6, [1, 1, 1, 2, 3, 4]),
    ('"1": "a", "2": "b", "3:": "a"', 6, [1, 1, 4, 1, 1, 1]),
    ('"0": "a", "2": "a", "4": "b"', 0, [1, 1, 1, 2.5, 4]),
    ('"0": "a", "0.5": "b"', 4, [1, 2.5, 4, 4]),
    ('[{"prompt": "a", "frames": "1s"}, {"prompt": "b", "frames": "50%"}]', 4, [1, 1, 4, 4]),
])  # fmt: skip
def test_ranges_holds_parts_and_seconds(text, frames, wanted):
    found, total = travelled(text, frames, rate=2.0)
    assert total == len(wanted) and found == pytest.approx(wanted)


@pytest.mark.parametrize(("text", "frames", "message"), [
    ('"0": "a", "40": "b"', 32, "frame 40 does not lie in a video of 32 frames"),
    ('"0": "a", "-40": "b"', 32, "frame -40 does not lie in a video of 32 frames"),
    ('"0": "a", "-1": "b"', 0, "needs the length of the video: set frames"),
    ('"0": "a", "0.5": "b"', 0, "needs the length of the video: set frames"),
    ('"1.5": "a"', 32, "part 1.5 of the video must lie in 0.0 .. 1.0"),
    ('"8:4": "a"', 32, "range 8:4 has 0 frames"),
    ('"0:8": "a", "4": "b"', 32, "frame 4 has 2 prompts"),
    ('"x": "a"', 32, "is not a frame: write 8, -1, 0.5, 50% or 1.5s"),
    ('"0": "a" "4": "b"', 32, 'must be written as in "0": "a cat"'),
    ('"0": a', 32, 'must be written as in "0": "a cat"'), ("{}", 32, "must be written as in"),
    ('"200000": "a"', 0, "1 to 100000 frames, not 200001"),
    ('[{"prompt": "a", "frames": "8"}]', 32, "segment 1: frames must be a number of frames"),
    ('[{"prompt": "a", "frames": "25%"}]', 0, "needs the length of the video"),
])  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_sentence(text, frames, message):
    with pytest.raises(ValueError) as caught:
        read_segments(text, Clock(frames=frames))
    assert message in str(caught.value)


def test_quotes_and_lines_inside_of_prompts():
    text = '"0": "say \\"hello\\",\nworld", "4": "back\\\\slash"'
    assert [prompt for prompt, _, _ in read_travel(text, Clock())] == [
        'say "hello",\nworld', "back\\slash",
    ]  # fmt: skip


def test_prompts_that_other_packs_made_for_every_frame():
    """One prompt whose tokens are a batch: row k belongs to frame k, and the last row to all later
    frames."""
    tokens, pooled = torch.arange(6.0).reshape(6, 1, 1), torch.arange(6.0).reshape(6, 1)
    conditioning = [[tokens, {"pooled_output": pooled}]]
    assert text_for(conditioning, [4, 5, 0, 9]).flatten().tolist() == [4, 5, 0, 5]
    assert pooled_for(conditioning, range(2, 4)).flatten().tolist() == [2, 3]


def test_without_pooled_text_there_is_none():
    plain = [[torch.zeros(1, 1, 1), {}]]
    assert pooled_for([*with_frames(plain, 0, 2), *with_frames(plain, 1, 4)], range(4)) is None


# --------------------------------------------------------------------------------------------------
# Numbers in backticks, and arcs.


class Weights:
    """A host that encodes a prompt as the number written in it."""

    def __init__(self):
        self.asked = []

    def encode_text(self, clip, text):
        self.asked.append(text)
        number = float(text.split(":")[1].rstrip(")"))
        return [[torch.full((1, 1, 1), number), {"pooled_output": torch.full((1, 1), number)}]]


@pytest.mark.parametrize(("text", "frames", "wanted"), [
    ('"0": "(a:`0, 1`)"', 5, [0, 0.25, 0.5, 0.75, 1]),
    ('"0": "(a:`0, 1, .5`)"', 5, [0, 0.5, 1, 0.75, 0.5]),
    ('"0": "(a:`0.1, 0.9, 0.3, 0.7`)"', 4, [0.1, 0.9, 0.3, 0.7]),
    ('"0": "(a:`1: 0, 3: 1`)"', 5, [0, 0, 0.5, 1, 1]),
    ('"0": "(a:`0%: -1, -1: 1, 1s: 1`)"', 5, [-1, 0, 1, 1, 1]),
    ('"0": "(a:`2`)"', 3, [2, 2, 2]),
    ('[{"prompt": "(a:`0, 1`)", "frames": 3}, {"prompt": "(a:`0, 1`)", "frames": 3, "overlap": 1}]',
     0, [0, 0.25, 0.5, 0.75, 1]),
])  # fmt: skip
def test_numbers_in_backticks_change_over_the_frames(text, frames, wanted):
    host = Weights()
    conditioning, total = segments_conditioning(host, None, text, Clock(frames=frames, rate=2.0))
    for of in (text_for, pooled_for):
        assert values(of(conditioning, range(total)), total) == pytest.approx(wanted)
    assert len(host.asked) == len(set(host.asked)) == len({round(one, 2) for one in wanted})
    for window in ([2, 0], [4 % total, 1]):
        found = values(text_for(conditioning, window), 2)
        assert found == pytest.approx([wanted[frame] for frame in window])


def test_changing_numbers_fade_as_their_prompt_does():
    """Numbers change with the frame, and the two prompts blend as they do without numbers."""
    text = '"0:2": "(a:`0, 10`)", "6:": "(a:`10, 0`)"'
    conditioning, total = segments_conditioning(Weights(), None, text, Clock(frames=11))
    found = values(text_for(conditioning, range(total)), total)
    assert len(found) == 11
    for frame, value in enumerate(found):
        share = min(max((frame - 1) / 5, 0.0), 1.0)
        assert value == pytest.approx((1 - share) * frame + share * (10 - frame), abs=0.01)
    # A segment may run past the end of the video.
    assert values(text_for(conditioning, [11, 12]), 2) == pytest.approx([0, 0])


@pytest.mark.parametrize(("text", "message"), [
    ('"0": "(a:`0, 1)"', "has a backtick without a second one"),
    ('"0": "(a:`w`)"', '"w" is not a number; write `0.5, 1.2` or `0: 0.5, 16: 1.2`'),
    ('"0": "(a:`0: 1, 2`)"', '"2" stands at no frame, as in 16: 2'),
    ('"0": "(a:`0: 1, 0: 2`)"', "frame 0 has 2 numbers"),
    ('"0": "(a:`40: 1`)"', "frame 40 does not lie in a video of 32 frames"),
    ('"0": "(a:``)"', "0 numbers stand between two backticks"),
    ('[{"prompt": "(a:`1e3`)", "frames": 8}]', '"1e3" is not a number'),
])  # fmt: skip
def test_what_cannot_be_read_in_backticks_is_said(text, message):
    with pytest.raises(ValueError) as caught:
        read_segments(text, Clock(frames=32))
    assert message in str(caught.value)


def test_along_an_arc_tokens_keep_their_length_and_turn_evenly():
    class Turned:
        def encode_text(self, clip, text):
            x, y = {"a": (2.0, 0.0), "b": (0.0, 2.0)}[text]
            pooled = torch.tensor([[x, y]])
            return [[pooled[None].clone(), {"pooled_output": pooled}]]

    text, clock = '"0": "a", "9": "b"', Clock(frames=10)
    conditioning, total = segments_conditioning(Turned(), None, text, clock, "spherical")
    tokens = text_for(conditioning, range(total))[0, :, 0]
    angles = torch.arange(10) / 9 * torch.pi / 2
    wanted = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(tokens, wanted)
    pooled = pooled_for(conditioning, range(total))[0]
    torch.testing.assert_close(pooled.sum(dim=1), torch.full((10,), 2.0))
    straight, _ = segments_conditioning(Turned(), None, text, clock)
    assert text_for(straight, [4])[0, 0].norm() < 1.6
