"""Training the whole family in a fixed time: plan, clock, resuming, one set for all tasks."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from videoldm.core.diffusion.schedules import NoiseSchedule
from videoldm.core.evaluation import included as figures
from videoldm.core.evaluation import models as models_of
from videoldm.core.evaluation import unseen, upsampled
from videoldm.core.evaluation.models import Models, Settings
from videoldm.core.evaluation.run import Counts
from videoldm.core.families.embedded import included
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.training.family import run, timed
from videoldm.core.training.family.clips import load_clips
from videoldm.core.training.family.course import Course
from videoldm.core.training.family.material import Material
from videoldm.core.training.family.plan import ClipSet, Plan, load_plan
from videoldm.core.training.family.run import TASKS, RunSettings, train_family
from videoldm.core.training.family.timed import Stepper, learning_rate, profile_power
from videoldm.core.training.reserved import reserved

CPU = torch.device("cpu")
NAMES = ("autoencoder", "image_model", "temporal_decoder", "upsampler", "video")


def tiny(*args, **more) -> Plan:
    """The plan at a tiny scale, with a few clips."""
    plan = load_plan(*args, **more | {"scale": 0.001})
    clips = (replace(one, count=6) for one in plan.clips if not one.real)
    return replace(plan, clips=tuple(clips))


def asked(output: Path, **more) -> RunSettings:
    """Settings of a run with just enough time for a step of each part."""
    return RunSettings(**{"minutes": 0.01, "output": output, "device": CPU, "workers": 1} | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output folder of a finished run."""
    output = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_plan", tiny)
        train_family(asked(output), lambda _: None)
    return output


@pytest.fixture
def weights(trained):
    """Loads the trained family instead of the pack's own."""
    with included.weights_in(trained / "weights"):
        yield trained / "weights"


@pytest.fixture
def part_and_task(trained, weights):
    """part_and_task(name) -> a part of the plan and its task, built anew from the files."""
    plan = tiny(on_cpu=True)

    def build(name: str, device: torch.device = CPU):
        part = plan.part(name)
        task = TASKS[part.task](part, Material(plan, trained / "clips", device))
        task.place(device)
        return part, task

    return build


# The plan.


def test_parts_are_trained_after_what_they_need():
    plan = load_plan()
    for part in plan.parts:
        assert all(plan.part(need).end <= part.begin for need in part.needs)
    assert max(part.end for part in plan.parts) == 1


def test_some_parts_alone_share_the_whole_time():
    plan = load_plan().of(["video", "upsampler", "upsampler_layers"])
    video, first, second = plan.parts
    assert (video.begin, video.end) == (0, 1) and second.end == 1
    assert first.begin == 0 and first.end == pytest.approx(0.6) and second.begin == first.end
    with pytest.raises(ValueError, match="no part 'sound' of the family"):
        load_plan().of(["sound"])


def test_a_hundredth_of_the_size_is_about_that():
    widths = [load_plan(scale=scale).part("image_model").model["unet"]["channels"]
              for scale in (1, 0.01)]  # fmt: skip
    assert widths[0] == (64, 128, 128) or list(widths[0]) == [64, 128, 128]
    assert max(widths[1]) <= 16
    assert load_plan(scale=0.01).clips[0].count == load_plan().clips[0].count // 100


def test_changes_of_the_plan_name_a_part():
    assert load_plan(["video.batch=3"]).part("video").batch == 3
    with pytest.raises(ValueError, match="must begin with a part and a dot"):
        load_plan(["batch=3"])


def test_base_frames_of_another_size():
    small, large = load_plan(), load_plan(size=128)
    assert [one.size for one in large.clips if not one.real] == [128, 128, 512]
    assert large.part("video").batch == small.part("video").batch // 4
    assert large.part("video").model == small.part("video").model


def test_no_training_clip_has_a_caption_reserved_for_evaluation(trained):
    shown = [text for one in tiny(on_cpu=True).clips
             for text, _ in load_clips(one, trained / "clips").captions]  # fmt: skip
    assert shown and not any(map(reserved, shown))


# The clock.


def test_the_learning_rate_ends_when_the_time_does():
    part = load_plan().part("video")
    rates = [learning_rate(part, k / 100) for k in range(101)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(part.learning_rate, rel=1e-3) and top <= 4
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[100] == pytest.approx(part.learning_rate * part.final_rate)


def test_averaging_remembers_a_share_of_the_steps():
    assert profile_power(0.10) == pytest.approx(6.94, abs=0.01)  # as published for EDM2
    assert profile_power(0.05) == pytest.approx(16.97, abs=0.01)


def test_parts_take_turns_by_the_time_that_they_had(trained):
    """A part of three times the weight gets three times the time."""
    courses = {}
    for name, weight in (("slow", 1.0), ("fast", 3.0)):
        course = Course.__new__(Course)
        course.part = replace(load_plan().part("video"), weight=weight)
        course.spent, course.taken = 0.0, 0
        course.stepper = type("Ready", (), {"ready": lambda self: True})()
        courses[name] = course
    training = run._Training.__new__(run._Training)
    training.running, now = courses, [0.0]

    class Clock:
        def seconds(self) -> float:
            now[0] += 0.5
            return now[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Course, "step", lambda self, at: setattr(self, "taken", self.taken + 1))
        for _ in range(40):
            training._step(Clock(), 0.0, 100.0)
    assert (courses["slow"].taken, courses["fast"].taken) == (10, 30)


# A run.


def test_every_part_is_written_and_loads(trained, weights):
    assert sorted(path.stem for path in weights.glob("*.safetensors")) == sorted(NAMES)
    image = embedded.load_image_model()
    assert image.model.prediction == "v" and len(image.tokenizer) > 500
    assert {"car", "lane", "moves"} < image.known_words.words <= embedded.worlds.words()
    assert embedded.load_upsampler().model.low_res_channels == 3
    assert embedded.load_temporal_decoder().reach > 0
    progress = json.loads((trained / "progress.json").read_text())
    assert sorted(progress["finished"]) == sorted(progress["parts"])
    logs = {path.stem: path.read_text().splitlines() for path in (trained / "logs").iterdir()}
    assert logs.keys() == set(progress["parts"])
    assert all(rows[0].startswith("progress,step,loss") and len(rows) > 1 for rows in logs.values())
    assert "<polyline" in (trained / "curves.svg").read_text()


def test_a_folder_with_a_run_is_not_written_over(trained, monkeypatch):
    monkeypatch.setattr(run, "load_plan", tiny)
    with pytest.raises(ValueError, match="--resume"):
        train_family(asked(trained), lambda _: None)


def test_a_killed_run_goes_on_from_its_last_states(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_plan", tiny)
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    step, said = Course.step, []

    def stopped(self, at: float) -> None:
        if self.part.name == "image_model" and self.stepper.step == 3:
            raise KeyboardInterrupt
        step(self, at)

    monkeypatch.setattr(Course, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_family(asked(tmp_path, minutes=0.5, only=("autoencoder", "image_model"),
                           changes=("autoencoder.end=0.02", "image_model.begin=0.02")),
                     lambda _: None)  # fmt: skip
    states = {path.name for path in (tmp_path / "states").iterdir()}
    assert states == {"image_model.pt"} and (tmp_path / "weights/autoencoder.safetensors").is_file()
    before = json.loads((tmp_path / "progress.json").read_text())
    monkeypatch.setattr(Course, "step", step)
    monkeypatch.setattr(run.Clock, "seconds", lambda self: 30.0)
    train_family(asked(tmp_path, resume=True), said.append)
    after = json.loads((tmp_path / "progress.json").read_text())
    assert any(text.startswith("image_model resumes") for text in said)
    assert any(text.startswith("image_model: 3 steps") for text in said)
    assert after["finished"] == ["autoencoder", "image_model"]
    assert after["minutes"] == before["minutes"] == 0.5 and after["trained"] > before["trained"]


def test_a_finished_run_is_followed_by_one_more(trained, tmp_path, monkeypatch):
    """It starts from the files, and leaves out the autoencoder that others' latents depend on."""
    monkeypatch.setattr(run, "load_plan", tiny)
    said = []
    how = asked(tmp_path, start=trained / "weights", only=("autoencoder", "video"))
    train_family(how, said.append)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["parts"] == ["video"]
    assert any("video continues its file" in text for text in said)
    same = [(folder / "weights/autoencoder.safetensors").read_bytes()
            for folder in (trained, tmp_path)]  # fmt: skip
    assert same[0] == same[1]
    train_family(replace(how, resume=True, only=("video",)), said.append)
    assert json.loads((tmp_path / "progress.json").read_text())["rounds"] == 1


def test_a_part_without_what_it_needs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_plan", tiny)
    with pytest.raises(ValueError, match="video needs autoencoder, which is neither trained nor"):
        train_family(asked(tmp_path, only=("video",)), lambda _: None)


def test_a_part_that_cannot_begin_leaves_the_others_their_time(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_plan", tiny)

    def broken(part, material):
        raise RuntimeError("out of memory")

    monkeypatch.setitem(TASKS, "upsampler", broken)
    said = []
    with pytest.raises(ValueError, match="not trained: upsampler, upsampler_layers"):
        train_family(
            asked(tmp_path, start=trained / "weights",
                  only=("temporal_decoder", "video", "upsampler", "upsampler_layers")),
            said.append,
        )  # fmt: skip
    assert any("upsampler is skipped: RuntimeError: out of memory" in text for text in said)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["finished"] == ["temporal_decoder", "video"]


def test_a_loss_that_is_not_a_number_restores_the_saved_state(part_and_task, tmp_path):
    part, task = part_and_task("image_model")
    course = Course(part, task, CPU, tmp_path / "weights.safetensors", tmp_path, tmp_path)
    course.begin(1.0, lambda _: None)
    course.step(part.begin)
    course.save()
    kept = [p.detach().clone() for p in course.stepper.average.parameters]
    states = course.stepper.optimizer.state
    momenta = {id(p): state["momentum"] for p, state in states.items() if "momentum" in state}
    with torch.no_grad():
        course.stepper.average.parameters[0].fill_(torch.nan)
    course.step(part.begin)
    course.save()
    course._log(0.0, 0.0)
    assert all(map(torch.equal, course.stepper.average.parameters, kept))
    assert course.slowed == 0.5 and course.stepper.step == 1
    assert all(value.isfinite().all() for state in states.values() for value in state.values())
    after = {id(p): state["momentum"] for p, state in states.items() if "momentum" in state}
    assert all(after[key] is momentum for key, momentum in momenta.items())


def test_the_evaluation_measures_one_set_for_all_tasks(weights, monkeypatch):
    """Plainly: without sparse frames, blends, keyframe residuals or back-projection."""
    monkeypatch.setattr(unseen, "trained_captions", lambda: frozenset())
    monkeypatch.setattr(upsampled, "LARGE_SIDE", 64)
    monkeypatch.setattr(models_of, "PLAIN_STEPS", 2)
    monkeypatch.setattr(models_of, "PLAIN_STEPS_BETWEEN", 2)
    monkeypatch.setattr(figures, "with_keyframe_residual", None)
    monkeypatch.setattr(upsampled, "back_projected", None)
    few = Counts(prompts=2, aligned=1, interpolated=1, upsampled=1, upsampled_frames=2, decoded=1)
    names = ("shapes", "interpolation", "upsampler")
    found = figures.evaluate(lambda _: None, only=names, counts=few)
    assert {one.group for one in found} == set(names)


# What is learned, and by what.


@pytest.mark.parametrize(("name", "moved"), [
    ("image_model", ("unet.", "text_encoder.", "box_encoder.")),
    ("video", ("sets.",)),
    ("upsampler", ("image_unet.",)),
    ("upsampler_layers", ("sets.",)),
    ("temporal_decoder", ("autoencoder.", "temporal.")),
])  # fmt: skip
def test_gradients_reach_what_the_part_trains_and_nothing_else(part_and_task, name, moved):
    _, task = part_and_task(name)
    generator = torch.Generator().manual_seed(0)
    for variant in set(task.pattern):
        task.loss(task.draw_batch(variant, generator), generator)["loss"].backward()
    reached = {key for key, p in task.module.named_parameters() if p.grad is not None}
    assert reached and all(key.startswith(moved) for key in reached)
    assert {key.split(".")[0] + "." for key in reached} == set(moved)


def test_videos_are_given_none_one_two_or_every_fourth_frame(part_and_task):
    _, task = part_and_task("video")
    generator = torch.Generator().manual_seed(0)
    given = {tuple(mask.nonzero().flatten().tolist()) for variant in (0, 1) for _ in range(60)
             for mask in task.draw_batch(variant, generator)["mask"]}  # fmt: skip
    assert given == {(), (0,), (0, 1), (0, 4, 8, 12, 16)}
    slow = task.draw_batch(1, generator)
    assert slow["latents"].shape[1] == 17 and set(slow["rate"].tolist()) <= {0, 1}


def test_layers_have_convolutions_and_attention_at_every_level(weights):
    spec = embedded.load_temporal_layers("text_to_video").spec
    kinds = {site: layer.kind for site, layer in spec.layers.items()}
    residual = {site for site in kinds if ".res." in site}
    attention = {site for site in kinds if ".attn." in site}
    assert {kinds[site] for site in residual} == {"residual convolution"}
    assert {kinds[site] for site in attention} == {"temporal transformer"}
    assert len(residual) == 11 and len(attention) == 10
    assert spec.prompt_reader is None and spec.context.in_place


def test_one_set_makes_continues_and_fills_in_videos(weights):
    models, two = Models(), Settings(steps=2, cfg=2.0)
    text = models.text(["a red circle moves left on a black background"])
    made = models.videos(models.text_to_video, text, two, 1, frames=4, side=64)
    longer = models.continued(made[:, :2], text, two, 1, frames=18, context=2)
    between = models.interpolated(made[:, :2], text, two, 1, passes=2)
    assert (made.shape[1], longer.shape[1], between.shape[1]) == (4, 18, 17)
    assert torch.equal(longer[:, :2], made[:, :2]) and torch.equal(between[:, 0], made[:, 0])
    assert {str(embedded.path_of(name)) for name in embedded.TEMPORAL_LAYERS} == {
        str(weights / "video.safetensors")
    }


class OnMeta(torch.Generator):
    """A generator on the meta device, where asking for a value is an error."""

    device = torch.device("meta")


@pytest.mark.parametrize("name", ["autoencoder", "image_model", "temporal_decoder", "video",
                                  "upsampler", "upsampler_layers"])  # fmt: skip
def test_a_step_asks_the_device_for_nothing(part_and_task, monkeypatch, name):
    """So it can be captured as a CUDA graph: meta tensors have no values to be read, and cannot be
    combined with tensors on another device."""
    table = torch.empty(1000, dtype=torch.double, device="meta")
    monkeypatch.setattr(NoiseSchedule, "_looked_up", lambda self, steps: table[steps])
    monkeypatch.setattr(timed.torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    part, task = part_and_task(name, torch.device("meta"))
    stepper = Stepper(part, task, torch.device("meta"), OnMeta())
    for variant in task.pattern:
        stepper._eagerly(variant)


def test_clip_sets_without_videos_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOLDM_CLIPS", str(tmp_path))
    one = ClipSet(name="real", count=2, cpu_count=2, frames=2, size=8, seed=1, real=True)
    said = []
    run.render_clips(one, tmp_path / "clips", 1, said.append)
    assert load_clips(one, tmp_path / "clips") is None and said == []


def test_clips_rendered_with_other_settings_are_not_reused(tmp_path):
    one = ClipSet(name="base", count=2, cpu_count=2, frames=2, size=16, seed=1, rates=(1.0, 4.0))
    run.render_clips(one, tmp_path, 1, print)
    assert load_clips(one, tmp_path) is not None
    assert load_clips(replace(one, rates=(1.0, 2.0)), tmp_path) is None
