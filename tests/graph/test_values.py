"""Values in the spelling of other systems and years, and how values are written in messages."""

from __future__ import annotations

import time

import pytest
from graph_toys import REGISTRY, widget
from videoldm.core.graph import (
    InputSpec,
    Node,
    NodeSpec,
    WorkflowError,
    apply_overrides,
    apply_seed,
    graph_from_api,
    parse_workflow,
    validate,
)
from videoldm.core.graph.messages import printable, shown, written
from videoldm.core.graph.schema import describe, did_you_mean
from videoldm.core.graph.values import check, coerce, parse

FILES = widget("model", "COMBO", options=("a.pt", "sd/x.pt", "sd/1/y.pt", "odd\\z.pt", "odd/z.pt"))


@pytest.mark.parametrize(("saved", "meant"), [
    ("sd\\x.pt", "sd/x.pt"), ("sd\\1\\y.pt", "sd/1/y.pt"), ("sd/1\\y.pt", "sd/1/y.pt"),
    ("odd\\z.pt", "odd\\z.pt"), ("odd/z.pt", "odd/z.pt"), ("a.pt", "a.pt"),
])  # fmt: skip
def test_only_the_slash_differs(saved, meant) -> None:
    assert check(saved, FILES) == coerce(saved, FILES) == parse(saved, FILES) == meant


def test_slashes_of_windows_among_the_choices() -> None:
    windows = widget("model", "COMBO", options=("sd\\x.pt",))
    assert check("sd/x.pt", windows) == "sd\\x.pt"


@pytest.mark.parametrize("saved", ["sd\\X.pt", "sd\\\\x.pt", "\\a.pt", "sd\\x", ["sd\\x.pt"]])
def test_other_names_are_not_guessed(saved) -> None:
    with pytest.raises(ValueError, match="expected one of a.pt"):
        check(saved, FILES)


def test_several_choices_each_in_its_spelling() -> None:
    many = InputSpec(name="models", type="COMBO", options=FILES.options, multiselect=True)
    assert check(["sd\\x.pt", "a.pt"], many) == ["sd/x.pt", "a.pt"]


@pytest.mark.parametrize("workflow", [
    {"1": {"class_type": "Files", "inputs": {"model": "sd\\x.pt"}}},
    {"nodes": [{"id": 1, "type": "Files", "widgets_values": ["sd\\x.pt"]}], "links": []},
])  # fmt: skip
def test_a_loaded_workflow_has_the_choice(workflow) -> None:
    registry = {"Files": NodeSpec(id="Files", inputs=(FILES,))}
    assert parse_workflow(workflow, registry).nodes["1"].inputs == {"model": "sd/x.pt"}


# Values that no range admits.


STRANGE = {
    "huge": 10**400, "negative": -(10**400), "unprintable": 10**5000, "inf": float("inf"),
    "nan": float("nan"), "null": None, "true": True, "list": [], "nested": [[]], "object": {},
    "field": {"a": 1}, "": "", "long": "x" * 500_000, "escape": "\x1b[31m", "digits": "9" * 5000,
    "1e999": "1e999", "surrogate": "\ud800", "lists": [["a"] * 1000] * 1000,
}  # fmt: skip
# MASK has no widget; only the range of numbers is checked.
ADMITTED = {
    "INT": set(), "FLOAT": set(), "BOOLEAN": {"true"}, "COMBO": set(),
    "STRING": {"huge", "negative", "inf", "nan", "true", "", "long", "escape", "digits", "1e999"},
    "MASK": STRANGE.keys() - {"huge", "negative", "unprintable", "inf"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ADMITTED)
@pytest.mark.parametrize("name", STRANGE)
def test_any_value_is_right_or_refused_in_one_short_sentence(kind, name) -> None:
    options = ("a", "b") if kind == "COMBO" else None
    spec = widget("x", kind, minimum=0, maximum=100, options=options)
    if name in ADMITTED[kind]:
        right = {"BOOLEAN": bool, "STRING": str}.get(kind, object)
        assert isinstance(check(STRANGE[name], spec), right)
        return
    with pytest.raises(ValueError, match="^expected ") as caught:
        check(STRANGE[name], spec)
    message = str(caught.value)
    assert len(message) < 250 and message.isprintable() and not message.endswith((":", ": "))


@pytest.mark.parametrize("setting", [
    f"3.steps={'9' * 5000}", f"3.cfg={'9' * 400}", "3.cfg=1e999", "3.steps=" + "[" * 100_000,
    f"3.{'x' * 10_000}=1", f"{'y' * 10_000}.steps=1", "3.steps=\x1b[31m\n", "3.\x07=1", "=", ".=",
    "", "3.sampler=" + "z" * 10_000, "3.model=x", "\ud800.x=1",
], ids=range(14))  # fmt: skip
def test_any_setting_is_refused_in_one_short_sentence(setting) -> None:
    graph = graph_from_api({"3": {"class_type": "Sampler", "inputs": {}}})
    with pytest.raises(WorkflowError) as caught:
        apply_overrides(graph, [setting], REGISTRY)
    message = str(caught.value)
    assert len(message) < 500 and message.isprintable()


def test_a_seed_of_any_length() -> None:
    graph = graph_from_api({"3": {"class_type": "Sampler", "inputs": {}}})
    for seed in (10**400, -1, 10**5000):
        with pytest.raises(WorkflowError, match='input "seed" expected 0 to 4294967295, given'):
            apply_seed(graph, seed, REGISTRY)
    with pytest.raises(WorkflowError, match="seed a number of about 5001 digits cannot be set"):
        apply_seed(graph_from_api({"1": {"class_type": "Empty", "inputs": {}}}), 10**5000, REGISTRY)


# Messages.


@pytest.mark.parametrize(("text", "seen"), [
    ("a\x1b[31mb\n", r"a\x1b[31mb\n"), ("\u202eevil", r"\u202eevil"), ("\ud800", r"\ud800"),
    ("Läufer 跑\u3000", "Läufer 跑\u3000"), ("\x00\x7f\x85", r"\x00\x7f\x85"),
])  # fmt: skip
def test_what_a_terminal_would_obey_is_shown_as_escapes(text, seen) -> None:
    assert printable(text) == shown(text) == seen


def test_names_and_titles_are_shortened_to_80_characters() -> None:
    assert shown("a" * 80) == "a" * 80 and shown("a" * 81) == "a" * 77 + "..."
    assert len(shown("\x00" * 1000)) == 80 and len(written("\x00" * 1000)) == 80
    node = Node("i" * 100, "K" * 500, {}, "t\n" * 500)
    assert len(describe(node)) < 270 and describe(node).isprintable()
    assert did_you_mean("x" * 500_000, ["x" * 499_999, "y"]) == ""


def test_every_name_in_a_problem_is_shortened_and_printable() -> None:
    bad = "\x1b" + "n" * 100_000
    prompt = {
        bad: {"class_type": "Sampler", "_meta": {"title": bad},
              "inputs": {bad: 1, "steps": bad, "model": [bad + "x", 0], "latent": ["2", 9]}},
        "2": {"class_type": "Empty", "inputs": {"width": bad}}, "4": {"class_type": bad},
        "5": {"class_type": "Decode", "inputs": {"latent": ["5", 0]}},
    }  # fmt: skip
    problems = validate(graph_from_api(prompt), REGISTRY, [bad, "2", "5", bad + "y"])
    codes = {problem.code for problem in problems}
    assert codes >= {"unknown_node", "missing_node", "unknown_input", "bad_value", "cycle"}
    assert all(len(p.message) < 700 and p.message.isprintable() for p in problems)


def test_thousands_of_problems_take_no_time() -> None:
    begun = time.process_time()
    names = [f"Samplr{i}" for i in range(5000)]
    prompt = {str(i): {"class_type": name, "inputs": {}} for i, name in enumerate(names)}
    assert len(validate(graph_from_api(prompt), REGISTRY)) == 5000
    ring = {str(i): {"class_type": "Number", "inputs": {"value": [str((i + 1) % 5000), 0]}}
            for i in range(5000)}  # fmt: skip
    (cycle,) = validate(graph_from_api(ring), REGISTRY, ["0"])
    assert cycle.code == "cycle" and len(cycle.message) < 500 and "4993 more" in cycle.message
    assert time.process_time() - begun < 2


def test_a_node_that_checks_an_input_itself_still_gets_its_type() -> None:
    inputs = widget("prefix", "STRING"), widget("size", "INT", maximum=3)
    spec = NodeSpec(id="Own", is_output_node=True, inputs=inputs,
                    validate_inputs=lambda prefix, size: True)  # fmt: skip
    for value, count in (("a", 0), ("\ud800", 1), (None, 1)):
        given = {"1": {"class_type": "Own", "inputs": {"prefix": value, "size": 9}}}
        assert len(validate(graph_from_api(given), {"Own": spec})) == count
    wrong = {"1": {"class_type": "Own", "inputs": {"prefix": "a", "size": "x"}}}
    (problem,) = validate(graph_from_api(wrong), {"Own": spec})
    assert problem.message == 'node 1 (Own): input "size" expected a whole number, given "x"'
