from typing import NamedTuple

import pytest
import torch
from model_toys import fill, normal
from videoldm.core.text import encoders as t

CAPTIONS = [
    f"a {color} {shape} moves {way}"
    for color in ("red", "green", "blue")
    for shape in ("circle", "square", "triangle")
    for way in ("left", "right", "up")
]


class Box(NamedTuple):
    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    t.train_tokenizer(CAPTIONS, folder, vocabulary=700)
    return t.load_tokenizer(folder)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    config = t.TextConfig(vocabulary=len(tokenizer), width=16, layers=2, heads=2, length=12)
    return t.build_text_encoder(config).eval().requires_grad_(False)


def test_words_of_the_captions_are_few_tokens_and_come_back(tokenizer):
    ids = tokenizer("a red circle moves left")["input_ids"]
    assert len(ids) <= 2 + 12
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a red circle moves left"
    assert tokenizer("A Red CIRCLE")["input_ids"] == tokenizer("a red circle")["input_ids"]


@pytest.mark.parametrize("prompt", ["", "zebra quartz!", "ein grüner Kreis", "圆 ☂"])
def test_any_text_can_be_encoded(tokenizer, prompt):
    ids = t.tokenize(tokenizer, [prompt], 64)
    assert ids.shape == (1, 64) and ids.min() >= 0 and ids.max() < len(tokenizer)
    back = tokenizer.decode(ids[0].tolist(), skip_special_tokens=True).strip()
    assert back.replace(" ", "") == prompt.lower().replace(" ", "")


def test_prompts_are_cut_and_padded_with_the_end_token(tokenizer):
    end, begin = len(tokenizer) - 1, len(tokenizer) - 2
    short, long = t.tokenize(tokenizer, ["red", "red " * 50], 8).tolist()
    assert short[0] == long[0] == begin and long[-1] == end
    assert short[-1] == end and short.count(end) > 1


def test_training_twice_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        t.train_tokenizer(CAPTIONS, tmp_path / name, vocabulary=700)
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_condition_token_for_every_text_token(tokenizer, encoder):
    ids = t.tokenize(tokenizer, CAPTIONS[:3], 12)
    condition = t.encode_text(encoder, ids)
    assert condition.shape == (3, 12, 16)
    assert not torch.allclose(condition[0], condition[1])
    torch.testing.assert_close(t.encode_text(encoder, ids[1:2]), condition[1:2])


def test_a_missing_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="vocab.json is missing"):
        t.load_tokenizer(tmp_path)


def box_inputs(tokenizer):
    boxes = [[Box("red circle", 0.1, 0.2, 0.5, 0.9), Box("blue square", 0, 0, 1, 1)], []]
    return t.box_tensors(boxes, tokenizer, slots=3)


def test_boxes_become_corners_labels_and_presence(tokenizer):
    corners, labels, present = box_inputs(tokenizer)
    torch.testing.assert_close(corners[0, 0], torch.tensor([0.1, 0.2, 0.5, 0.9]))
    assert present.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert (labels[1] == -1).all() and (labels[0, 0] >= 0).any()


def test_one_token_per_box_and_a_shared_one_for_empty_slots(tokenizer):
    encoder = fill(t.BoxEncoder(16, len(tokenizer), slots=3))
    corners, labels, present = box_inputs(tokenizer)
    tokens = encoder(corners, labels, present)
    assert tokens.shape == (2, 3, 16)
    assert torch.equal(tokens[0, 2], encoder.empty) and torch.equal(tokens[1, 0], encoder.empty)
    moved = encoder(corners + 0.01, labels, present)
    assert not torch.allclose(moved[0, :2], tokens[0, :2])
    assert torch.equal(moved[1], tokens[1])
    renamed = encoder(corners, labels.roll(1, dims=1), present)
    assert not torch.allclose(renamed[0, 0], tokens[0, 0])


def test_words_that_are_not_there_do_not_count(tokenizer):
    encoder = fill(t.BoxEncoder(16, len(tokenizer), slots=1))
    corners, present = normal(1, 1, 4).sigmoid(), torch.ones(1, 1)
    short = encoder(corners, torch.tensor([[[7, -1]]]), present)
    long = encoder(corners, torch.tensor([[[7, -1, -1, -1]]]), present)
    torch.testing.assert_close(short, long)


def test_boxes_that_do_not_fit_are_refused_with_the_numbers(tokenizer):
    box = Box("car", 0, 0, 1, 1)
    with pytest.raises(ValueError, match="4 bounding boxes given, at most 3"):
        t.box_tensors([[box] * 4], tokenizer, slots=3)
    for bad in (box._replace(x1=1.5), box._replace(x0=0.6, x1=0.4), box._replace(y0=-0.1)):
        with pytest.raises(ValueError, match="corners in order within 0 .. 1"):
            t.box_tensors([[bad]], tokenizer, slots=3)
