"""Metadata of saved files is strict JSON, without NaN or infinity."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

from videoldm.nodes.host.shared.metadata import metadata_texts, workflow_texts
from videoldm.nodes.host.standalone.host import StandaloneHost

PROMPT = {"1": {"inputs": {"cfg": math.nan, "sizes": [1, math.inf]}, "is_changed": [math.nan]}}
PLAIN = {"1": {"inputs": {"cfg": None, "sizes": [1, None]}, "is_changed": [None]}}


def strict(text: str):
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_have_become_null():
    hidden = SimpleNamespace(prompt=PROMPT, extra_pnginfo={"workflow": {"nodes": [math.nan]}})
    texts = workflow_texts(hidden)
    assert strict(texts["prompt"]) == PLAIN and strict(texts["workflow"]) == {"nodes": [None]}
    assert texts == StandaloneHost().metadata(hidden)
    assert math.isnan(PROMPT["1"]["inputs"]["cfg"])  # The running prompt is not changed.
    assert workflow_texts(SimpleNamespace(prompt=None, extra_pnginfo=None)) == {}


def test_only_what_is_no_text_becomes_json():
    assert metadata_texts({"a": "NaN", "b": math.nan, "c": {"d": (1, "x")}}) == {
        "a": "NaN", "b": "null", "c": '{"d": [1, "x"]}'
    }  # fmt: skip
    assert metadata_texts(None) == {}
