"""Folders of image models as diffusers writes them: broken, or with parts missing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from stable_diffusion_toys import outputs, save_folder, toy_model, toy_spec
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.weights.checkpoints import CheckpointError


@pytest.fixture(scope="module")
def toy():
    return toy_model(toy_spec("plain"))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("file, change, words", [
    ("unet", {"block_out_channels": None}, "block_out_channels must be a list, got null"),
    ("unet", {"in_channels": "four"}, 'in_channels must be a whole number, got "four"'),
    ("unet", {"layers_per_block": None}, "layers_per_block must be a whole number or a list"),
    ("unet", {"cross_attention_dim": None}, "cross_attention_dim must be a whole number, got null"),
    ("unet", {"block_out_channels": [8, None]}, "broken configuration: a field is null or of a"),
    ("unet", {"down_block_types": ["Nonsense2D", "DownBlock2D"]}, "broken configuration: "),
    ("unet", {"norm_num_groups": 3}, "broken configuration: "),
    ("unet", {"_class_name": None}, "holds null, expected a UNet2DConditionModel"),
    ("unet", {"in_channels": 9}, "cannot be used: it is an inpainting model"),
    ("unet", {"in_channels": 8}, "cannot be used: it is an image editing model"),
    ("vae", {"block_out_channels": 8}, "block_out_channels must be a list, got 8"),
    ("vae", {"scaling_factor": "a"}, 'scaling_factor must be a number or a whole number, got "a"'),
    ("text_encoder", {"hidden_size": None}, "hidden_size must be a whole number, got null"),
    ("text_encoder", {"hidden_act": 3}, "hidden_act must be a text, got 3"),
    ("text_encoder", {"num_attention_heads": 5}, "broken configuration: "),
])  # fmt: skip
def test_broken_configurations_name_file_and_field(toy, tmp_path, file, change, words):
    save_folder(toy, tmp_path)
    edit(tmp_path / file / "config.json", **change)
    with pytest.raises(CheckpointError, match=words) as caught:
        sd.load(tmp_path)
    message = str(caught.value)
    assert "\n" not in message and "NoneType" not in message and str(tmp_path) in message


@pytest.mark.parametrize("text, words", [
    ("{", "is not readable JSON: "), ("", "is not readable JSON: "), ("[]", r"holds \[\] instead"),
    ("null", "holds null instead of settings"), ('"a"', 'holds "a" instead of settings'),
    ("[" * 100_000, "is not readable JSON: "),
])  # fmt: skip
@pytest.mark.parametrize("file", ["unet/config.json", "vae/config.json", "text_encoder/config.json",
                                  "scheduler/scheduler_config.json"])  # fmt: skip
def test_files_that_are_no_settings(toy, tmp_path, file, text, words):
    save_folder(toy, tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(CheckpointError, match=words) as caught:
        sd.load(tmp_path)
    assert file in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("change, words", [
    ({"beta_start": None}, "beta_start must be a number"),
    ({"num_train_timesteps": 0}, "broken configuration"),
    ({"trained_betas": ["a"]}, "broken configuration"),
    ({"beta_schedule": "cosine"}, "unknown beta_schedule 'cosine'"),
    ({"prediction_type": None}, "unknown prediction_type None"),
])  # fmt: skip
def test_broken_schedules(toy, tmp_path, change, words):
    save_folder(toy, tmp_path)
    edit(tmp_path / "scheduler" / "scheduler_config.json", **change)
    with pytest.raises(CheckpointError, match=words):
        sd.load(tmp_path)


@pytest.mark.parametrize("missing", ["vae", "text_encoder"])
def test_a_folder_without_a_part_loads_the_others(toy, tmp_path, missing):
    save_folder(toy, tmp_path)
    shutil.rmtree(tmp_path / missing)
    loaded = sd.load(tmp_path)
    assert (loaded.autoencoder is None) == (missing == "vae")
    assert (loaded.text_encoder is None) == (missing == "text_encoder")
    if missing == "text_encoder":
        assert all(a is not None for a in (loaded.tokenizer, loaded.autoencoder))
    else:
        assert torch.equal(outputs_of_text(loaded), outputs(toy)[0])


def outputs_of_text(model):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 49408, (1, 77), generator=generator)
    with torch.no_grad():
        return model.text_encoder(input_ids=ids).last_hidden_state


def test_a_broken_tokenizer_is_one_sentence(toy, tmp_path):
    save_folder(toy, tmp_path)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in ("tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match="the tokenizer in .* cannot be read: ") as caught:
        sd.load(tmp_path)
    assert "\n" not in str(caught.value)
