"""Driving at 128x256: labels instead of captions, and boxes in frames that are not square."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_toys import CPU
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded import worlds
from videoldm.core.training.clips import Clips
from videoldm.core.training.latents import VideoPlan, latent_videos
from videoldm.core.training.recipe import load_recipe
from videoldm.core.training.tasks import build_task
from videoldm.core.training.trainer import train


def test_labels_say_how_light_and_how_crowded_it_is():
    scenes = [worlds.sample_scene("driving", seed) for seed in range(60)]
    found = {worlds.labels(scene): scene for scene in scenes}
    assert {name.partition(", ")[0] for name in found} == {"day", "dusk", "night"}
    crowds = {name.partition(", ")[2]: len(scene.cars) for name, scene in found.items()}
    assert sorted(crowds.values()) == [0, 1, 2, 3]
    assert crowds["empty road"] == 0 and crowds["heavy traffic"] == 3
    with pytest.raises(ValueError, match="only scenes of the world driving"):
        worlds.labels(worlds.sample_scene("shapes", 1))


def test_videos_of_the_recipe_have_labels_and_boxes_of_their_shape(tmp_path):
    plan = load_recipe("driving_image_model").data["clips"]
    autoencoder = embedded.load_autoencoder()
    small = VideoPlan(**plan | {"count": 3, "frames": 1, "size": [16, 32]})
    videos = latent_videos(small, autoencoder, tmp_path)
    assert videos.latents.shape[-2:] == torch.Size([4, 8])
    for i in range(3):
        scene, times = small.scene(i)
        assert videos.captions[i] == (worlds.labels(scene),) * 2
        assert videos.boxes[i][0] == list(worlds.boxes(scene, float(times[0]), size=(16, 32)))


def test_rendered_clips_may_have_labels():
    clip = Clips(frames=2, size=(8, 16), labels=True).draw(np.random.default_rng(0))
    assert clip.caption.partition(", ")[0] in ("day", "dusk", "night")
    assert clip.frames.shape == (2, 3, 8, 16)


def test_both_recipes_run_to_their_end_and_their_files_load(tmp_path):
    image = load_recipe(
        "driving_image_model",
        ["steps=2", "batch=2", "model.unet.channels=[32, 32, 64]", "model.text.layers=1",
         "data.clips.count=4", "data.clips.frames=2", "data.clips.size=[16, 32]"],
    )  # fmt: skip
    folder = tmp_path / "image"
    start = trained(image, folder)
    for part in ("autoencoder.safetensors", "tokenizer"):
        (folder / part).symlink_to(embedded.path_of("autoencoder").parent / part)
    found = embedded.load_image_model(start)
    assert found.box_encoder is not None
    # Its words are those of labels, not of the captions that trained the tokenizer.
    assert {"car", "road"} & found.known_words.words and "driving" not in found.known_words.words
    prediction = load_recipe(
        "driving_prediction",
        ["steps=2", "batch=2", "data.frames=3", "data.size=[16, 32]", "model.trained_frames=3",
         f"start_from.image_model={start}"],
    )  # fmt: skip
    layers = embedded.load_temporal_layers(trained(prediction, tmp_path / "layers"))
    assert layers.spec.trained.task == "prediction" and layers.context is not None


def trained(recipe, folder):
    """Trains a recipe and returns the file it writes."""
    task = build_task(recipe, folder / "cache")
    return train(recipe, task, folder, device=CPU, workers=0, report=lambda _: None)
