"""Joint fine-tuning: what it trains, and that images in the batch keep it from forgetting."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from measure_forgetting import losses, rendered
from model_toys import normal, seeded, toy_layers, toy_unet
from training_toys import CPU, shortened
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.networks.video_unet import inject
from videoldm.core.training.joint_tasks import PromptedVideos, image_count, joint_error
from videoldm.core.training.tasks import build_task
from videoldm.core.training.trainer import train


def test_at_least_one_video_remains_in_a_batch():
    assert [image_count(8, share) for share in (0.0, 0.25, 0.99)] == [0, 2, 7]
    assert image_count(1, 0.9) == 0
    with pytest.raises(ValueError, match="image_share 1.0"):
        image_count(8, 1.0)


def test_every_sample_counts_alike():
    unet = toy_unet()
    network = inject(unet, toy_layers(unet))
    text = normal(3, 2, 16)
    clips, images = (
        PromptedVideos(normal(1, 4, 4, 8, 8), text[:1]),
        PromptedVideos(normal(2, 1, 4, 8, 8), text[1:]),
    )
    with torch.no_grad():
        loss, (video, image) = joint_error(network, [clips, images], seeded())
    assert loss.item() == pytest.approx((video.item() + 2 * image.item()) / 3)


def test_images_in_the_batch_keep_what_videos_alone_would_change():
    """A few steps of `tests/measure_forgetting.py`, which measures it on held-out images."""
    clips = rendered(8, 0)
    found = losses(clips, clips, before=8, after=4)
    assert found["with"] < found["before"] and found["with"] < 0.99 * found["without"]


# ------------------------------------------------------------------------------------------- recipe


@pytest.mark.slow
def test_the_recipe_trains_the_image_model_and_its_layers(tmp_path, monkeypatch):
    """On the embedded family's own files, for two steps."""
    recipe = shortened("joint_fine_tuning")
    images = [plan | {"count": 4} for plan in recipe.data["images"]]
    recipe = replace(recipe, data=recipe.data | {"images": images, "image_share": 0.5})
    task = build_task(recipe, tmp_path / "cache")
    path = train(recipe, task, tmp_path, device=CPU, workers=0, report=lambda _: None)
    before = embedded.read(embedded.path_of("image_model"), "image_model")[1]
    header, after = embedded.read(tmp_path / "joint_image_model.safetensors", "image_model")
    moved = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"unet"} and header.notes["steps"] == 2
    assert embedded.load_temporal_layers(path).spec.layout.levels == 3
