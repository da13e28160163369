"""Joint fine-tuning: what it trains, and that images in the batch keep the image model's memory."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_toys import normal, seeded, toy_layers, toy_unet
from test_training import CPU, shortened
from videoldm.core import worlds
from videoldm.core.families import embedded
from videoldm.core.training.joint_tasks import Shown, image_count, joint_error
from videoldm.core.training.optimizer import MuonAdamW
from videoldm.core.training.tasks import build_task
from videoldm.core.training.trainer import train
from videoldm.core.video_unet import inject

FRAMES, SIDE = 4, 8


def test_at_least_one_video_remains_in_a_batch():
    assert [image_count(8, share) for share in (0.0, 0.25, 0.99)] == [0, 2, 7]
    assert image_count(1, 0.9) == 0
    with pytest.raises(ValueError, match="image_share 1.0"):
        image_count(8, 1.0)


def test_every_sample_counts_alike():
    unet = toy_unet()
    network = inject(unet, toy_layers(unet))
    text = normal(3, 2, 16)
    clips, images = Shown(normal(1, 4, 4, 8, 8), text[:1]), Shown(normal(2, 1, 4, 8, 8), text[1:])
    with torch.no_grad():
        loss, (video, image) = joint_error(network, [clips, images], seeded())
    assert loss.item() == pytest.approx((video.item() + 2 * image.item()) / 3)


# --------------------------------------------------------------------------------------- forgetting


def rendered(world: str, count: int, seed: int) -> torch.Tensor:
    """Small clips of a world as they are, in place of latents: [n t 4 h w]."""
    clips = []
    for index in range(count):
        scene = worlds.sample_scene(world, seed + index)
        video = torch.from_numpy(worlds.render(scene, times=np.arange(FRAMES), size=4 * SIDE))
        small = F.avg_pool2d(video, 4)
        clips.append(torch.cat([small, small.mean(1, keepdim=True)], dim=1))
    return torch.stack(clips)


def fine_tune(network, parts, steps, rate):
    """Train every weight; `parts(step)` gives what a step shows."""
    network = copy.deepcopy(network).train().requires_grad_(True)
    optimizer = MuonAdamW(network, lr=rate, weight_decay=0.0)
    for step in range(steps):
        loss, _ = joint_error(network, parts(step), seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def image_loss(network, images, text) -> float:
    """On the same noise and steps each time."""
    shown = Shown(images[:, None], text.expand(len(images), -1, -1))
    return float(np.mean([joint_error(network, [shown], seeded(k))[0].item() for k in range(4)]))


def test_images_in_the_batch_keep_the_image_model_from_forgetting():
    """An image model of both worlds is fine-tuned on videos of one: the other one's held-out images
    get worse, and clearly less so when half of each batch is images of both."""
    torch.manual_seed(0)
    words = {world: normal(1, 2, 16, seed=k) for k, world in enumerate(worlds.WORLDS)}
    clips = {world: rendered(world, 48, 0) for world in words}
    held_out = {world: rendered(world, 24, 1000)[:, 0] for world in words}

    def images(world, step, count):
        chosen = torch.arange(step * count, (step + 1) * count) % 48
        frames = clips[world][chosen, step % FRAMES][:, None]
        return Shown(frames, words[world].expand(count, -1, -1))

    def videos(step, count):
        chosen = torch.arange(step * count, (step + 1) * count) % 48
        return Shown(clips["driving"][chosen], words["driving"].expand(count, -1, -1))

    unet = toy_unet()
    both = [lambda step: [images(world, step, 8) for world in words]]
    image_model = fine_tune(inject(unet, toy_layers(unet)), both[0], steps=60, rate=3e-3)
    with_images = fine_tune(
        image_model, lambda step: [videos(step, 4), *(images(w, step, 2) for w in words)],
        steps=30, rate=3e-3,
    )  # fmt: skip
    without = fine_tune(image_model, lambda step: [videos(step, 8)], steps=30, rate=3e-3)
    losses = {
        name: image_loss(network, held_out["shapes"], words["shapes"])
        for name, network in (("before", image_model), ("with", with_images), ("without", without))
    }
    print(", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
    forgotten = {name: losses[name] - losses["before"] for name in ("with", "without")}
    assert forgotten["without"] > 0.1 * losses["before"]
    assert forgotten["with"] < 0.6 * forgotten["without"]


# ------------------------------------------------------------------------------------------- recipe


@pytest.mark.slow
def test_the_recipe_trains_the_image_model_and_its_layers(tmp_path, monkeypatch):
    """On the embedded family's own files, for two steps."""
    recipe = shortened("joint_fine_tuning")
    data = recipe.data | {"images": [plan | {"count": 4} for plan in recipe.data["images"]]}
    recipe = replace(recipe, data=data, batch=4)
    task = build_task(recipe, tmp_path / "cache")
    path = train(recipe, task, tmp_path, device=CPU, workers=0, report=lambda _: None)
    before = embedded.read(embedded.path_of("image_model"), "image_model")[1]
    header, after = embedded.read(tmp_path / "joint_image_model.safetensors", "image_model")
    moved = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"unet"} and header.notes["steps"] == 2
    assert embedded.load_temporal_layers(path).spec.layout.levels == 3
