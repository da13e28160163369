"""Emphasis in prompts: how it is read, and what it does to embeddings."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.text import prompt_weights as pw
from videoldm.core.text.encoders import encode_text


class Letters:
    """One token per letter, with the attributes and keywords of a CLIP tokenizer that are used."""

    bos_token_id, eos_token_id, pad_token_id = 28, 29, 0

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict:
        assert not add_special_tokens
        return {"input_ids": [ord(c) - ord("a") + 1 for c in text if c.isalpha()]}


@pytest.fixture(scope="module")
def encoder() -> CLIPTextModel:
    torch.manual_seed(0)
    return (
        CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                vocab_size=30,
                max_position_embeddings=12,
            )
        )
        .eval()
        .requires_grad_(False)
    )


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a ((cat))", [("a ", 1.0), ("cat", 1.1 * 1.1)]),
        ("(a (cat:0.5) b:1.3) c", [("a ", 1.3), ("cat", 0.5), (" b", 1.3), (" c", 1.0)]),
        (r"a \(cat\) (b\):2)", [("a (cat) ", 1.0), ("b)", 2.0)]),
        ("(time 12:30 pm)", [("time 12:30 pm", 1.1)]),
        ("(a:b:-1)", [("a:b", -1.0)]),
        ("a (cat", [("a (cat", 1.0)]),
        ("a) cat (b)", [("a) cat ", 1.0), ("b", 1.1)]),
        ("", []),
        ("()", []),
    ],
)
def test_emphasis_is_read(prompt, expected):
    found = pw.parse(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [w for _, w in found] == pytest.approx([w for _, w in expected])


def test_rows_are_framed_and_filled():
    (row,) = pw.tokenize_weighted(Letters(), "a(b:2)", 6)
    assert row == [(28, 1.0), (1, 1.0), (2, 2.0), (29, 1.0), (0, 1.0), (0, 1.0)]


def test_short_segments_move_to_the_next_row_and_long_ones_are_cut():
    short = pw.tokenize_weighted(Letters(), "abcdefg(hijkl)", 12)
    assert [[t for t, _ in row[1:] if 0 < t < 28] for row in short] == [
        [1, 2, 3, 4, 5, 6, 7],
        [8, 9, 10, 11, 12],
    ]
    long = pw.tokenize_weighted(Letters(), "abcdefg(hijklmnop)", 12)
    assert [len([t for t, _ in row if 0 < t < 28]) for row in long] == [10, 6]
    assert all(len(row) == 12 for row in short + long)


def test_a_tiny_row_still_ends():
    assert len(pw.tokenize_weighted(Letters(), "abcde", 3)) == 5
    with pytest.raises(ValueError, match="row of 2 tokens"):
        pw.tokenize_weighted(Letters(), "a", 2)


def test_without_emphasis_the_embedding_is_the_encoders_own(encoder):
    row = torch.tensor([[28, 1, 2, 29] + [0] * 8, [28, 29] + [0] * 10])
    plain = encode_text(encoder, row)[:1]
    assert torch.equal(pw.encode_weighted(encoder, Letters(), ["ab"], 12), plain)


def test_a_weight_scales_the_distance_from_the_empty_prompt(encoder):
    plain = pw.encode_weighted(encoder, Letters(), ["ab"], 12)[0]
    empty = pw.encode_weighted(encoder, Letters(), [""], 12)[0]
    got = pw.encode_weighted(encoder, Letters(), ["a(b:1.5)"], 12)[0]
    expected = plain.clone()
    expected[2] = empty[2] + 1.5 * (plain[2] - empty[2])
    torch.testing.assert_close(got, expected)
    assert torch.equal(got[[0, 1, 3]], plain[[0, 1, 3]])


def test_prompts_of_different_length_share_one_shape(encoder):
    both = pw.encode_weighted(encoder, Letters(), ["a", "abcdefghijklmno"], 12)
    assert both.shape == (2, 24, 8)
    empty = pw.encode_weighted(encoder, Letters(), [""], 12)[0]
    torch.testing.assert_close(both[0, 12:], empty)
