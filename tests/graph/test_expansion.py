"""Nodes that expand to others: order, caching, freeing, errors."""

from __future__ import annotations

import pytest
from graph_toys import (
    NEXT,
    api,
    out,
    registry,
    run,
    shown,
    socket,
    source,
    widget,
)
from videoldm.core.graph import (
    Executor,
    NodeError,
    NodeResult,
    NodeSpec,
    current_call,
    graph_from_api,
)


def expanding() -> NodeSpec:
    """Counts down by expanding to itself, as ComfyUI's loops do."""

    def execute(n: int) -> NodeResult:
        if n == 0:
            return NodeResult((100,))
        call = current_call.get()
        inner = f"{call.node_id}.{call.index}.again"
        graph = {
            inner: {"class_type": "Loop", "inputs": {"n": n - 1}},
            f"{inner}.add": {"class_type": "Next", "inputs": {"value": [inner, 0]}},
        }
        return NodeResult(([f"{inner}.add", 0],), expand=graph)

    return NodeSpec(id="Loop", inputs=(widget("n", "INT"),), outputs=(out("INT"),), execute=execute)


def test_expansion_runs_the_new_nodes_and_takes_their_outputs() -> None:
    prompt = api(n1=("Loop", {"n": 3}), n2=("Any", {"value": ["1", 0]}))
    assert shown(prompt, expanding(), NEXT) == [103]


def test_a_chain_of_hundreds_of_expanded_nodes_needs_no_recursion() -> None:
    def execute(n: int) -> NodeResult:
        graph = {"0": {"class_type": "Int", "inputs": {"value": 0}}}
        for i in range(n):
            graph[str(i + 1)] = {"class_type": "Next", "inputs": {"value": [str(i), 0]}}
        return NodeResult(([str(n), 0],), expand=graph)

    chain = NodeSpec(id="Chain", inputs=(widget("n", "INT"),), outputs=(out("INT"),),
                     execute=execute)  # fmt: skip
    prompt = api(n1=("Chain", {"n": 1500}), n2=("Any", {"value": ["1", 0]}))
    # The ids collide with the prompt's own and are renamed.
    assert shown(prompt, chain, NEXT) == [1500]
    executor = Executor(registry(chain, NEXT))
    assert executor.run(graph_from_api(prompt)).ui["2"]["value"] == [1500]


def test_expanded_nodes_are_cached_one_by_one() -> None:
    runs = []

    def segment(n: int) -> NodeResult:
        runs.append(n)
        return NodeResult((n,))

    def execute(count: int) -> NodeResult:
        graph = {f"s{i}": {"class_type": "Segment", "inputs": {"n": i}} for i in range(count)}
        for i in range(count):
            graph[f"show{i}"] = {"class_type": "Any", "inputs": {"value": [f"s{i}", 0]}}
        return NodeResult((count,), expand=graph)

    one = NodeSpec(id="Segment", inputs=(widget("n", "INT"),), outputs=(out("INT"),),
                   execute=segment)  # fmt: skip
    movie = NodeSpec(id="Movie", inputs=(widget("count", "INT"),), outputs=(out("INT"),),
                     execute=execute)  # fmt: skip
    executor = Executor(registry(one, movie))
    for count in (2, 2, 3):
        prompt = api(n1=("Movie", {"count": count}), n2=("Any", {"value": ["1", 0]}))
        executor.run(graph_from_api(prompt))
    assert runs == [0, 1, 2]


def test_an_expansion_to_an_unknown_type_names_both_nodes() -> None:
    bad = source(lambda: NodeResult((["x", 0],), expand={"x": {"class_type": "Nope"}}))
    with pytest.raises(NodeError, match=r"node 1 \(Source\): it expands to node x \(Nope\)"):
        run(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})), bad)


def test_a_cycle_that_an_expansion_makes_is_named() -> None:
    graph = {"x": {"class_type": "Next", "inputs": {"value": ["y", 0]}},
             "y": {"class_type": "Next", "inputs": {"value": ["x", 0]}}}  # fmt: skip
    bad = source(lambda: NodeResult((["x", 0],), expand=graph))
    with pytest.raises(NodeError, match=r"cycle: node [xy] .* -> node [xy] .* -> node [xy]"):
        run(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})), bad, NEXT)


def test_an_expansion_may_use_an_output_that_was_freed_already() -> None:
    def execute(value) -> NodeResult:
        # Node 1 is two steps up and not an input of this node.
        return NodeResult((["x", 0],), expand={
            "x": {"class_type": "Next", "inputs": {"value": ["1", 0]}}})  # fmt: skip

    late = NodeSpec(id="Late", inputs=(socket("value", "INT"),), outputs=(out("INT"),),
                    execute=execute)  # fmt: skip
    prompt = api(n0=("Int", {"value": 4}), n1=("Next", {"value": ["0", 0]}),
                 n2=("Next", {"value": ["1", 0]}), n3=("Late", {"value": ["2", 0]}),
                 n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    assert shown(prompt, late, NEXT) == [6]


def test_what_expanded_nodes_show_is_there_again_from_the_cache() -> None:
    graph = {"i": {"class_type": "Int", "inputs": {"value": 1}},
             "show": {"class_type": "Any", "inputs": {"value": ["i", 0]}}}  # fmt: skip
    spec = source(lambda: NodeResult((["i", 0],), expand=graph))
    prompt = graph_from_api(api(n1=("Source", {}), n2=("Next", {"value": ["1", 0]}),
                                n3=("Any", {"value": ["2", 0]})))  # fmt: skip
    specs = registry(spec, NEXT)
    executor = Executor(specs)
    assert executor.run(prompt).ui["show"] == {"value": [1]}
    other = graph_from_api(api(n1=("Source", {}), n3=("Any", {"value": ["1", 0]})))
    again = executor.run(other)
    assert again.cached == ["1"] and again.ui["show"] == {"value": [1]}
