"""The token ids of the published vocabulary, for CLIP and OpenCLIP."""

from __future__ import annotations

import pytest
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.core.text.encoders import tokenize


def test_the_published_vocabulary_gives_the_published_tokens():
    pytest.importorskip("instant_clip_tokenizer")
    ids = tokenize(ClipTokenizer(), ["A person riding a motorcycle", ""], 77)
    assert ids.shape == (2, 77)
    assert ids[0, :8].tolist() == [49406, 320, 2533, 6765, 320, 10297, 49407, 49407]
    assert ids[1, 0] == 49406 and (ids[1, 1:] == 49407).all()


def test_open_clip_pads_with_zero_and_long_prompts_keep_the_end_token():
    pytest.importorskip("instant_clip_tokenizer")
    short, long = tokenize(ClipTokenizer(0), ["hi", "word " * 200], 77)
    assert short.tolist() == [49406, 1883, 49407] + [0] * 74
    assert long[-1] == 49407 and (long != 0).all()
    assert ClipTokenizer()("hi", add_special_tokens=False)["input_ids"] == [1883]
