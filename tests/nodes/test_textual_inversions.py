"""Textual inversions in prompts: how they are found, read and inserted between the words."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.nodes.host import host
from videoldm.nodes.host.shared.embeddings import Embeddings
from videoldm.nodes.host.shared.prompt_encoder import PromptEncoder

WIDTH = 16


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        projection_dim=WIDTH,
    )  # fmt: skip
    return CLIPTextModel(config).eval().requires_grad_(False)


@pytest.fixture
def said(monkeypatch):
    """The warnings that the user sees, as a list."""
    heard: list[str] = []
    monkeypatch.setattr(host, "warn", heard.append)
    return heard


@pytest.fixture
def clip(encoder, tmp_path):
    return PromptEncoder(encoder, ClipTokenizer(), 77, embeddings=Embeddings([tmp_path], WIDTH))


def words(encoder, text: str) -> torch.Tensor:
    """The encoder's own token embeddings [n, d] of some words."""
    ids = ClipTokenizer()(text, add_special_tokens=False)["input_ids"]
    return encoder.get_input_embeddings().weight[ids]


def encoded(clip, text: str) -> torch.Tensor:
    return clip.encode(text)[0][0]


# --------------------------------------------------------------------------------------------------
# Files.


def as_web_ui(vectors):
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "x",
            "step": 500, "sd_checkpoint": None, "sd_checkpoint_name": None}  # fmt: skip


FORMATS = {
    "web ui.pt": as_web_ui,
    "web ui, of a parameter.pt": lambda v: as_web_ui(nn.Parameter(v)),
    "diffusers.bin": lambda v: {"<token>": v[0]} if len(v) == 1 else {"<token>": v},
    "list.pt": lambda v: [{"<token>": v}, {"<other>": torch.ones(1, 7)}],
    "bare.pt": lambda v: v,
    "emb_params.safetensors": lambda v: {"emb_params": v},
    "clips.safetensors": lambda v: {"clip_g": torch.ones(2, 1280), "clip_l": v},
    "bundled.safetensors": lambda v: {"lora_unet_a.alpha": torch.ones(1),
                                      "bundle_emb.x.string_to_param.*": v},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 3])
def test_files_of_every_kind_give_their_vectors(name, count, tmp_path, monkeypatch):
    from videoldm.core.families import textual_inversions

    monkeypatch.setitem(textual_inversions.ENCODERS, WIDTH, "clip_l")
    vectors = torch.randn(count, WIDTH, dtype=torch.float16)
    found = FORMATS[name](vectors)
    path = tmp_path / name
    save_file(found, path) if path.suffix == ".safetensors" else torch.save(found, path)
    assert torch.equal(Embeddings([tmp_path], WIDTH).load(name), vectors.float())


def test_a_file_of_stable_diffusion_2_is_taken_by_its_width(tmp_path):
    both = {"clip_l": torch.randn(1, 768), "clip_h": torch.randn(2, 1024)}
    save_file(both, tmp_path / "both.safetensors")
    for width, key in ((768, "clip_l"), (1024, "clip_h")):
        assert torch.equal(Embeddings([tmp_path], width).load("both"), both[key])


@pytest.mark.parametrize(
    "name", ["a", "a.pt", "sub/a", "sub\\a", "sub/a.pt", "deep/er/b", "b", "b.bin"]
)
def test_names_may_leave_out_the_ending_and_the_folder(name, tmp_path):
    for place in ("sub/a.pt", "deep/er/b.bin"):
        (tmp_path / place).parent.mkdir(parents=True)
        torch.save({"<x>": torch.ones(1, WIDTH)}, tmp_path / place)
    assert Embeddings([tmp_path / "none", tmp_path], WIDTH).load(name).shape == (1, WIDTH)


def test_names_lead_out_of_no_folder(tmp_path):
    inside = tmp_path / "embeddings"
    (inside / "sub").mkdir(parents=True)
    torch.save({"<x>": torch.ones(1, WIDTH)}, tmp_path / "secret.pt")
    found = Embeddings([inside], WIDTH)
    for name in ("../secret", "sub/../../secret", str(tmp_path / "secret.pt"), "", "x" * 5000):
        assert found.load(name) is None


# --------------------------------------------------------------------------------------------------
# Prompts.


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("a embedding:it here", "a red circle here"),
        ("embedding:it", "red circle"),
        ("embedding:it.pt, here", "red circle, here"),
        ("a (embedding:it:1.3) here", "a (red circle:1.3) here"),
        ("a ((embedding:it)) here", "a ((red circle)) here"),
        ("a (big embedding:it, and:0.7) b", "a (big red circle, and:0.7) b"),
        ("embedding:it embedding:it", "red circle red circle"),
        ("a embedding:one b", "a red b"),
        ("one " * 74 + "embedding:it two", "one " * 74 + "(red circle:1.0) two"),
    ],
)
def test_vectors_of_words_mean_the_words(given, same, clip, encoder, tmp_path, said):
    torch.save({"<x>": words(encoder, "red circle")}, tmp_path / "it.pt")
    torch.save({"<x>": words(encoder, "red")[0]}, tmp_path / "one.bin")
    expected = encoded(clip, same)
    torch.testing.assert_close(encoded(clip, given), expected, atol=1e-5, rtol=1e-5)
    assert said == []


def test_what_is_missing_is_left_out_and_said(clip, said):
    got = encoded(clip, "a cat embedding:nowhere, (on:1.2) grass")
    assert said == ["there is no textual inversion 'nowhere' in models/embeddings, ignored"]
    torch.testing.assert_close(got, encoded(clip, "a cat , (on:1.2) grass"))


def test_vectors_of_another_width_are_left_out_and_said(clip, said, tmp_path):
    torch.save({"<x>": torch.ones(2, 24)}, tmp_path / "wide.pt")
    got = encoded(clip, "a cat embedding:wide here")
    (sentence,) = said
    assert "width 24" in sentence and f"width {WIDTH}" in sentence
    torch.testing.assert_close(got, encoded(clip, "a cat here"))


@pytest.mark.parametrize("text", ["a cat,embedding:it", "a cat Embedding:it"])
def test_what_comfyui_reads_as_words_is_said(text, clip, encoder, tmp_path, said):
    torch.save({"<x>": words(encoder, "red")}, tmp_path / "it.pt")
    plain = PromptEncoder(encoder, ClipTokenizer(), 77)
    assert torch.equal(encoded(clip, text), encoded(plain, text))
    (sentence,) = said
    assert "mbedding:it' is read as words" in sentence


def test_a_broken_file_is_one_sentence(clip, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02junk")
    with pytest.raises(ValueError, match="broken.pt cannot be read"):
        clip.tokenize("embedding:broken")


def test_clip_skip_goes_together_with_them(clip, encoder, tmp_path, said):
    torch.save({"<x>": words(encoder, "red circle")}, tmp_path / "it.pt")
    skipped = clip.stopping_at(-2)
    torch.testing.assert_close(
        encoded(skipped, "a embedding:it"), encoded(skipped, "a red circle"), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(encoded(skipped, "a red"), encoded(clip, "a red"))


# --------------------------------------------------------------------------------------------------
# The last layer.


@pytest.mark.parametrize(("layer", "used"), [(-1, 3), (-2, 2), (-3, 1), (-4, 3), (-24, 3)])
def test_an_earlier_layer_ends_with_the_final_norm(layer, used, clip, encoder):
    ids = torch.tensor([[token for token, _ in clip.tokenize("a red circle")[0]]])
    states = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    torch.testing.assert_close(encoded(clip.stopping_at(layer), "a red circle"), norm(states[used]))
    assert encoder.config.num_hidden_layers == 3
    again = clip.stopping_at(-3).stopping_at(layer)
    assert torch.equal(encoded(again, "a"), encoded(clip.stopping_at(layer), "a"))


def test_layers_that_were_left_out_count(encoder):
    clip = PromptEncoder(encoder, ClipTokenizer(0), 77, dropped=1)
    assert torch.equal(encoded(clip.stopping_at(-2), "a"), encoded(clip, "a"))
    assert not torch.equal(encoded(clip.stopping_at(-3), "a"), encoded(clip, "a"))
    with pytest.raises(ValueError, match="last 1 of its 4 layers"):
        clip.stopping_at(-1)
