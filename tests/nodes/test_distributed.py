"""Chunks made by other processes: what is sent, in which order chunks arrive, and progress."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_toys import Denoisers, normal, toy_sampling, whole
from videoldm.core.families.embedded import included
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.interpolation import Interpolation, interpolate
from videoldm.nodes.headless import main
from videoldm.nodes.host.standalone.host import host

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
pytest.importorskip("ray", reason="Ray is not installed: pip install videoldm[ray]")

from videoldm.nodes.host.distributed import cluster  # noqa: E402
from videoldm.nodes.host.distributed.pool import Pool  # noqa: E402
from videoldm.nodes.host.distributed.turns import Turns, ahead, priority  # noqa: E402
from videoldm.nodes.host.distributed.weights import (  # noqa: E402
    aligned_copy,
    pack_module,
    unpack_module,
)
from videoldm.nodes.host.distributed.worker import Setup, Worker  # noqa: E402

from tests.kill.flows import flows  # noqa: E402
from tests.kill.running import prepare_toys  # noqa: E402


class Ref:
    def __init__(self, future: Future):
        self.future = lambda: future


class Remote:
    """A method that runs in a thread and is called like a method of a Ray actor."""

    def __init__(self, executor, method):
        self.executor, self.method = executor, method

    def remote(self, *args):
        return Ref(self.executor.submit(self.method, *args))


class Actor:
    """A worker that runs in threads of this process."""

    def __init__(self):
        import videoldm

        setup = Setup(version=videoldm.__version__, torch=torch.__version__,
                      threads=torch.get_num_threads())  # fmt: skip
        self.worker, own = Worker(setup, lambda shared: shared), ThreadPoolExecutor(1)
        self.ready, self.make = (Remote(own, getattr(self.worker, n)) for n in ("ready", "make"))
        self.poll = Remote(ThreadPoolExecutor(1), self.worker.poll)


@pytest.fixture
def pool(monkeypatch):
    """Two workers in this process, which `--ray` uses instead of a cluster."""
    made = Pool([Actor(), Actor()], lambda module: module)

    @contextmanager
    def joined(*args):
        host.workers = made
        yield made
        host.workers = None

    monkeypatch.setattr(cluster, "joined", joined)
    yield made
    made.close()


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return prepare_toys(tmp_path_factory.mktemp("distributed") / "toys")


@pytest.fixture
def run(toys, tmp_path, monkeypatch):
    """run(name, folder, *options) -> the videos of a workflow of the toy family, in order."""
    monkeypatch.setattr(included, "WEIGHTS", toys)

    def call(name: str, folder: str, *options: str) -> list[bytes]:
        file, output = tmp_path / "flow.json", tmp_path / folder
        file.write_text(json.dumps(flows()[name]))
        command = ["run", str(file), "--device", "cpu", "--output", str(output), *options]
        assert main(command) == 0
        return [path.read_bytes() for path in sorted(output.glob("*.mp4"))]

    return call


# ---------------------------------------------------------------------------------------- weights


def test_a_copy_of_weights_begins_where_they_began():
    for start in (0, 4, 40):
        for x in (
            normal(5, 7),
            normal(4, 6).T,
            normal(2, 3, 4, 4).to(memory_format=torch.channels_last),
        ):
            copy = aligned_copy(x, start)
            assert torch.equal(copy, x) and copy.stride() == x.stride()
            assert copy.data_ptr() % 64 == start


def test_modules_arrive_with_the_places_of_their_weights():
    module = torch.nn.Linear(8, 8)
    module.weight.data = aligned_copy(module.weight.data, 20)
    found = unpack_module(pack_module(module))
    assert torch.equal(found.weight, module.weight)
    assert found.weight.data_ptr() % 64 == 20 and found.bias.data_ptr() % 64 == 0


# ------------------------------------------------------------------------------------------ turns


def in_turns(begun, most=3):
    turns = Turns()
    turns.take()
    return turns, ahead(begun, most, turns, lambda: None)


def test_items_come_in_order_and_no_more_are_begun_than_may_be():
    begun = []

    def begin():
        for number in range(10):
            begun.append(number)
            yield number

    turns, items = in_turns(begin())
    assert next(items) == 0
    for _ in range(20):
        with turns.others():
            time.sleep(0.001)
    assert 3 <= len(begun) <= 5
    assert list(items) == list(range(1, 10))


def test_an_error_comes_behind_what_was_begun_before_it():
    def begin():
        yield 1
        raise ValueError("no more")

    _, items = in_turns(begin())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_a_thread_ends_when_nobody_reads_any_more():
    before = threading.active_count()
    turns, items = in_turns(iter(range(100)))
    next(items)
    items.close()
    turns.give()
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before


# ------------------------------------------------------------------------------------------ chunks


def test_windows_that_others_make_are_those_that_are_made_here(pool, tmp_path):
    keys, told = normal(1, 13, 4, 3, 5), []
    how = Interpolation(window_keys=3, passes=2)
    expected = whole(interpolate(Denoisers(), keys, toy_sampling(), settings=how))
    run = ChunkStore(tmp_path, 1e9, told.append).run("run", {}, workers=pool)
    sampling = replace(toy_sampling(), finished=run)
    made = whole(interpolate(Denoisers(), keys, sampling, settings=how))
    assert torch.equal(made, expected) and (run.made, run.reused) == (6 + 24, 0)
    again = ChunkStore(tmp_path, 1e9, told.append).run("run", {}, workers=pool)
    sampling = replace(toy_sampling(), finished=again)
    assert torch.equal(whole(interpolate(Denoisers(), keys, sampling, settings=how)), expected)
    assert (again.made, again.reused, told) == (0, 30, [])


def test_stages_keep_to_the_workers_that_have_their_weights(pool):
    """Chunks of two stages run one at a time, as when the stages wait for each other."""
    keys, pixels = torch.nn.Linear(2, 2), torch.nn.Linear(3, 3)

    while len(pool.ready) < 2:
        time.sleep(0.01)
    for one in (keys, pixels, pixels, keys, keys, pixels):
        pool.begin(lambda one=one: {"chunk": one(torch.ones(one.in_features))}, None)()
    held = sorted(list(map(str, actor.worker.modules.values())) for actor in pool.actors)
    assert held == sorted([[str(keys)], [str(pixels)]])


def test_a_worker_holds_what_its_chunks_took_and_lets_go_of_what_is_gone(pool):
    """A worker holds no weights before its first chunk, nor any that the command has released."""
    while len(pool.ready) < 2:
        time.sleep(0.01)
    held = [actor.worker.modules for actor in pool.actors]
    assert held == [{}, {}]
    first, fetched = torch.nn.Linear(2, 2), []
    for actor in pool.actors:
        fetch = actor.worker.fetch
        actor.worker.fetch = lambda shared, fetch=fetch: fetched.append(1) or fetch(shared)
    made = torch.nn.Linear(3, 3)
    pool.begin(lambda: {"chunk": torch.ones(1)}, None)()
    assert not fetched, "a chunk without weights loads none"
    for one in (first, first, made, made):
        pool.begin(lambda one=one: {"chunk": one(torch.ones(one.in_features))}, None)()
    assert len(fetched) == 2, "weights are sent to one worker, once"
    del first, one
    gc.collect()
    for _ in range(2):
        begun = [pool.begin(lambda k=k: {"chunk": made(k * torch.ones(3))}, None) for k in range(4)]
        for chunk in begun:
            chunk()
    for actor in pool.actors:
        assert set(map(str, actor.worker.modules.values())) <= {str(made)}


def test_chunks_that_wait_keep_their_weights(pool):
    """As with windows queued ahead of time whose model the command has released since."""
    while len(pool.ready) < 2:
        time.sleep(0.01)
    go = threading.Event()
    for actor in pool.actors:
        actor.make.executor.submit(go.wait)
    busy = [pool.begin(lambda k=k: {"chunk": torch.full((1,), k)}, None) for k in range(2)]
    module = torch.nn.Linear(2, 2)
    expected = module(torch.ones(2)).detach()
    waiting = pool.begin(lambda one=module: {"chunk": one(torch.ones(2))}, None)
    del module
    gc.collect()
    go.set()
    assert torch.equal(waiting().tensors["chunk"], expected)
    assert [int(one().tensors["chunk"]) for one in busy] == [0, 1]
    gc.collect()
    assert not pool.weights.shared, "and no longer than they need them"


def test_what_stops_the_dispatch_is_raised_where_chunks_are_waited_for(pool):
    def add(dispatch):
        raise RuntimeError("no more chunks")

    pool.messages.put(add)
    with pytest.raises(RuntimeError, match="no more chunks"):
        pool.begin(lambda: {"chunk": torch.ones(1)}, None)()


def test_an_error_of_a_worker_is_that_of_the_task(pool):
    def fail():
        raise ValueError("frame 3 is not a number")

    with pytest.raises(ValueError, match="frame 3"):
        pool.begin(fail, None)()


def test_a_worker_of_another_version_is_refused():
    setup = Setup(version="0.0.1", torch=torch.__version__, threads=1)
    with pytest.raises(ValueError, match="a worker has videoldm .* but the command 0.0.1 with"):
        Worker(setup, None).ready()


@pytest.mark.parametrize("name", ["hierarchical", "upsampling, independent"])
def test_a_workflow_makes_the_same_file_and_tells_its_steps(name, pool, run, capsys):
    plain, told = run(name, "plain", "--json"), last_steps(capsys.readouterr().out)
    assert run(name, "shared", "--json", "--ray") == plain and len(plain) == 1
    assert last_steps(capsys.readouterr().out) == told


@pytest.mark.parametrize("name", ["prediction", "interpolation", "upsampling, continued"])
def test_stages_follow_those_before_them(name, pool, run, tmp_path, monkeypatch):
    begin, nodes = pool.begin, []

    def begun(make, place):
        nodes.append(place.about["node"].removeprefix("VideoLDM_"))
        return begin(make, place)

    monkeypatch.setattr(pool, "begin", begun)
    assert run(name, "shared", "--ray") == run(name, "plain")
    decoding = nodes.index("TemporalVAEDecodeToVideo")
    assert set(nodes[decoding:]) > {"TemporalVAEDecodeToVideo"}, "decoded before all was sampled"
    plain, shared = (
        {path.name for path in tmp_path.glob(f"{where}/videoldm_runs/*/*.safetensors")}
        for where in ("plain", "shared")
    )
    assert shared == plain


def test_workflows_are_begun_ahead_and_saved_in_order(pool, run, monkeypatch):
    prompts = ("a red circle moves right", "a blue star rotates", "a white square moves up")
    each = [one for prompt in prompts for one in ("--each", f"2.text={prompt}")]
    plain, begun, begin = run("single clip", "plain", *each), [], pool.begin
    monkeypatch.setattr(pool, "begin", lambda *of: begun.append(priority.get()) or begin(*of))
    assert run("single clip", "shared", *each, "--ray") == plain
    assert len(set(plain)) == 3
    assert {1, 2} <= set(begun), "later workflows were begun in threads of their own"


def test_without_a_store_chunks_are_made_by_others_all_the_same(pool, run, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOLDM_RUNS", "off")
    assert run("interpolation", "shared", "--ray") == run("interpolation", "plain")
    assert not list(tmp_path.rglob("videoldm_runs/*/*.safetensors"))


def last_steps(said: str) -> dict[str, tuple[float, float]]:
    """The (value, total) of each node's last progress event."""
    told = [one for one in map(json.loads, said.splitlines()) if one["event"] == "progress"]
    return {one["node_id"]: (one["value"], one["total"]) for one in told}


@pytest.mark.slow
def test_runs_on_a_cluster_whose_workers_and_driver_are_killed():
    command = [sys.executable, "-m", "tests.kill.distributed", "--workers", "2", "--drivers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith("0 files differ, 0 finished chunks made again"), done.stdout
