"""Invalid values among a node's own inputs are found before anything runs."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys

import pytest
from node_inputs import strategy
from videoldm.core.graph import graph_from_api, validate
from videoldm.nodes import NODES, checks, node_registry

LINK = ["1", 0]
PUBLISHED = "as published"
SAMPLER = {"model": LINK, "positive": LINK, "negative": LINK}
BETWEEN = {"model": LINK, "positive": LINK, "negative": LINK, "latent": LINK}
LARGER = {"model": LINK, "positive": LINK, "negative": LINK, "images": LINK}
REGISTRY = node_registry()

WRONG = [
    ("VideoSampler", {**SAMPLER, **strategy("sliding windows", overlap=16)},
     "overlap 16 must be smaller than window 16"),
    ("VideoSampler", {**SAMPLER, **strategy("prediction", context_frames=16)},
     "context_frames 16 must be smaller than window 16"),
    ("VideoSampler", {**SAMPLER, **strategy("hierarchical")},
     'input "strategy.interpolation_model" is missing, expected a wire of type MODEL'),
    ("VideoSampler", {**SAMPLER, **strategy("video to video")},
     'input "strategy.latent" is missing, expected a wire of type LATENT'),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first"), "context": LINK},
     "strategy sparse first takes no context frames: disconnect context, or choose one of"),
    ("VideoSampler", {**SAMPLER, **strategy("video to video", latent=LINK), "schedule": PUBLISHED},
     'schedule "as published" starts from pure noise, but denoise is 0.5'),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first"), "schedule": PUBLISHED},
     'schedule "as published" starts from pure noise, but fill_denoise is 0.25'),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first", first_frames=17)},
     "first_frames 17 must not exceed frames 16"),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first", first_frames=1)},
     'input "strategy.first_frames" expected 2 to 64, given 1'),
    ("VideoSampler", {**SAMPLER, **strategy("prediction", first_segment="sparse first", window=3)},
     "first_frames 4 must not exceed window 3"),
    ("VideoSampler", {**SAMPLER, **strategy("prediction"), "strategy.denoise": 0.5},
     'input "strategy.denoise" does not exist'),
    ("VideoSampler", {**SAMPLER, "context": LINK, "frames": 1}, "leaves nothing to sample"),
    ("VideoSampler", {**SAMPLER, **strategy(context_positions="0, x"), "context": LINK},
     'the frame "x" must be a whole number'),
    ("VideoSampler", {**SAMPLER, **strategy(context_positions="0, 16"), "context": LINK},
     "frame 16 does not lie in a video of 16 frames"),
    ("VideoSampler", {**SAMPLER, **strategy(context_positions="15, -1"), "context": LINK},
     "frame 15 is named twice"),
    ("VideoSampler", {**SAMPLER, **strategy("sliding windows", context_positions="0, 8")},
     "names the frames 0, 8, but context is not connected"),
    ("VideoSampler", {**SAMPLER, **strategy("video to video", latent=LINK,
                                            windows="sliding windows", windows__overlap=16)},
     "overlap 16 must be smaller than window 16"),
    ("VideoSampler", {**SAMPLER, "frames": 0}, 'input "frames" expected 1 to 100000, given 0'),
    ("VideoSampler", {**SAMPLER, "strategy": "fast"}, 'input "strategy" expected one of single'),
    ("InterpolateFrames", {**BETWEEN, "window_keys": 1}, "window_keys 1 leaves nothing"),
    ("InterpolateFrames", {**BETWEEN, "denoise": 0.3, "schedule": "as published"}, "0.3"),
    ("UpsampleVideo", {**LARGER, "overlap": 20}, "overlap 20 must be smaller than chunk 16"),
    ("UpsampleVideo", {**LARGER, "tile": 8, "tile_overlap": 8}, "tile_overlap 8 .* tile 8"),
    ("UpsampleVideo", {**LARGER, "borders": "independent", "same_noise": True}, "same_noise needs"),
    ("SaveVideo", {}, "exactly 1 of the inputs video and images is needed, got none"),
    ("SaveVideo", {"video": LINK, "images": LINK}, "got both"),
    ("PreviewVideo", {}, "got none"),
    ("LongHorizonSegments", {"clip": LINK, "segments": "[{"}, "must be a JSON list"),
    ("LongHorizonSegments", {"clip": LINK, "segments": '[{"prompt": "a", "frames": 0}]'},
     "segment 1 must have 1 to 100000 frames, not 0"),
    ("BoundingBoxes", {"clip": LINK, "boxes": "7"}, "must be a JSON list"),
    ("InjectTemporalLayers", {"model": LINK, "layers": LINK, "sites": "left.0=1"}, "not a site"),
    ("InjectTemporalLayers", {"model": LINK, "layers": LINK, "sites": "mid=inf"}, "written as in"),
]  # fmt: skip
RIGHT = [
    ("VideoSampler", SAMPLER),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first")}),
    ("VideoSampler", {**SAMPLER, **strategy("video to video", latent=LINK), "frames": 1}),
    ("VideoSampler", {**SAMPLER, **strategy("video to video", latent=LINK, denoise=LINK),
                      "schedule": PUBLISHED}),
    ("VideoSampler", {**SAMPLER, **strategy("hierarchical", interpolation_model=LINK)}),
    ("VideoSampler", {**SAMPLER, **strategy("sliding windows", overlap=LINK, window=2)}),
    ("VideoSampler", {**SAMPLER, **strategy("sparse first", first_frames=40), "frames": LINK}),
    ("VideoSampler", {**SAMPLER, **strategy("single clip", context_frames=40)}),
    ("InterpolateFrames", {**BETWEEN, "window_keys": 2}),
    ("UpsampleVideo", {**LARGER, "tile_overlap": 100}),
    ("UpsampleVideo", {**LARGER, "tile": 64, "same_noise": True}),
    ("SaveVideo", {"video": LINK}), ("PreviewVideo", {"images": LINK}),
    ("LongHorizonSegments", {"clip": LINK, "segments": LINK}),
    ("InjectTemporalLayers", {"model": LINK, "layers": LINK, "sites": "mid=0, down.0 = 0.5"}),
]  # fmt: skip


def node(kind: str, inputs: dict) -> dict:
    """A node in API format; inputs that are left out have their defaults."""
    spec = REGISTRY[f"VideoLDM_{kind}"]
    initial = {name: one.initial() for name, one in spec.live_inputs(inputs).items()
               if one.kind == "widget" and one.required}  # fmt: skip
    return {"class_type": spec.id, "inputs": {**initial, **inputs}}


def problems(kind: str, inputs: dict) -> list:
    """The problems found in one node; its wires may come from anywhere."""
    graph = graph_from_api({"1": {"class_type": "Toy", "inputs": {}}, "2": node(kind, inputs)})
    found = validate(graph, REGISTRY, targets=["2"])
    return [one for one in found if one.node_id == "2"]


def name(one) -> str:
    return one if isinstance(one, str) else json.dumps(one)[-60:]


@pytest.mark.parametrize(("kind", "inputs", "words"), WRONG, ids=name)
def test_one_sentence_is_found_by_validating(kind, inputs, words):
    (problem,) = problems(kind, inputs)
    assert re.search(words, problem.message), problem.message
    assert problem.message.startswith("node 2 (VideoLDM_") and "\n" not in problem.message


@pytest.mark.parametrize(("kind", "inputs"), RIGHT, ids=name)
def test_what_is_right_or_not_known_yet_is_let_through(kind, inputs):
    assert problems(kind, inputs) == []


CHECKED = [cls for cls in NODES if cls.validate_inputs]


@pytest.mark.parametrize("cls", CHECKED, ids=lambda cls: cls.__name__)
def test_only_inputs_that_there_are_can_be_validated(cls):
    """ComfyUI passes only the inputs that the signature names, and skips its own range check for
    them."""
    own = inspect.signature(cls.validate_inputs).parameters
    named = {name for name, one in own.items() if one.kind is not one.VAR_KEYWORD}
    assert named <= {one.id for one in cls.define_schema().inputs}
    assert {own[name].default for name in named} <= {checks.ABSENT, None}


def test_validating_loads_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from videoldm.nodes import NODES, checks\n"
        "print(*(cls.validate_inputs() for cls in NODES if cls.validate_inputs), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verdicts = done.stdout.strip().split("|")
    assert "True" in verdicts and sum("got none" in one for one in verdicts) == 2


TEXTS = [
    ("segments", "[" * 5000, "plain objects"), ("segments", "1" * 5000, "plain objects"),
    ("segments", '[{"prompt": "a", "frames": Infinity}]', "a whole number, got Infinity"),
    ("segments", '[{"prompt": "a", "frames": NaN}]', "a whole number, got NaN"),
    ("segments", '[{"prompt": "a", "frames": 1e400}]', "a whole number"),
    ("segments", '[{"prompt": "a", "frames": 1000000000000}]', "1 to 100000 frames"),
    ("segments", '[{"prompt": "a", "frames": 4}, {"prompt": "b", "frames": 9, "overlap": 4}]',
     "segment 2: overlap 4 must be from 0 to less than the 4 frames"),
    ("segments", json.dumps([{"prompt": "a" * 9000}]), "lacks the entry frames"),
    ("segments", json.dumps(["b" * 9000]), "segment 1 must be an object"),
    ("boxes", '[{"label": "a", "x0": ' + "1" * 400 + ', "y0": 0, "x1": 1, "y1": 1}]', "a number"),
    ("boxes", '[{"label": "a", "x0": 0.6, "y0": 0, "x1": 0.5, "y1": 1}]', "box 1: the corners"),
    ("sites", "mid=1e999", "written as in"), ("sites", "x" * 9000, "written as in"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "words"), TEXTS, ids=lambda one: str(one)[:40])
def test_texts_that_cannot_be_read_are_one_short_sentence(what, text, words):
    from videoldm.nodes.stages import texts

    with pytest.raises(ValueError, match=words) as caught:
        getattr(texts, f"read_{what}")(text)
    assert len(str(caught.value)) < 260 and "\n" not in str(caught.value)
