"""Closed vocabularies: what counts as a word, unknown words, and the words of a model file."""

from __future__ import annotations

import pytest
from videoldm.core.families.embedded import loading, worlds
from videoldm.core.text.known_words import KnownWords, words_of
from videoldm.core.weights.checkpoints import Header, read_header
from videoldm.nodes.host.shared.prompt import words_alone
from videoldm.nodes.host.shared.unknown_words import MOST, unknown_words

FEW = KnownWords(frozenset({"a", "gray", "circle", "moves", "left"}))


def test_words_are_letters_or_numbers_in_small_letters_each_once():
    assert words_of("A red-ish circle, (2 Circles) d'été a") == [
        "a", "red", "ish", "circle", "2", "circles", "d'été",
    ]  # fmt: skip
    assert words_of("... ,") == []


def test_unknown_words_have_the_nearest_spelling_beside_them():
    assert FEW.unknown("A grey circle, moved LEFT") == ["grey", "moved"]
    assert FEW.nearest("grey") == "gray" and FEW.nearest("moved") == "moves"
    assert FEW.nearest("elephant") is None


def test_weights_brackets_and_textual_inversions_are_no_words():
    prompt = r"(a gray:1.25) ((circle)) \(moves\) (left:.5) embedding:some_style.pt"
    assert FEW.unknown(words_alone(prompt)) == []
    assert FEW.unknown(prompt) != []


def test_the_warning_is_one_sentence_of_few_words():
    assert unknown_words("a gray circle", FEW) == unknown_words("", FEW) == ""
    assert unknown_words("an elephant", None) == ""
    assert unknown_words("a cercle", FEW).startswith(
        'the model has never seen the word "cercle" (nearest: "circle"): it was trained with 5 '
    )
    letters = "bcdefghijklmnopqrstuvwxyz"
    many = unknown_words(" ".join(3 * one for one in letters), FEW)
    assert many.count('"') == 2 * MOST and f"and {len(letters) - MOST} more: " in many
    assert len(unknown_words("x" * 10_000, FEW)) < 300


def test_the_words_of_the_worlds_are_those_of_their_captions():
    scenes = [worlds.sample_scene(world, seed) for world in worlds.WORLDS for seed in range(2000)]
    captions = [worlds.caption(one, motion=motion) for one in scenes for motion in (True, False)]
    assert set(words_of(" ".join(captions))) == worlds.words()
    labels = {box.label for scene in scenes[::20] for box in worlds.boxes(scene)}
    assert labels and set(words_of(" ".join(labels))) <= worlds.words()


def test_a_model_says_its_words_or_the_recipe_that_it_was_trained_with():
    own = read_header(loading.path_of("image_model"))
    assert loading.known_words(own).words == worlds.words()
    told = Header(family="embedded", kind="image_model", config={"words": ["night", "traffic"]})
    assert loading.known_words(told).words == {"night", "traffic"}


@pytest.mark.parametrize("notes", [{}, {"recipe": "driving_image_model"}])
def test_a_model_that_says_neither_may_know_any_word(notes):
    header = Header(family="embedded", kind="image_model", config={}, notes=notes)
    assert loading.known_words(header) is None
