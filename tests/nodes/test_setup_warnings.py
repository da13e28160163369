"""Warnings about setups that cannot give a sensible result: the rules, and nodes that use them."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.families.lavie_config import LavieConfig
from videoldm.core.graph import Call, current_call
from videoldm.core.networks.injected_sets import InjectedSets, Injection
from videoldm.core.networks.sites import SD1, UNetLayout
from videoldm.core.networks.temporal_layers import Strength, TemporalLayers
from videoldm.core.networks.temporal_layers_spec import TASKS, TrainedFor
from videoldm.core.weights.checkpoints import Header
from videoldm.nodes.host.shared import setup_warnings as rules
from videoldm.nodes.host.shared.layer_facts import layer_facts, warnings_of_core_sampler
from videoldm.nodes.host.shared.setup_warnings import (
    LayerFacts,
    SamplerSetup,
    core_sampler_warnings,
    interpolation_warnings,
    sampler_warnings,
    upsampling_warnings,
)

SMALL = {"width": 16, "height": 16, "steps": 1, "seed": 3}
BARE = LayerFacts(present=False)


def known(task: str, trained: int = 16, takes_context: bool = True) -> LayerFacts:
    return LayerFacts(present=True, task=task, trained_frames=trained, takes_context=takes_context)


def setup(model: LayerFacts, strategy: str = "single clip", **more) -> SamplerSetup:
    given = {"frames": 16, "window": 16, **more}
    return SamplerSetup(model=model, strategy=strategy, **given)


TEXT, NEXT, BETWEEN = known("text to video"), known("prediction"), known("interpolation", 17)

FINE = [
    setup(TEXT), setup(NEXT), setup(NEXT, given=True), setup(known("")), setup(rules.NO_FACTS),
    setup(BARE, frames=1), setup(TEXT, "sliding windows", frames=600),
    setup(NEXT, "prediction", frames=100), setup(TEXT, "prediction", frames=100, prediction=NEXT),
    setup(NEXT, "hierarchical", frames=241, interpolation=BETWEEN),
    setup(BARE, given=True, prediction=NEXT), setup(TEXT, "sliding windows", frames=9, window=64),
    setup(TEXT, "prediction", frames=16), setup(TEXT, "hierarchical", frames=61),
    setup(TEXT, "single clip", frames=16, interpolation=TEXT),
]  # fmt: skip
DOUBTFUL = [
    (setup(BARE), "no temporal layers, so that its 16 frames"),
    (setup(BARE, "sliding windows", frames=90), "no temporal layers, so that its 16 frames"),
    (setup(BARE, frames=0), "no temporal layers, so that its frames"),
    (setup(BETWEEN), r"filling in frames between others \(interpolation\).*from a prompt"),
    (setup(known("upsampling")), r"enlarging videos \(upsampling\)"),
    (setup(BETWEEN, given=True), "from a prompt|continuing"),
    (setup(TEXT, given=True), "text to video.*continuing given frames needs .* prediction"),
    (setup(TEXT, "prediction", frames=17), "continuing given frames"),
    (setup(TEXT, "hierarchical", frames=241, interpolation=BETWEEN), "continuing given frames"),
    (setup(known("", takes_context=False), "prediction", frames=40), "cannot be given frames"),
    (setup(TEXT, "prediction", frames=40, prediction=BETWEEN), "interpolation.*continuing"),
    (setup(NEXT, "hierarchical", frames=241, interpolation=NEXT), "the input interpolation_model"),
    (setup(TEXT, frames=64), "64 frames .* trained on 16 frames: choose at most 16 frames"),
    (setup(TEXT, "sliding windows", frames=90, window=64), "64 frames .* set window to 16"),
    (setup(NEXT, "prediction", frames=90, window=17), "17 frames .* set window to 16"),
    (setup(NEXT, "hierarchical", frames=241, window=64, interpolation=BETWEEN), "64 frames"),
    (setup(TEXT, "prediction", frames=9, window=64), "64 frames .* set window to 16"),
]  # fmt: skip


@pytest.mark.parametrize("given", FINE, ids=str)
def test_nothing_is_said_of_what_gives_sense(given):
    assert sampler_warnings(given) == []


@pytest.mark.parametrize(("given", "words"), DOUBTFUL, ids=lambda one: str(one)[:60])
def test_one_sentence_says_what_is_wrong_and_what_to_do(given, words):
    (sentence,) = sampler_warnings(given)
    assert re.search(words, sentence), sentence
    assert "\n" not in sentence and not sentence.endswith(".")


def test_other_stages_have_rules_of_the_same_kind():
    assert interpolation_warnings(BETWEEN, 0) == interpolation_warnings(BETWEEN, 5) == []
    assert "means 21 frames" in interpolation_warnings(BETWEEN, 6)[0]
    assert "set it to 5" in interpolation_warnings(known("interpolation", 16), 9)[0]
    assert "interpolation" in interpolation_warnings(NEXT, 0)[0]
    upsampler = known("upsampling", 8)
    assert upsampling_warnings(upsampler, 90, 8) == upsampling_warnings(upsampler, 5, 16) == []
    assert "set chunk to 8" in upsampling_warnings(upsampler, 90, 16)[0]
    assert "no temporal layers" in upsampling_warnings(BARE, 90, 16)[0]
    assert upsampling_warnings(BARE, 1, 16) == []
    assert core_sampler_warnings(BARE, 64) == core_sampler_warnings(TEXT, 16) == []
    assert "64 frames" in core_sampler_warnings(TEXT, 64)[0]
    assert "interpolation" in core_sampler_warnings(BETWEEN, 8)[0]


LAYOUT = UNetLayout(channels=(32, 64), layers=1, depths=(0, 1))


def test_the_last_layers_that_say_a_task_decide():
    specs = [spec_from_table(LAYOUT, task=task, trained_frames=frames, norm_groups=8)
             for task, frames in (("text to video", 16), ("prediction", 8), ("", 4))]  # fmt: skip
    sets = InjectedSets([Injection(TemporalLayers(spec)) for spec in specs])
    assert layer_facts(sets) == known("prediction", 16, takes_context=False)
    assert layer_facts(InjectedSets()) == BARE
    assert len(warnings_of_core_sampler(sets, 64)) == 1
    off = [Injection(one.layers, Strength(overall=0.0)) for one in sets]
    assert warnings_of_core_sampler(InjectedSets(off), 64) == []
    with pytest.raises(ValueError, match="task 'dancing' must be one of text to video"):
        TrainedFor(task="dancing")


# What files say.


@pytest.mark.parametrize("name", embedded.TEMPORAL_LAYERS)
def test_the_embedded_layers_say_their_task(name):
    header, _ = embedded.read(embedded.path_of(name), "temporal_layers")
    assert embedded.layers_spec(header).trained.task == name.replace("_", " ")


def test_a_file_says_its_task_itself_or_by_its_recipe_and_older_ones_not_at_all():
    def task(said: str, **notes):
        config = spec_from_table(LAYOUT, task=said).as_dict()
        header = Header(family="embedded", kind="temporal_layers", config=config, notes=notes)
        return embedded.layers_spec(header).trained.task

    assert task("prediction", recipe="interpolation") == "prediction"
    assert task("", recipe="text_to_video") == "text to video"
    assert task("", recipe="mine") == task("") == ""


@pytest.mark.parametrize(("kind", "task"), [
    ("base", "text to video"), ("interpolation", "interpolation"), ("vsr", "upsampling"),
])  # fmt: skip
def test_layers_of_lavie_have_the_task_of_their_network(kind, task):
    config = LavieConfig(kind=kind, layout=SD1, heads=(8,) * 4, context_width=768)
    assert config.layers_spec().trained.task == task in TASKS


# In the nodes.


@pytest.fixture
def told(toys):
    """The warnings of nodes, as a list."""
    found: list[str] = []
    token = current_call.set(Call("1", "Toy", warn=found.append))
    yield found
    current_call.reset(token)


@pytest.fixture
def wires(run):
    model, clip, vae = run("VideoLDM_LoadImageModel").values
    prompts = {"positive": clip.encode("a red circle"), "negative": clip.encode("")}
    return {"model": model, "vae": vae, **prompts}


def injected(run, model, task):
    """The toy image model with layers marked as trained for a task, on 5 frames."""
    layers = run("VideoLDM_LoadTemporalLayers", layers="embedded: prediction")
    trained = dataclasses.replace(layers.spec.trained, task=task)
    layers.spec = dataclasses.replace(layers.spec, trained=trained)
    return run("VideoLDM_InjectTemporalLayers", model=model, layers=layers, sites="")


def test_the_sampler_warns_and_goes_on(run, wires, told):
    prompts = {key: wires[key] for key in ("positive", "negative")}
    node, model = "VideoLDM_VideoSampler", wires["model"]
    run(node, model=model, frames=3, **SMALL, **prompts)
    assert len(told) == 1 and "so that its 3 frames" in told[0]
    told.clear()
    latent = run(node, model=injected(run, model, "prediction"), frames=7, **SMALL, **prompts)
    assert len(latent["samples"]) == 7 and len(told) == 1 and "7 frames" in told[0]
    told.clear()
    run(node, model=injected(run, model, "interpolation"), frames=3, **SMALL, **prompts)
    assert len(told) == 1 and "filling in frames" in told[0]
    told.clear()
    run(node, model=injected(run, model, "prediction"), frames=5, **SMALL, **prompts)
    run(node, model=model, frames=1, **SMALL, **prompts)
    assert told == []


def test_interpolation_upsampling_and_comfyuis_sampler_warn_too(run, wires, told):
    prompts = {key: wires[key] for key in ("positive", "negative")}
    model, latent = (
        injected(run, wires["model"], "prediction"),
        {"samples": torch.zeros(2, 4, 4, 4)},
    )
    run("VideoLDM_InterpolateFrames", model=model, latent=latent, steps=1, **prompts)
    assert len(told) == 1 and "Interpolate Frames needs layers for interpolation" in told[0]
    told.clear()
    upsampler, clip, _ = run("VideoLDM_LoadUpsampler").values
    own = {"positive": clip.encode("a"), "negative": clip.encode("")}
    images = torch.rand(7, 8, 8, 3)
    run("VideoLDM_UpsampleVideo", model=upsampler, images=images, steps=1, **own)
    assert len(told) == 1 and "set chunk to 5" in told[0]
    told.clear()
    seven = {"samples": torch.zeros(7, 4, 4, 4)}
    run("KSampler", model=model, latent_image=seven, steps=1, sampler_name="euler",
        scheduler="simple", cfg=1.0, **prompts)  # fmt: skip
    assert len(told) == 1 and "7 frames are sampled together" in told[0]
