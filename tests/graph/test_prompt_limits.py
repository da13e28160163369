"""Prompts that are too long or too deeply nested are refused before they are parsed."""

from __future__ import annotations

import time

import pytest
from videoldm.core.graph import InputSpec, NodeResult, NodeSpec, graph_from_api, validate
from videoldm.core.graph.prompt_limits import prompt_fault
from videoldm.core.graph.values import check
from videoldm.nodes.host.shared.prompt import tokens_of

PROMPT = InputSpec(name="text", type="STRING", kind="widget", dynamic_prompts=True)
LONG = "a cat, " * 70_000
DEEP = "(" * 101 + "cat" + ")" * 101


class Letters:
    """One token per letter."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

    def __call__(self, text: str, **more) -> dict[str, list[int]]:
        return {"input_ids": [3] * len(text)}


@pytest.mark.parametrize("prompt", [
    "", "cat", "x" * 20_000, "(" * 100 + "cat" + ")" * 100, r"\(" * 5000 + r"\)" * 5000,
    ")" * 10_000, "(cat) " * 3000,
], ids=range(7))  # fmt: skip
def test_prompts_within_the_limits(prompt):
    assert prompt_fault(prompt) is None and check(prompt, PROMPT) == prompt
    begun = time.process_time()
    tokens_of(prompt, Letters(), 77)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(("prompt", "message"), [
    (LONG, "is 490,000 characters long, at most 20,000 are read"),
    (DEEP, "is nested 101 parentheses deep, at most 100 are read"),
    ("(" * 10_000 + ")" * 10_000, "is nested 10000 parentheses deep, at most 100 are read"),
], ids=range(3))  # fmt: skip
def test_prompts_beyond_them_are_refused_by_every_reader(prompt, message):
    readers = (lambda: check(prompt, PROMPT), lambda: tokens_of(prompt, Letters(), 77))
    begun = time.process_time()
    for read in readers:
        with pytest.raises(ValueError, match=message):
            read()
    assert time.process_time() - begun < 2


def test_a_workflow_with_such_a_prompt_is_refused_before_it_runs():
    spec = NodeSpec(id="Prompt", inputs=(PROMPT,), is_output_node=True,
                    execute=lambda text: NodeResult())  # fmt: skip
    graph = graph_from_api({"4": {"class_type": "Prompt", "inputs": {"text": LONG}}})
    (problem,) = validate(graph, {"Prompt": spec})
    assert problem.message.startswith('node 4 (Prompt): input "text" is 490,000 characters long')
    assert len(problem.message) < 200


def test_a_lone_surrogate_is_named():
    with pytest.raises(ValueError, match=r"a lone surrogate, \\ud83d, at character 3"):
        check("a \ud83d", PROMPT)
