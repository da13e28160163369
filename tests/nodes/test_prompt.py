"""Prompts: weights, chunks of tokens, and the prompt of each frame."""

from __future__ import annotations

import pytest
import torch
from videoldm.nodes.host.shared.conditioning import text_for, with_frames
from videoldm.nodes.host.shared.prompt import tokens_of, weighted_parts


class Words:
    """A tokenizer whose tokens are words, numbered by their length."""

    bos_token_id, eos_token_id, pad_token_id = 100, 101, 102

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [len(word) for word in text.split()]}


@pytest.mark.parametrize(("text", "parts"), [
    ("a cat", [("a cat", 1.0)]),
    ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
    ("((red)) cat", [("red", 1.1 * 1.1), (" cat", 1.0)]),
    ("(red:1.4) cat", [("red", 1.4), (" cat", 1.0)]),
    ("(a (red:0.5) cat:2)", [("a ", 2.0), ("red", 0.5), (" cat", 2.0)]),
    (r"a \(real\) cat", [("a (real) cat", 1.0)]),
    ("a (red cat", [("a (red cat", 1.0)]),
    ("a red) cat", [("a red) cat", 1.0)]),
    ("(time: noon)", [("time: noon", 1.1)]),
    ("", []),
])  # fmt: skip
def test_weights_are_read_as_comfyui_does(text, parts):
    found = list(weighted_parts(text))
    assert [one for one, _ in found] == [one for one, _ in parts]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in parts])


def test_a_chunk_begins_ends_and_is_filled_up():
    (chunk,) = tokens_of("a cat (sits:1.5)", Words(), 8)
    ids, weights = zip(*chunk, strict=True)
    assert ids == (100, 1, 3, 4, 101, 102, 102, 102)
    assert weights == (1, 1, 1, 1.5, 1, 1, 1, 1)
    assert tokens_of("", Words(), 4) == [[(100, 1.0), (101, 1.0), (102, 1.0), (102, 1.0)]]


def test_long_prompts_go_on_in_the_next_chunk_and_short_groups_stay_together():
    chunks = tokens_of("a b c d (e f g:2)", Words(), 8)
    assert [[weight for _, weight in chunk].count(2.0) for chunk in chunks] == [0, 3]
    long = tokens_of(" ".join("abcdefghijkl"), Words(), 8)
    assert [[one for one, _ in chunk].count(1) for chunk in long] == [6, 6]


def test_weighted_tokens_leave_the_empty_prompt(run):
    _, clip, _ = run("VideoLDM_LoadImageModel").values
    plain = clip.encode("a red circle")[0][0]
    same = clip.encode("(a red circle:1.0)")[0][0]
    empty = clip.encode("")[0][0]
    none = clip.encode("(a red circle:0)")[0][0]
    double = clip.encode("(a red circle:2)")[0][0]
    torch.testing.assert_close(same, plain)
    words = slice(1, 1 + len(clip.tokenizer("a red circle", add_special_tokens=False)["input_ids"]))
    torch.testing.assert_close(none[:, words], empty[:, words], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        (double + empty)[:, words] / 2, plain[:, words], atol=1e-5, rtol=1e-5
    )


# --------------------------------------------------------------------------------------------------
# A prompt per frame.


def prompt(value, tokens=2):
    return [[torch.full((1, tokens, 3), float(value)), {"pooled_output": None}]]


def test_one_prompt_is_for_all_frames():
    assert text_for(prompt(1), range(8)).shape == (1, 2, 3)


def test_frames_get_the_prompt_of_their_segment():
    conditioning = [*with_frames(prompt(0), 0, 4), *with_frames(prompt(1), 4, 8)]
    per_frame = text_for(conditioning, range(2, 7))
    assert per_frame[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1]
    assert text_for(conditioning, range(5, 8)).shape == (1, 2, 3)
    assert text_for(conditioning, range(0, 16, 8))[0, :, 0, 0].tolist() == [0, 1]


def test_overlapping_segments_fade_over():
    conditioning = [*with_frames(prompt(0), 0, 6), *with_frames(prompt(1), 2, 8)]
    faded = text_for(conditioning, range(8))[0, :, 0, 0]
    assert faded.tolist() == pytest.approx([0, 0, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1])


def test_prompts_of_different_lengths_are_repeated():
    conditioning = [*with_frames(prompt(0, 2), 0, 4), *with_frames(prompt(1, 3), 4, 8)]
    assert text_for(conditioning, range(8)).shape == (1, 8, 6, 3)


def test_several_prompts_need_frames_of_their_own():
    with pytest.raises(ValueError, match="1 of the 2 prompts"):
        text_for([*prompt(0), *with_frames(prompt(1), 0, 4)], range(4))
    with pytest.raises(ValueError, match="holds 0 prompts"):
        text_for([], range(4))
