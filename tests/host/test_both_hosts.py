"""Both hosts give the same numbers and messages for every case of one table."""

from __future__ import annotations

import pytest
import torch
from comfyui_server import missing
from host_bench import LAYERS, in_standalone, write_models
from host_cases import CASES, NUMBERS, OTHERS, REFUSED
from inside_process import ran_inside
from videoldm.core.families.embedded import included

SAME = 1e-4
"""Relative to the standard deviation: the hosts' U-Nets sum in different orders."""


@pytest.fixture(scope="module")
def answers(toy_family, tmp_path_factory):
    """The answers (in the standalone host, in ComfyUI) by case."""
    if missing() is not None:
        pytest.skip(missing())
    folder = tmp_path_factory.mktemp("hosts")
    write_models(folder, toy_family)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(included, "WEIGHTS", included.WEIGHTS)
        here = in_standalone(folder)
    answer = folder / "answer.pt"
    ran_inside("host_bench.py", folder, answer)
    there = torch.load(answer, weights_only=True)
    assert here.keys() == there.keys() == CASES.keys()
    return {name: (here[name], there[name]) for name in CASES}


def differences(here, there, where: str = "answer") -> list[str]:
    """A line for each place where two answers differ, with both values."""
    if isinstance(here, torch.Tensor) and isinstance(there, torch.Tensor):
        if here.shape != there.shape:
            return [f"{where}: shapes {list(here.shape)} and {list(there.shape)}"]
        apart = float((here.float() - there.float()).abs().max() / here.float().std())
        return [] if apart <= SAME else [f"{where}: {apart:.1e} of the spread apart"]
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        return [one for key in here for one in differences(here[key], there[key], key)]
    return [] if here == there else [f"{where}: {here!r} and {there!r}"]


@pytest.mark.parametrize("name", CASES)
def test_both_hosts_answer_alike(answers, name):
    here, there = answers[name]
    failed = [one for one in (here, there) if isinstance(one, str) and "Error: " in one]
    assert failed == [] and differences(here, there) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_one_sentence(answers, name):
    for said in answers[name]:
        assert said != "not refused" and "\n" not in said


@pytest.mark.parametrize("name", [name for name in NUMBERS if ", off " in name])
def test_a_set_at_strength_zero_is_the_image_model_to_the_bit(answers, name):
    for found in answers[name]:
        assert found["equal"] and found["levels"] and found["ejected"]


def test_cases_differ_from_each_other(answers):
    """Otherwise layers without effect, or facts of a single model, would agree as well."""
    plain = answers["the image model"][0]
    for name in ("guided", "half strength", "two sets", "frame rate", "given frames in place"):
        assert differences(answers[name][0], plain), name
    assert differences(answers["frame rate"][0], answers["times"][0])
    names = ("an image model", "text to video", "prediction", "two sets", "an upsampler", *LAYERS)
    facts = [answers[f"facts of {name}"][0] for name in names]
    for k, one in enumerate(facts):
        assert all(differences(one, other) for other in facts[:k]), names[k]


def test_warnings_and_files_are_there(answers):
    told = {name: answers[name][0] for name in OTHERS}
    assert "4 frames are sampled together" in told["warnings of too long a clip"][0]
    assert "interpolation" in told["warnings of another task"][0]
    assert told["no warnings of a short one"] == told["warnings of an image model"] == []
    assert told["no warnings of what is switched off"] == []
    assert told["no warnings of the layers' own"] == []
    suits = "distilled to at most 8 steps of the sampler lcm at cfg 2 or less, but "
    (both,), (cfg,) = (told[f"warnings of a {what}"] for what in ("sampler and a cfg", "cfg"))
    assert f"{suits}sampler_name is dpmpp_2m and cfg is 7" in both and f"{suits}cfg is 7" in cfg
    ((words,), (label,)) = told["warnings of words"], told["warnings of a label"]
    assert words.startswith(
        'the model has never seen the words "grey" (nearest: "gray"), "2", "elephants" and "and": '
        "it was trained with 5 words"
    )
    assert 'the word "truck": ' in label
    for which in ("words", "the empty prompt", "any words"):
        assert told[f"no warnings of {which}"] == []
    assert set(told["metadata"]["both"]) == {"prompt", "workflow"}
    assert told["metadata"]["none"] == told["metadata"]["unwanted"] == {}
