"""The trainer: recipes, the optimiser, resuming, and every task for a few steps at toy size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from training_toys import CPU, shortened
from videoldm.core.families.embedded import included
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.training import temporal_layers_task
from videoldm.core.training.frame_sampling import FrameSampling
from videoldm.core.training.latents import LatentVideos, VideoPlan
from videoldm.core.training.optimizer import MuonAdamW, orthogonalised
from videoldm.core.training.recipe import RECIPES, Recipe, load_recipe
from videoldm.core.training.tasks import build_task
from videoldm.core.training.temporal_layers_task import moving, video_loss
from videoldm.core.training.trainer import learning_rate, train
from videoldm.core.training.velocity import video_noise
from videoldm.core.training.videos import HELD_OUT, random_crop, training_videos


class Quadratic:
    """A toy task: two linear layers are fitted to a linear map."""

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        self.target = torch.randn(3, 4)

    def batch(self, step: int) -> dict:
        return {"x": torch.from_numpy(np.random.default_rng(step).normal(size=(16, 4))).float()}

    def loss(self, batch: dict, generator: torch.Generator) -> dict:
        noise = 0.01 * torch.randn(16, 3, generator=generator)
        error = self.module(batch["x"]) - batch["x"] @ self.target.T + noise
        return {"loss": error.square().mean()}

    def save(self, path, notes: dict) -> None:
        torch.save(self.module.state_dict(), path)


def toy(steps: int) -> Recipe:
    return Recipe(
        name="toy", task="", output="toy.pt", steps=steps, batch=16, learning_rate=0.05, warmup=5,
        ema=0.9, precision="fp32", save_every=7,
    )  # fmt: skip


def run(folder, recipe: Recipe, task=None) -> dict:
    path = train(recipe, task or Quadratic(), folder, device=CPU, workers=0, report=lambda _: None)
    return torch.load(path, weights_only=True)


def test_training_lowers_the_loss_and_logs_it(tmp_path):
    run(tmp_path, toy(100))
    rows = (tmp_path / "log.csv").read_text().splitlines()
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert losses[-1] < 0.1 * losses[0]


def test_a_stopped_run_goes_on_to_the_very_same_weights(tmp_path):
    whole = run(tmp_path / "whole", toy(30))

    class Stopped(Quadratic):
        def batch(self, step: int) -> dict:
            if step == 17:
                raise KeyboardInterrupt
            return super().batch(step)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed", toy(30), Stopped())
    resumed = run(tmp_path / "resumed", toy(30))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_learning_rate_warms_up_and_falls_to_its_final_share():
    recipe = toy(100)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[4] == pytest.approx(recipe.learning_rate)
    assert rates[:5] == sorted(rates[:5]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(recipe.learning_rate * recipe.final_rate)


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_newton_schulz_brings_every_singular_value_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalised(matrix, steps=10))
    assert values.min() > 0.6 and values.max() < 1.3


def test_embeddings_and_vectors_are_left_to_adamw():
    module = nn.ModuleDict({"words": nn.Embedding(5, 4), "conv": nn.Conv2d(4, 4, 3)})
    muon, adamw = MuonAdamW(module, lr=1e-3, weight_decay=0.0).param_groups
    assert [p.shape for p in muon["params"]] == [module["conv"].weight.shape]
    assert {p.shape for p in adamw["params"]} == {(5, 4), (4,)}


def test_every_recipe_of_the_project_can_be_read():
    recipes = [load_recipe(path) for path in RECIPES.glob("*.toml")]
    assert len(recipes) == 19


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 3", "unknown keys: stepps"),
        ("task='x'\noutput='y'\nsteps=0\nbatch=2", "steps 0 and batch 2 must be at least 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_one_sentence(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(tmp_path / "bad.toml")


def test_an_unknown_recipe_or_task_names_those_that_are_known(tmp_path):
    with pytest.raises(ValueError, match="autoencoder"):
        load_recipe("no such recipe")
    with pytest.raises(ValueError, match="temporal_layers"):
        build_task(replace(toy(1), task="nothing"), tmp_path)


def test_evaluation_clips_are_never_trained_on(tmp_path):
    for name in (*HELD_OUT, "seen.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in training_videos(tmp_path)] == ["seen.mp4"]


def test_a_batch_shows_a_few_frames_or_neighbours():
    random, kinds = np.random.default_rng(0), set()
    some = FrameSampling(drawn_frames=(3, 5), successive_frames=(7, 9))
    for _ in range(200):
        times = some.draw(16, random).times
        assert times == sorted(set(times)) and max(times) < 16
        if len(times) < 7:
            kinds.add("some")
            assert times[0] == 0 and 3 <= len(times) <= 5
        else:
            kinds.add("neighbours")
            assert set(np.diff(times)) == {1} and len(times) <= 9
    assert kinds == {"some", "neighbours"}
    assert FrameSampling().draw(5, random).times == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_videos_come_as_sparse_frames_with_given_ends_as_often_as_asked(tmp_path):
    recipe = shortened("text_to_video")
    plan = recipe.data["clips"][0] | {"count": 24, "size": 16}
    told = {"clips": [plan], "given_ends": 0.5, "given_first": [1, 0, 0]}
    task = build_task(replace(recipe, batch=16, data=recipe.data | told), tmp_path)
    batches = [task.batch(step) for step in range(40)]
    sparse = [b for b in batches if b["times"].tolist() == [0, 5, 10, 15]]
    assert 12 <= len(sparse) <= 28
    masks = torch.cat([b["mask"] for b in sparse])
    assert {tuple(mask) for mask in masks.tolist()} == {(0, 0, 0, 0), (1, 0, 0, 1)}
    assert 0.4 < masks[:, 0].mean() < 0.6


@pytest.mark.slow
def test_clips_are_drawn_more_often_for_what_they_show():
    plan = VideoPlan(count=60, size=16)
    clips = LatentVideos(plan, torch.zeros(60, 1), [("", "")] * 60, [[]] * 60)
    shows = lambda what, chosen: np.isin(chosen, clips.showing[what]).mean()  # noqa: E731
    usual = clips.draw(4000, np.random.default_rng(3), {})
    chosen = clips.draw(4000, np.random.default_rng(3), {"two objects": 0.3, "rotates": 0.4})
    for what, share in (("two objects", 0.3), ("rotates", 0.4)):
        assert shows(what, chosen) > 0.9 * share
        assert shows(what, usual) < shows(what, chosen)
    one = clips.draw(4000, np.random.default_rng(3), {"one object": 1.0})
    assert shows("one object", one) == 1 and shows("two objects", one) == 0
    assert shows("rotates", clips.draw(99, np.random.default_rng(3), {"rotates": 1.0})) == 1
    for wrong in ({"dances": 0.1}, {"grows": 0.6, "shrinks": 0.6}):
        with pytest.raises(ValueError, match="more_of takes 'one object'"):
            clips.draw(4, np.random.default_rng(3), wrong)


def test_what_moves_counts_more_than_what_stands_still():
    clip = torch.zeros(2, 4, 3, 5, 6)
    clip[0, :, :, 1, 2] = torch.linspace(-1, 1, 4)[:, None]
    counts = moving(clip)
    assert counts.shape == (2, 1, 1, 5, 6)
    assert 0.7 < counts[0, 0, 0, 1, 2] < 0.9
    assert counts.sum() == counts[0, 0, 0, 1, 2]


def test_errors_that_change_from_frame_to_frame_count_more():
    same = torch.randn(2, 1, 3, 4, 4).expand(2, 5, 3, 4, 4)
    weight, signs = torch.ones(2, 5, 1, 1, 1), torch.tensor([1, -1, 1, -1, 1])
    alternating = same * signs[:, None, None, None]
    assert video_loss(same, weight, 2.0) == video_loss(same, weight, 0.0)
    assert video_loss(alternating, weight, 0.0) == video_loss(same, weight, 0.0)
    more = video_loss(alternating, weight, 2.0) - video_loss(same, weight, 2.0)
    torch.testing.assert_close(more, 8 * same.square().mean())
    weight[0] = 0
    torch.testing.assert_close(video_loss(same, weight, 0.0), same[1].square().mean())


@pytest.mark.slow
def test_what_moves_counts_more_only_where_the_noise_shows_where_it_is(monkeypatch, tmp_path):
    recipe = shortened("text_to_video")
    plan = recipe.data["clips"][0] | {"count": 6, "size": 16}
    told = {"clips": [plan], "moving_weight": 6.0}
    task = build_task(replace(recipe, batch=4, data=recipe.data | told), tmp_path)
    batch = task.batch(0) | {"blended_at": None}
    weights = {}
    keep = lambda error, weight, change: weights.update({step: weight}) or error.sum()  # noqa: E731
    monkeypatch.setattr(temporal_layers_task, "video_loss", keep)
    for step in (0, 999):
        steps = lambda count, *_, step=step: torch.full((count,), step)  # noqa: E731
        monkeypatch.setattr(temporal_layers_task, "draw_steps", steps)
        task.loss(batch, torch.Generator().manual_seed(0))
    assert 1.5 < weights[0].max() < 7 and weights[999].max() < 1.01


@pytest.mark.slow
def test_videos_come_whole_from_one_sparse_frame_to_another_which_are_given(tmp_path):
    recipe = shortened("text_to_video")
    plan = recipe.data["clips"][0] | {"count": 6, "size": 16}
    told = {"clips": [plan], "between_sparse_frames": 1.0, "between_alone": 0.4}
    task = build_task(replace(recipe, batch=8, data=recipe.data | told), tmp_path)
    batches = [task.batch(step) for step in range(40)]
    between = [b for b in batches if b["times"].tolist() != [0, 5, 10, 15]]
    assert 12 <= len(between) <= 28
    alone = 0
    for batch in between:
        times, given = batch["times"], batch["times"] % 5 == 0
        assert (times.diff() == 1).all() and given[[0, -1]].all()
        told = {tuple(mask) for mask in batch["mask"].tolist()}
        sparse, nothing = tuple(given.float().tolist()), (0.0,) * len(times)
        assert told <= ({sparse, nothing} if batch["blended_at"] else {sparse})
        alone += nothing in told
        noise = video_noise(batch["latents"], torch.Generator(), batch["shared_noise"])
        assert torch.equal(noise[:, 1:], noise[:, :-1])
        assert len(batch["ids"]) == max(1, 8 * 4 // len(times))
        assert batch["blended_at"] in (None, given.nonzero().flatten().tolist())
    assert {batch["blended_at"] is None for batch in between} == {True, False}
    assert {len(batch["times"]) for batch in between} == {6, 11, 16} and alone > 0
    batch = next(b for b in between if b["blended_at"])
    assert torch.isfinite(task.loss(batch, torch.Generator().manual_seed(0))["loss"])


def test_crops_have_the_wanted_size_and_range():
    clip = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8)
    crop = random_crop(clip, np.random.default_rng(1), frames=3, size=16)
    assert crop.shape == (3, 3, 16, 16) and crop.dtype == np.float32
    assert -1 <= crop.min() and crop.max() <= 1
    with pytest.raises(ValueError, match="5 frames 50x40 is too small for 6 frames 16x16"):
        random_crop(clip, np.random.default_rng(1), frames=6, size=16)


ORDER = (
    "autoencoder", "image_model", "text_to_video", "prediction", "interpolation",
    "upsampler_image", "upsampler", "temporal_decoder",
)  # fmt: skip


@pytest.mark.slow
def test_the_whole_family_trains_from_nothing(tmp_path, monkeypatch):
    """Each recipe in its order for two steps; each result is loaded by the next."""
    monkeypatch.setattr(included, "WEIGHTS", tmp_path / "embedded")
    (tmp_path / "embedded").mkdir()
    for name in ORDER:
        recipe = shortened(name)
        task = build_task(recipe, tmp_path / "cache")
        path = train(recipe, task, tmp_path / name, device=CPU, workers=0, report=lambda _: None)
        path.rename(tmp_path / "embedded" / path.name)
    assert embedded.load_image_model().model.prediction == "v"
    assert embedded.load_upsampler().model.low_res_channels == 3
    assert embedded.load_temporal_decoder().reach > 0
    for name in embedded.TEMPORAL_LAYERS:
        assert embedded.load_temporal_layers(name).spec.trained.frames in (16, 17)
