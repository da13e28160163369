"""Running graphs: order, lists, laziness, expansion, caching, freeing, blocking, errors."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest
from graph_toys import (
    NEXT,
    REGISTRY,
    api,
    full_api,
    out,
    registry,
    run,
    shown,
    socket,
    source,
    widget,
)
from videoldm.core.graph import (
    Blocked,
    Executor,
    Interrupted,
    InvalidWorkflow,
    NodeError,
    NodeResult,
    NodeSpec,
    apply_overrides,
    current_call,
    graph_from_api,
)


def test_every_needed_node_runs_once_and_after_what_it_needs() -> None:
    events = []
    result = run({**full_api(), **api(n9=("Int", {}))}, on_event=events.append)
    assert result.executed == ["1", "2", "3", "4", "5"]
    assert [e.kind for e in events] == ["node_start", "node_done"] * 5
    assert result.ui["5"]["images"][0][0] == "image"


def test_unchanged_nodes_are_not_run_twice_even_after_a_fully_cached_run() -> None:
    executor = Executor(REGISTRY)
    graph = graph_from_api(full_api())
    first = executor.run(graph)
    again = executor.run(graph)
    assert again.executed == [] and again.cached == ["5"] and again.ui == first.ui
    changed = executor.run(apply_overrides(graph, ["3.steps=9"], REGISTRY))
    assert changed.executed == ["3", "4", "5"] and set(changed.cached) == {"1", "2"}


def test_the_cache_keeps_only_what_the_last_run_stands_for() -> None:
    executor = Executor(REGISTRY)
    executor.run(graph_from_api(full_api()))
    executor.run(graph_from_api(api(n1=("Int", {"value": 1}), n2=("Any", {"value": ["1", 0]}))))
    assert len(executor.cache) == 2


def test_nodes_that_are_not_idempotent_run_again_and_so_does_what_is_behind_them() -> None:
    spec = source(lambda: NodeResult((1,)), not_idempotent=True)
    executor = Executor(registry(spec))
    graph = graph_from_api(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})))
    assert executor.run(graph).executed == executor.run(graph).executed == ["1", "2"]


@pytest.mark.parametrize(("marks", "expected"), [
    (["a", "a"], []), (["a", "b"], ["1", "2"]), ([float("nan")] * 2, ["1", "2"]),
])  # fmt: skip
def test_the_fingerprint_decides_whether_a_node_runs_again(marks, expected) -> None:
    given = iter(marks)
    spec = source(lambda: NodeResult((1,)), fingerprint_inputs=lambda: next(given))
    executor = Executor(registry(spec))
    graph = graph_from_api(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})))
    executor.run(graph)
    assert executor.run(graph).executed == expected


def test_without_cache_an_output_is_freed_after_its_last_consumer() -> None:
    class Big:
        pass

    alive = []

    def make() -> NodeResult:
        big = Big()
        alive.append(weakref.ref(big))
        return NodeResult((big,))

    def look(value) -> NodeResult:
        gc.collect()
        return NodeResult((alive[0]() is not None,))

    one = NodeSpec(id="Look", inputs=(socket("value", "*"),), outputs=(out("INT"),), execute=look)
    prompt = api(n1=("Source", {}), n2=("Look", {"value": ["1", 0]}),
                 n3=("Look", {"value": ["2", 0]}), n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    assert shown(prompt, source(make), one) == [False]


def test_lists_are_walked_in_step_and_the_shorter_repeats_its_last_value() -> None:
    many = NodeSpec(
        id="ManyInts",
        outputs=(out("INT", is_list=True),),
        inputs=(widget("n", "INT"),),
        execute=lambda n: NodeResult((range(n),)),
    )
    add = NodeSpec(
        id="Add",
        inputs=(socket("a", "INT"), socket("b", "INT")),
        outputs=(out("INT"),),
        execute=lambda a, b: NodeResult((10 * a + b,)),
    )
    whole = NodeSpec(
        id="Whole",
        is_input_list=True,
        inputs=(socket("items", "INT"),),
        outputs=(out("INT"),),
        execute=lambda items: NodeResult((list(items),)),
    )
    prompt = api(n1=("ManyInts", {"n": 4}), n2=("ManyInts", {"n": 2}),
                 n3=("Add", {"a": ["1", 0], "b": ["2", 0]}),
                 n4=("Whole", {"items": ["3", 0]}), n5=("Any", {"value": ["4", 0]}))  # fmt: skip
    assert shown(prompt, many, add, whole) == [[0, 11, 21, 31]]


def test_an_empty_list_means_that_nothing_behind_it_is_called() -> None:
    none = NodeSpec(id="None_", outputs=(out("INT", is_list=True),),
                    execute=lambda: NodeResult(([],)))  # fmt: skip
    assert shown(api(n1=("None_", {}), n2=("Any", {"value": ["1", 0]})), none) == []


SWITCH = NodeSpec(
    id="Switch", outputs=(out("INT"),),
    inputs=(widget("first", "BOOLEAN"), socket("a", "INT", lazy=True),
            socket("b", "INT", lazy=True)),
    check_lazy_status=lambda first, a, b: ["a"] if first else ["b"],
    execute=lambda first, a, b: NodeResult((a if first else b,)),
)  # fmt: skip


@pytest.mark.parametrize(("first", "value"), [(True, 1), (False, 2)])
def test_only_the_lazy_input_that_is_asked_for_runs(first, value) -> None:
    prompt = api(n1=("Int", {"value": 1}), n2=("Int", {"value": 2}),
                 n3=("Switch", {"first": first, "a": ["1", 0], "b": ["2", 0]}),
                 n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    result = run(prompt, SWITCH)
    assert result.ui["4"]["value"] == [value]
    assert result.executed == [str(value), "3", "4"]


def test_a_blocked_output_stops_what_is_behind_it_and_nothing_else() -> None:
    spec = source(lambda: NodeResult(block="nothing was found"))
    events = []
    prompt = api(n1=("Source", {}), n2=("Next", {"value": ["1", 0]}),
                 n3=("Any", {"value": ["2", 0]}), n4=("Int", {"value": 3}),
                 n5=("Any", {"value": ["4", 0]}))  # fmt: skip
    result = run(prompt, spec, NEXT, on_event=events.append)
    assert result.blocked == {"2": "nothing was found"}
    assert result.ui == {"5": {"value": [3]}}
    assert [e.text for e in events if e.kind == "blocked"] == ["nothing was found"]


def test_a_single_item_of_a_list_can_be_blocked() -> None:
    spec = NodeSpec(id="Source", outputs=(out("INT", is_list=True),),
                    execute=lambda: NodeResult(([1, Blocked(), 3],)))  # fmt: skip
    assert shown(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})), spec) == [1, 3]


def test_async_nodes_run_together_and_know_which_call_they_are() -> None:
    seen = []

    async def execute(value: int) -> NodeResult:
        seen.append(("start", value))
        await asyncio.sleep(0)
        seen.append(("end", current_call.get().index))
        return NodeResult((value * 2,))

    many = source(lambda: NodeResult(([1, 2],)))
    many = NodeSpec(id="Source", outputs=(out("INT", is_list=True),), execute=many.execute)
    slow = NodeSpec(id="Slow", inputs=(socket("value", "INT"),), outputs=(out("INT"),),
                    execute=execute)  # fmt: skip
    prompt = api(n1=("Source", {}), n2=("Slow", {"value": ["1", 0]}),
                 n3=("Any", {"value": ["2", 0]}))  # fmt: skip
    assert shown(prompt, many, slow) == [2, 4]
    assert seen == [("start", 1), ("start", 2), ("end", 0), ("end", 1)]

    async def inside_a_loop() -> list:
        return shown(prompt, many, slow)

    assert asyncio.run(inside_a_loop()) == [2, 4]


def test_progress_of_a_node_becomes_events() -> None:
    def execute() -> NodeResult:
        for step in range(3):
            current_call.get().progress(step + 1, 3)
        return NodeResult((0,))

    events = []
    prompt = api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]}))
    run(prompt, source(execute), on_event=events.append)
    assert [(e.value, e.total) for e in events if e.kind == "progress"] == [(1, 3), (2, 3), (3, 3)]


def test_interruption_takes_effect_inside_a_node_and_keeps_what_is_finished() -> None:
    stop = []

    def execute() -> NodeResult:
        stop.append(True)
        try:
            current_call.get().progress(1, 3)
        except Exception:  # A node that swallows errors must not swallow this.
            return NodeResult((0,))
        return NodeResult((0,))

    prompt = api(n1=("Int", {"value": 3}), n2=("Any", {"value": ["1", 0]}),
                 n3=("Source", {}), n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    with pytest.raises(Interrupted) as caught:
        run(prompt, source(execute), interrupted=lambda: bool(stop))
    assert caught.value.result.ui == {"2": {"value": [3]}}


def test_interruption_between_nodes() -> None:
    done = []
    with pytest.raises(Interrupted, match=r"before node 3 \(Sampler\)"):
        run(full_api(), on_event=done.append, interrupted=lambda: len(done) >= 4)


def test_an_error_in_a_node_is_one_sentence_and_finished_outputs_stay() -> None:
    def execute() -> NodeResult:
        raise ValueError("overlap 16 must be smaller than window 16\nand more")

    prompt = api(n1=("Int", {"value": 3}), n2=("Any", {"value": ["1", 0]}),
                 n3=("Source", {}), n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    prompt["3"]["_meta"] = {"title": "My Source"}
    with pytest.raises(NodeError) as caught:
        run(prompt, source(execute))
    assert str(caught.value) == (
        'node 3 "My Source" (Source): overlap 16 must be smaller than window 16'
    )
    assert caught.value.result.ui == {"2": {"value": [3]}}
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failed_run_does_not_lose_the_cache() -> None:
    fail = [True]

    def execute(value: int) -> NodeResult:
        if fail:
            raise RuntimeError("boom")
        return NodeResult((value,))

    bad = NodeSpec(id="Bad", inputs=(socket("value", "INT"),), outputs=(out("INT"),),
                   execute=execute)  # fmt: skip
    executor = Executor(registry(bad))
    prompt = api(n1=("Int", {"value": 3}), n2=("Bad", {"value": ["1", 0]}),
                 n3=("Any", {"value": ["2", 0]}))  # fmt: skip
    with pytest.raises(NodeError, match="RuntimeError: boom"):
        executor.run(graph_from_api(prompt))
    fail.clear()
    result = executor.run(graph_from_api(prompt))
    assert result.cached == ["1"] and result.executed == ["2", "3"]


@pytest.mark.parametrize(("given", "message"), [
    (NodeResult((1, 2)), "expected 1 outputs, the node returned 2"),
    ((1,), "TypeError: expected a NodeResult, the node returned tuple"),
])  # fmt: skip
def test_a_node_that_returns_the_wrong_thing_is_named(given, message) -> None:
    with pytest.raises(NodeError, match=message):
        run(api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]})), source(lambda: given))


def test_an_invalid_graph_does_not_start() -> None:
    ran = []
    spec = source(lambda: ran.append(1))
    prompt = api(n1=("Source", {}), n2=("Sampler", {"model": ["1", 0]}),
                 n3=("Any", {"value": ["2", 0]}))  # fmt: skip
    with pytest.raises(InvalidWorkflow, match='node 2 .*"seed" is missing'):
        run(prompt, spec)
    assert not ran


def test_dynamic_and_autogrow_inputs_arrive_as_dicts() -> None:
    video = {"images": ["1", 0], "codec": "h264", "codec.crf": "9", "codec.encoding": "slow",
             "codec.encoding.passes": 3, "fps": 4}  # fmt: skip
    got = {}
    save = NodeSpec(**{**REGISTRY["SaveVideo"].__dict__,
                       "execute": lambda **kw: got.update(kw) or NodeResult()})  # fmt: skip
    prompt = api(n1=("LoadImage", {"image": "a.png", "scale": 1}), n2=("SaveVideo", video),
                 n3=("Many", {"images.image0": ["1", 0], "images.image1": ["1", 0]}))  # fmt: skip
    result = run(prompt, save)
    assert got["codec"] == {"codec": "h264", "crf": 9,
                            "encoding": {"encoding": "slow", "passes": 3}}  # fmt: skip
    assert got["fps"] == 4.0 and isinstance(got["fps"], float)
    assert sorted(result.ui["3"]["images"][0]) == ["image0", "image1"]


def test_hidden_inputs_arrive_by_name() -> None:
    got = {}
    spec = source(lambda **kw: got.update(kw) or NodeResult((1,)),
                  hidden=("unique_id", "prompt", "extra_pnginfo", "dynprompt"))  # fmt: skip
    prompt = api(n1=("Source", {}), n2=("Any", {"value": ["1", 0]}))
    graph = graph_from_api(prompt, workflow={"nodes": []})
    Executor(registry(spec)).run(graph)
    assert got["unique_id"] == "1" and got["prompt"] == prompt
    assert got["extra_pnginfo"] == {"workflow": {"nodes": []}}
    assert got["dynprompt"].get_node("2") == prompt["2"]


def test_ctrl_c_inside_a_node_keeps_what_is_finished() -> None:
    def execute() -> NodeResult:
        raise KeyboardInterrupt

    prompt = api(n1=("Int", {"value": 3}), n2=("Any", {"value": ["1", 0]}),
                 n3=("Source", {}), n4=("Any", {"value": ["3", 0]}))  # fmt: skip
    with pytest.raises(Interrupted) as caught:
        run(prompt, source(execute))
    assert caught.value.result.ui == {"2": {"value": [3]}}


def test_several_targets_that_feed_each_other_keep_their_values() -> None:
    result = run(full_api(), targets=["3", "2", "1"])
    assert set(result.values) == {"1", "2", "3"} and result.executed == ["1", "2", "3"]
    with pytest.raises(InvalidWorkflow, match="no node 8 to run among the workflow's 5"):
        run(full_api(), targets=["8"])


def test_targets_run_only_what_they_need_and_give_their_values() -> None:
    result = run(full_api(), targets=["2"])
    assert result.executed == ["2"] and result.values == {"2": ([64],)}


def test_the_same_graph_twice_in_one_graph_runs_once() -> None:
    runs = []
    spec = NodeSpec(id="Source", inputs=(widget("n", "INT"),), outputs=(out("INT"),),
                    execute=lambda n: runs.append(n) or NodeResult((n,)))  # fmt: skip
    prompt = api(n1=("Source", {"n": 1}), n2=("Source", {"n": 1}), n3=("Any", {"value": ["1", 0]}),
                 n4=("Any", {"value": ["2", 0]}))  # fmt: skip
    Executor(registry(spec)).run(graph_from_api(prompt))
    assert runs == [1]


def test_a_chain_of_thousands_of_nodes_runs_in_a_moment() -> None:
    prompt = {str(i): {"class_type": "Number", "inputs": {"value": [str(i + 1), 0]}}
              for i in range(4000)}  # fmt: skip
    prompt["4000"] = {"class_type": "Int", "inputs": {"value": 7}}
    graph = graph_from_api(prompt)
    begun = time.process_time()
    assert Executor(REGISTRY).run(graph, targets=["0"]).values["0"] == ([7.0],)
    assert time.process_time() - begun < 4
