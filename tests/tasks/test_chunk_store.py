"""The chunk store: finished chunks are reused if their inputs are the same, and made if not."""

import errno
import os
import stat
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from model_toys import Denoisers, normal, toy_sampling, whole
from videoldm.core.tasks import chunk_files, chunk_store
from videoldm.core.tasks.chunk_store import ChunkStore
from videoldm.core.tasks.content import NoDigest, digest, name_of
from videoldm.core.tasks.interpolation import Interpolation, interpolate
from videoldm.core.tasks.kept_runs import KeptRuns
from videoldm.core.tasks.long_video import Continuation, Hierarchy, hierarchical, prediction
from videoldm.core.tasks.sliding import SlidingWindows, sliding

SIZE = (1, 4, 3, 5)
LIMIT = 1e9


def opened(folder, *, key="run", limit=LIMIT, told=None, **more):
    warn = pytest.fail if told is None else told.append
    return ChunkStore(folder, limit, warn).run(key, {"node": "Sampler"}, **more)


def asked(finished, value, **parts):
    return finished(lambda: value, **parts)


# ------------------------------------------------------------------------------------------ chunks


def test_a_chunk_comes_back_bit_for_bit_in_the_precision_it_was_made_in(tmp_path):
    chunks = {
        "full": normal(1, 5, 4, 2, 2), "half": normal(3, 3).half(), "exact": torch.ones(2) / 4,
        "whole": torch.arange(5), "strided": normal(4, 6).T, "scalar": torch.tensor(1.5),
    }  # fmt: skip
    first, again = opened(tmp_path), opened(tmp_path)
    for name, chunk in chunks.items():
        assert asked(first, chunk, name=name) is chunk
        found = asked(again, None, name=name)
        assert torch.equal(found, chunk) and found.dtype is chunk.dtype
    assert (first.made, again.reused, again.made) == (6, 6, 0)


def test_what_half_precision_holds_takes_half_of_the_space(tmp_path):
    asked(opened(tmp_path), normal(1000).half().float(), of="halves")
    asked(opened(tmp_path), normal(1000), of="floats")
    sizes = sorted(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert sizes[0] < 0.6 * sizes[1]


def test_a_chunk_is_on_disk_before_it_is_handed_out(tmp_path):
    asked(opened(tmp_path), torch.zeros(3), of=1)
    assert torch.equal(asked(opened(tmp_path), None, of=1), torch.zeros(3))


def test_a_file_that_was_damaged_is_made_again(tmp_path):
    asked(opened(tmp_path), torch.zeros(400), of=1)
    (path,) = tmp_path.rglob("*.safetensors")
    whole_file = path.read_bytes()
    for damaged in (whole_file[:50], whole_file[:-1] + b"\1", b"", b"half a file"):
        path.write_bytes(damaged)
        assert not chunk_files.is_whole(path)
        assert torch.equal(asked(opened(tmp_path), torch.ones(400), of=1), torch.ones(400))
        assert chunk_files.is_whole(path)


@pytest.mark.parametrize("value", [torch.tensor([1.5, -2.0]), torch.tensor([1.1, 2.3])])
def test_no_bit_of_a_file_can_change_what_is_read(tmp_path, value):
    """Every fifth bit is tried, of chunks kept in half precision and in full."""
    path = tmp_path / "chunk.safetensors"
    chunk_files.write_chunk(path, {"chunk": value})
    data = path.read_bytes()
    for bit in range(int(value[0] * 10) % 5, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = chunk_files.read_chunk(path)
        assert found is None or set(found) == {"chunk"} and torch.equal(found["chunk"], value)


def test_a_folder_that_is_removed_while_a_chunk_is_written_is_made_again(tmp_path, monkeypatch):
    """As when `videoldm runs` removes a run that another process is writing."""
    write, tried = chunk_store.write_chunk, []

    def late(path, tensors):
        tried.append(path)
        if len(tried) == 1:
            (path.parent / "run.json").unlink()
            path.parent.rmdir()
        write(path, tensors)

    monkeypatch.setattr(chunk_store, "write_chunk", late)
    asked(opened(tmp_path), torch.ones(3), of=1)
    assert len(tried) == 2 and len(KeptRuns(tmp_path).runs()) == 1
    assert torch.equal(asked(opened(tmp_path), None, of=1), torch.ones(3))


def test_runs_and_prompts_keep_their_chunks_apart(tmp_path):
    prompts = {"a": lambda frames: "cat" if 0 in frames else "dog", "b": lambda frames: "dog"}
    for value, (key, prompt) in enumerate([("one", "a"), ("two", "a"), ("one", "b")]):
        run = opened(tmp_path, key=key, prompt_of=prompts[prompt])
        assert int(asked(run, torch.tensor(value), frames=range(4))) == value
    assert int(asked(run, torch.tensor(7), frames=range(4, 8))) == 7
    again = opened(tmp_path, key="one", prompt_of=prompts["a"])
    assert int(asked(again, None, frames=range(4))) == 0
    assert int(asked(again, None, frames=range(4, 8))) == 7


def test_chunks_of_what_has_no_digest_are_made_each_time(tmp_path):
    for value in (1.0, 2.0):
        made = asked(opened(tmp_path), torch.tensor(value), of=torch.nn.Linear(1, 1))
        assert float(made) == value
    assert not any(tmp_path.iterdir())


# -------------------------------------------------------------------------------------- disk errors


def test_a_full_disk_is_told_once_and_costs_only_what_did_not_fit(tmp_path, monkeypatch):
    told, save = [], chunk_files.save_file
    run = opened(tmp_path, told=told)
    asked(run, torch.zeros(3), of=0)

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunk_files, "save_file", full)
    assert [int(asked(run, torch.tensor(k), of=k)) for k in (1, 2)] == [1, 2]
    monkeypatch.setattr(chunk_files, "save_file", save)
    asked(run, torch.tensor(3), of=3)
    assert len(told) == 1 and "(no space left on device): the run continues" in told[0]
    again = opened(tmp_path)
    assert [int(asked(again, torch.tensor(9), of=k).sum()) for k in range(4)] == [0, 9, 9, 3]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_system_that_cannot_sync_folders_keeps_chunks_all_the_same(tmp_path, monkeypatch):
    told, sync = [], os.fsync

    def files_alone(at):
        if stat.S_ISDIR(os.fstat(at).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(at)

    monkeypatch.setattr(os, "fsync", files_alone)
    asked(opened(tmp_path, told=told), torch.zeros(3), of=1)
    assert torch.equal(asked(opened(tmp_path), None, of=1), torch.zeros(3)) and told == []


def test_a_file_in_the_place_of_the_folder_is_reported_once(tmp_path):
    told = []
    (tmp_path / "runs").write_text("a file")
    assert float(asked(opened(tmp_path / "runs", told=told), torch.tensor(2.0), of=1)) == 2
    assert len(told) == 1 and "cannot be kept in" in told[0]


def test_a_folder_that_is_deleted_meanwhile_is_made_again(tmp_path):
    run = opened(tmp_path / "runs")
    asked(run, torch.zeros(3), of=0)
    run.store.remove("run")
    asked(run, torch.ones(3), of=1)
    assert torch.equal(asked(opened(tmp_path / "runs"), None, of=1), torch.ones(3))
    assert float(asked(run, torch.tensor(5.0), of=0)) == 5


# ------------------------------------------------------------------------------ limit and clean-up


def used_at(folder, seconds):
    """Sets the last use of the newest chunk to `seconds` ago."""
    newest = max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    os.utime(newest, (time.time() - seconds,) * 2)


def test_the_limit_removes_what_was_not_used_for_longest(tmp_path):
    for k in range(4):
        asked(opened(tmp_path, key=f"run {k}"), normal(1000, seed=k), of=k)
        used_at(tmp_path, 100 - k)
    asked(opened(tmp_path, key="run 0"), None, of=0)
    asked(opened(tmp_path, key="run 9", limit=14_000), normal(1000), of=9)
    left = {one.key for one in opened(tmp_path).store.runs()}
    assert left == {"run 0", "run 3", "run 9"} or left == {"run 0", "run 9"}
    assert sum(one.size for one in opened(tmp_path).store.runs()) <= 14_000
    assert not (tmp_path / "run 1").exists()


def test_a_chunk_that_is_larger_than_the_limit_costs_no_others(tmp_path):
    told = []
    run = opened(tmp_path, limit=14_000, told=told)
    asked(run, normal(1000), of=1)
    asked(run, normal(9000), of=2)
    assert ["(one of 3.6e-05 GB is too large" in one for one in told] == [True]
    assert torch.equal(asked(opened(tmp_path), None, of=1), normal(1000))


def test_the_limit_holds_for_several_processes_in_one_folder(tmp_path):
    """Each run has its own store, as in separate processes, and sees the others only on disk."""
    several = [opened(tmp_path, key=f"run {k}", limit=30_000) for k in range(3)]
    most = 0
    for number in range(30):
        for run in several:
            asked(run, normal(100, seed=number), of=number)
            most = max(most, run.store.size())
    assert 20_000 < most <= 30_000
    assert {one.key for one in several[0].store.runs()} == {"run 0", "run 1", "run 2"}


def test_what_is_on_the_disk_is_not_counted_for_every_chunk(tmp_path, monkeypatch):
    run, counted = opened(tmp_path), []
    size = KeptRuns.size
    monkeypatch.setattr(KeptRuns, "size", lambda store: counted.append(1) or size(store))
    for number in range(20):
        asked(run, normal(10), of=number)
    assert len(counted) == 1


def test_the_list_of_runs_says_what_they_are_and_the_last_used_comes_first(tmp_path):
    asked(opened(tmp_path, key="old"), normal(10), of=1)
    used_at(tmp_path, 1000)
    asked(opened(tmp_path, key="new"), normal(10), of=1)
    asked(opened(tmp_path, key="new"), normal(10), of=2)
    (tmp_path / "file_digests.json").write_text("{}")
    store = opened(tmp_path).store
    assert [(one.key, one.chunks, one.about) for one in store.runs()] == [
        ("new", 2, {"node": "Sampler"}), ("old", 1, {"node": "Sampler"}),
    ]  # fmt: skip
    store.remove_older(500)
    assert [one.key for one in store.runs()] == ["new"]
    (tmp_path / "new" / "left.tmp").write_text("half")
    used_at(tmp_path, 0)
    os.utime(tmp_path / "new" / "left.tmp", (0, 0))
    store.shrink(0)
    assert store.runs() == [] and not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------- tasks

SAMPLING = toy_sampling()
FEW = Continuation(window=5, context=1)
TASKS = {
    "prediction": lambda sampling, more: prediction(
        Denoisers(), SIZE, sampling, 17, settings=FEW, **more
    ),
    "hierarchical": lambda sampling, more: hierarchical(
        Denoisers(), SIZE, sampling, 50, settings=Hierarchy(keys=FEW), **more
    ),
    "interpolation": lambda sampling, more: interpolate(
        Denoisers(), normal(1, 7, *SIZE[1:]), sampling,
        settings=Interpolation(window_keys=3, passes=2, keep_keys=False), **more,
    ),
}  # fmt: skip


class Stop(Exception):
    pass


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("steps", [4, 8, 11])
def test_a_task_that_is_stopped_goes_on_where_it_was(tmp_path, task, steps):
    """Finished segments are reused wherever it stops; only the interrupted one is sampled again."""
    expected = whole(TASKS[task](SAMPLING, {}))
    stopped, resumed = opened(tmp_path), opened(tmp_path)
    reports = []

    def stop(progress):
        reports.append(progress)
        if len(reports) == steps:
            raise Stop

    with pytest.raises(Stop):
        list(TASKS[task](replace(SAMPLING, finished=stopped), {"callback": stop}))
    made = whole(TASKS[task](replace(SAMPLING, finished=resumed), {}))
    assert torch.equal(made, expected)
    assert stopped.made > 0 and resumed.reused == stopped.made
    once = opened(tmp_path / "once")
    list(TASKS[task](replace(SAMPLING, finished=once), {}))
    assert stopped.made + resumed.made == once.made


def test_windows_that_are_averaged_are_one_chunk(tmp_path):
    windows = SlidingWindows(window=6, overlap=2)
    run = partial(sliding, Denoisers(), SIZE, windows=windows)
    made = whole(run(replace(SAMPLING, finished=opened(tmp_path)), 20))
    finished = opened(tmp_path)
    assert torch.equal(whole(run(replace(SAMPLING, finished=finished), 20)), made)
    assert (finished.reused, finished.made) == (1, 0)
    list(run(replace(SAMPLING, finished=finished), 21))
    assert finished.made == 1 + len(SAMPLING.sigmas) - 1


def test_a_longer_video_takes_the_segments_of_the_shorter_one(tmp_path):
    run = partial(prediction, Denoisers(), SIZE, replace(SAMPLING, finished=opened(tmp_path)))
    short, finished = whole(run(17, settings=FEW)), opened(tmp_path)
    longer = prediction(Denoisers(), SIZE, replace(SAMPLING, finished=finished), 33, settings=FEW)
    assert torch.equal(whole(longer)[:, :17], short)
    assert (finished.reused, finished.made) == (4, 4)


@pytest.mark.parametrize("changes", [{"seed": 6}, {"sigmas": toy_sampling(2).sigmas}])
def test_another_seed_or_schedule_is_made_anew(tmp_path, changes):
    list(
        prediction(
            Denoisers(), SIZE, replace(SAMPLING, finished=opened(tmp_path)), 17, settings=FEW
        )
    )
    finished = opened(tmp_path)
    other = replace(SAMPLING, **changes)
    made = prediction(Denoisers(), SIZE, replace(other, finished=finished), 17, settings=FEW)
    assert torch.equal(whole(made), whole(prediction(Denoisers(), SIZE, other, 17, settings=FEW)))
    assert finished.reused == 0


# ----------------------------------------------------------------------------------------- digests


def test_digests_tell_values_apart():
    zeros = torch.zeros(2, 3)
    values = [
        None, 0, 0.0, False, "", "0", b"", (), {}, range(3), [0, 1, 2], [[0, 1], 2], [[0], 1, 2],
        zeros, zeros.T, zeros.int(), -zeros, torch.zeros(0), {"a": 1}, {"a": "1"},
        {"b": 1}, SAMPLING.noise(1, [0]), SAMPLING.noise(1, [1]),
        torch.float16, torch.device("cpu"), "ab", ["a", "b"],
    ]  # fmt: skip
    assert len({digest(one) for one in values}) == len(values)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(normal(3, 4).T) == digest(normal(3, 4).T.contiguous())


def test_what_has_no_digest_is_refused():
    with pytest.raises(NoDigest, match="a Linear has no digest"):
        digest({"module": [torch.nn.Linear(1, 1)]})
    with pytest.raises(NoDigest, match="a function has no digest"):
        digest(normal)


def test_functions_are_named_without_their_modules():
    assert name_of(normal) == "normal" and name_of(Denoisers()) == "Denoisers"
    assert name_of(partial(normal, 1)) == "partial"
