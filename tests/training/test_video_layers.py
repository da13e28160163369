"""Recipes for temporal layers over published image models: what they train, and that it can be
sampled from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_diffusion_toys import save_folder, toy_model, toy_spec
from training_toys import CPU
from videoldm.core.families import load_temporal_layers
from videoldm.core.media.files import write_video
from videoldm.core.networks.conditions import FRAME_RATE, Conditions
from videoldm.core.networks.context_frames import given_frames
from videoldm.core.training.clips import Clips, covering
from videoldm.core.training.recipe import Recipe, load_recipe
from videoldm.core.training.tasks import build_task
from videoldm.core.training.trainer import train

OVER_IMAGE_MODELS = (
    "sd15_prediction",
    "sd15_interpolation",
    "sd21_prediction",
    "sd21_interpolation",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A toy image model as diffusers saves one."""
    path = tmp_path_factory.mktemp("image_model")
    save_folder(toy_model(toy_spec("plain")), path)
    return path


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    path = tmp_path_factory.mktemp("upscaler")
    save_folder(toy_model(toy_spec("upscaler")), path, prediction_type="v_prediction")
    (path / "low_res_scheduler").mkdir()
    betas = dict(beta_schedule="scaled_linear", beta_start=1e-4, beta_end=0.02)
    (path / "low_res_scheduler" / "scheduler_config.json").write_text(json.dumps(betas))
    (path / "model_index.json").write_text(json.dumps({"max_noise_level": 20}))
    return path


def toy(name: str, model, **data) -> Recipe:
    """A recipe of the project at toy size."""
    recipe = load_recipe(name, [f"start_from.image_model={model}"])
    model = recipe.model | {"norm_groups": 4, "expansion": 1}
    return replace(recipe, steps=2, batch=2, precision="fp32", ema=0.5, warmup=1,
                   learning_rate=0.05, model=model, data=recipe.data | data)  # fmt: skip


def run(recipe: Recipe, folder):
    task = build_task(recipe, folder / "cache")
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    path = train(recipe, task, folder, device=CPU, workers=0, report=lambda _: None)
    after = task.module.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    return task, path, moved


@pytest.mark.parametrize("name", OVER_IMAGE_MODELS)
def test_only_temporal_layers_are_trained_and_what_is_saved_can_be_sampled_from(
    name, folder, tmp_path
):
    frames = load_recipe(name).data["frames"]
    task, path, moved = run(toy(name, folder, size=[16, 16], frames=min(frames, 5)), tmp_path)
    assert moved and all(key.startswith("network.sets.0.") for key in moved)
    assert any(".context." in key for key in moved)
    layers = load_temporal_layers(path)
    assert layers.spec.trained.task == name.partition("_")[2]
    model = task.image.model.ejected().with_layers(layers)
    assert model.takes_context
    x = torch.randn(1, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text, steps = torch.randn(1, 7, 12), torch.tensor([500])
    ids = {FRAME_RATE: torch.tensor([1])} if layers.rate is not None else {}
    given = Conditions(text=text, ids=ids, context=given_frames(x[:, :1], [0], 5))
    with torch.no_grad():
        with_frame = model.network(x, steps, given)
        without = model.network(x, steps, replace(given, context=given.context.dropped()))
    assert not torch.equal(with_frame, without)


def test_prediction_is_given_none_one_or_two_frames(folder, tmp_path):
    task = build_task(toy("sd15_prediction", folder, size=[8, 8], frames=4), tmp_path)
    masks = {tuple(row) for step in range(12) for row in task.batch(step)["mask"].tolist()}
    assert masks == {(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0)}


def test_interpolation_takes_turns_between_two_frame_rates(folder, tmp_path):
    task = build_task(toy("sd21_interpolation", folder, size=[8, 8]), tmp_path)
    first, second = task.batch(0), task.batch(1)
    assert (first["rate"].tolist(), second["rate"].tolist()) == ([0, 0], [1, 1])
    assert task.strides == (4, 1)
    assert first["mask"].shape == (2, 5)


def test_the_upsampler_is_told_how_noisy_its_small_frames_are(upscaler, tmp_path):
    recipe = toy("x4_upsampler", upscaler, size=[32, 48], patch=[16, 16], frames=3)
    task, path, moved = run(recipe, tmp_path)
    assert moved and all(key.startswith("network.sets.0.") for key in moved)
    levels = torch.cat([task.batch(step)["low_res_level"] for step in range(20)])
    assert 0 <= levels.min() and levels.max() <= 20 and len(levels.unique()) > 8
    assert load_temporal_layers(path).spec.trained.task == "upsampling"


def test_layers_run_on_larger_and_longer_videos_than_they_were_trained_on(folder, tmp_path):
    task = build_task(toy("sd15_interpolation", folder, size=[8, 8]), tmp_path)
    for layer in task.layers.layers.values():
        torch.nn.init.normal_(next(p for p in reversed(list(layer.parameters())) if p.ndim > 1))
    assert task.layers.spec.max_frames is None
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 11, 4, 12, 20, generator=generator)
    given = Conditions(text=torch.randn(1, 7, 12, generator=generator))
    with torch.no_grad():
        video = task.network(x, torch.tensor([100]), given)
        frames = task.network(x, torch.tensor([100]), replace(given, times=torch.zeros(11)))
    assert video.shape == x.shape and video.isfinite().all()
    assert not torch.allclose(video, frames)  # frames have positions, however many there are


def test_an_image_model_is_no_upsampler(folder, tmp_path):
    with pytest.raises(ValueError, match="the image model is not an upsampler"):
        build_task(toy("x4_upsampler", folder, size=[32, 32], patch=[16, 16], frames=2), tmp_path)


def test_training_goes_on_with_layers_that_are_there(folder, tmp_path):
    recipe = toy("sd15_prediction", folder, size=[8, 8], frames=3)
    _, path, _ = run(recipe, tmp_path / "first")
    again = replace(recipe, start_from=recipe.start_from | {"layers": str(path)})
    state = build_task(again, tmp_path).layers.state_dict()
    saved = load_temporal_layers(path).state_dict()
    assert all(torch.equal(state[key], saved[key]) for key in saved)


def test_a_recipe_without_an_image_model_says_how_to_name_one(tmp_path):
    with pytest.raises(ValueError, match="--set start_from.image_model=FILE"):
        build_task(load_recipe("sd15_prediction"), tmp_path)


# -------------------------------------------------------------------------------------------- clips


def test_clips_are_cut_from_videos_with_the_words_beside_them(tmp_path):
    ramp = torch.linspace(-1, 1, 12)[:, None, None, None].expand(12, 3, 24, 40)
    write_video(tmp_path / "a.mp4", [ramp], frame_rate=8)
    (tmp_path / "a.txt").write_text("it gets bright\n")
    clips = Clips(frames=4, size=(16, 16), videos=str(tmp_path))
    frames, caption = clips.draw(np.random.default_rng(0), stride=3)
    assert frames.shape == (4, 3, 16, 16) and caption == "it gets bright"
    steps = frames.mean((1, 2, 3)).diff()
    torch.testing.assert_close(steps, torch.full((3,), 6 / 11), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="has the 37 frames of a clip"):
        clips.draw(np.random.default_rng(0), stride=12)


def test_frames_cover_what_is_asked_for_without_being_stretched():
    assert covering((240, 320), (64, 64)) == (64, 85)
    assert covering((320, 240), (64, 128)) == (171, 128)


def test_patches_are_parts_of_the_whole_frames():
    random = lambda: np.random.default_rng(5)  # noqa: E731
    whole = Clips(frames=2, size=(24, 40)).draw(random()).frames
    part = Clips(frames=2, size=(24, 40), patch=(8, 8)).draw(random()).frames
    places = whole.unfold(2, 8, 1).unfold(3, 8, 1)
    same = (places - part[:, :, None, None]).abs().amax((0, 1, 4, 5)) == 0
    assert same.sum() >= 1
    with pytest.raises(ValueError, match="a patch of"):
        Clips(frames=2, size=(24, 40), patch=(32, 8))


# ------------------------------------------------------------------------------------------ changes


def test_a_recipe_can_be_changed_from_outside():
    found = load_recipe(
        "sd15_prediction",
        ["steps=7", "data.size=[8, 16]", "start_from.image_model=/some/file.safetensors"],
    )
    assert found.steps == 7 and found.data["size"] == [8, 16]
    assert found.start_from["image_model"] == "/some/file.safetensors"
    for wrong in ("steps", "=3", "steps.x=3"):
        with pytest.raises(ValueError, match=wrong):
            load_recipe("sd15_prediction", [wrong])
