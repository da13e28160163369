"""The chosen file of this project's own format is the one that is loaded."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from videoldm.core.weights.checkpoints import read_header, read_state, save

PARTS = ("image_model.safetensors", "upsampler.safetensors", "autoencoder.safetensors")


@pytest.fixture
def checkpoints(toys, toy_family, tmp_path):
    """models/checkpoints with the toy family's files in it."""
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    for name in PARTS:
        shutil.copy(toy_family / name, folder / name)
    shutil.copytree(toy_family / "tokenizer", folder / "tokenizer")
    return folder


def another(path, target, change=0.25):
    """Write a copy whose floating-point weights are larger by `change`; returns its state dict."""
    state = {k: v + change if v.is_floating_point() else v for k, v in read_state(path).items()}
    save(target, state, read_header(path), dtype=None)
    return state


def first_weight(model):
    return model.core.network.image_unet.state_dict()["conv_in.weight"]


def test_the_chosen_image_model_is_loaded_not_the_one_called_so(run, checkpoints):
    source = checkpoints / "image_model.safetensors"
    state = another(source, checkpoints / "second.safetensors")
    for node, name in (
        ("CheckpointLoaderSimple", "ckpt_name"),
        ("VideoLDM_LoadImageModel", "model"),
    ):
        model, clip, vae = run(node, **{name: "second.safetensors"}).values
        assert torch.equal(first_weight(model), state["unet.conv_in.weight"])
        words = clip.encoder.state_dict()
        key = next(k for k in words if k.endswith("token_embedding.weight"))
        own = next(k for k in state if k.endswith("token_embedding.weight"))
        assert torch.equal(words[key], state[own])
        assert vae.factor == 4
        first = run(node, **{name: "image_model.safetensors"}).values[0]
        assert torch.equal(first_weight(first), load_file(source)["unet.conv_in.weight"])


def test_the_chosen_upsampler_is_loaded(run, checkpoints):
    state = another(checkpoints / "upsampler.safetensors", checkpoints / "sharp.safetensors")
    model = run("VideoLDM_LoadUpsampler", upsampler="sharp.safetensors").values[0]
    assert torch.equal(first_weight(model), state["unet.conv_in.weight"])
    (layers,) = model.core.network.sets
    own = {k.removeprefix("layers."): v for k, v in state.items() if k.startswith("layers.")}
    assert own.keys() == layers.state_dict().keys()
    assert all(torch.equal(layers.state_dict()[key], value) for key, value in own.items())


def test_a_model_may_have_an_autoencoder_of_its_own(run, checkpoints):
    shutil.copy(checkpoints / "image_model.safetensors", checkpoints / "second.safetensors")
    own = another(
        checkpoints / "autoencoder.safetensors", checkpoints / "second.autoencoder.safetensors"
    )
    shared = load_file(checkpoints / "autoencoder.safetensors")
    for name, expected in (("second", own), ("image_model", shared)):
        vae = run("CheckpointLoaderSimple", ckpt_name=f"{name}.safetensors").values[2]
        weight = vae.autoencoder.state_dict()["decoder.conv_in.weight"]
        assert torch.equal(weight, expected["decoder.conv_in.weight"])


def test_a_link_finds_the_parts_of_the_file_it_leads_to(run, checkpoints, toy_family):
    for path in checkpoints.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (checkpoints / "linked.safetensors").symlink_to(toy_family / "image_model.safetensors")
    model = run("CheckpointLoaderSimple", ckpt_name="linked.safetensors").values[0]
    expected = load_file(toy_family / "image_model.safetensors")["unet.conv_in.weight"]
    assert torch.equal(first_weight(model), expected)


def test_a_part_that_is_not_beside_the_file_is_named(run, checkpoints):
    shutil.copy(checkpoints / "image_model.safetensors", checkpoints / "second.safetensors")
    (checkpoints / "autoencoder.safetensors").unlink()
    words = "second.safetensors needs the file autoencoder.safetensors or second.autoencoder.safe"
    with pytest.raises(ValueError, match=words):
        run("CheckpointLoaderSimple", ckpt_name="second.safetensors")
