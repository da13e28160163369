"""Runs a case in a forked process and watches its time, memory, signals, files and calls."""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import psutil

from . import cases

SECONDS = 10.0
"""The most processor time. Wall-clock time may be three times that, times the number of processes
per processor: a busy machine is not a failure."""
MEMORY = 1 << 30
"""The most bytes of memory above those at the start of the process."""
ADDRESSES = 6 << 30
"""The most bytes of address space above the same: a larger allocation fails at once."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RUNS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")


@dataclass
class Result:
    """The outcome of a case."""

    folder: Path
    commands: list[list[str]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    """(stdout, stderr) of every command that was started."""
    watched: list[str] = field(default_factory=list)
    """Each thing that the process did but should not."""
    stopped: str = ""
    """Why it was stopped: "time", "memory" or the name of a signal."""
    stack: str = ""
    """Its stack trace at that moment, innermost first."""
    seconds: float = 0.0
    memory: int = 0


def run(kind: str, seed: int, number: int, folder: Path, family: Path) -> Result:
    """Make and run one case in an empty `folder`, with `family` as the embedded models."""
    sys.stdout.flush(), sys.stderr.flush()
    begun = time.monotonic()
    process = os.fork()
    if process == 0:
        _child(kind, seed, number, folder, family)
    result = Result(folder)
    _watch(process, result)
    result.seconds = time.monotonic() - begun
    return _read(result)


# --------------------------------------------------------------------------------------------------
# In the child.


def _child(kind: str, seed: int, number: int, folder: Path, family: Path) -> None:
    try:
        _prepare(folder)
        commands = cases.make(kind, seed, number, folder)
        told = json.dumps(commands)
        (folder / "commands.json").write_text(told)
        before = _files(folder)
        _forbid(folder)
        from videoldm.core.families.embedded import included

        with mock.patch.object(included, "WEIGHTS", family):
            for index, command in enumerate(commands):
                code = _command(folder / "told", index, command, kind, seed, number)
                _note(folder, "codes", str(code))
        for path in sorted(_files(folder) - before):
            _note(folder, "watched", f"file outside the output: {path}")
    except BaseException:
        trace = " < ".join(traceback.format_exc().splitlines()[:-8:-1])
        _note(folder, "watched", f"the fuzzer itself failed: {trace}")
    finally:
        os._exit(0)


def _prepare(folder: Path) -> None:
    os.chdir(folder)
    (folder / "told").mkdir()
    os.environ.update(TMPDIR=str(folder / "tmp"), HOME=str(folder / "home"), VIDEOLDM_DEBUG="0")
    tempfile.tempdir = None
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    stack = open(folder / "told" / "stack", "w")
    faulthandler.enable(stack, all_threads=False)
    faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + ADDRESSES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.pop("VIDEOLDM_DEBUG")


def _command(told: Path, index: int, command: list[str], kind: str, seed: int, number: int) -> int:
    """Run one command with its output in two files; returns its exit code, or -1 for an exception.
    One in eight cases has an ASCII-only terminal."""
    from videoldm.nodes.headless import main

    ascii_only = cases.random_of(kind, seed, -number - 1).random() < 0.125
    encoding = "ascii" if ascii_only else "utf-8"
    for name, target, errors in (("out", 1, "strict"), ("err", 2, "backslashreplace")):
        file = os.open(told / f"{index}.{name}", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, target)
        stream = io.TextIOWrapper(io.FileIO(target, "w", closefd=False), encoding, errors,
                                  write_through=True)  # fmt: skip
        setattr(sys, f"std{name}", stream)
    try:
        return main(command)
    except BaseException:
        traceback.print_exc()
        return -1


def _files(folder: Path) -> set[str]:
    """Every file and folder of the case, except for output and this module's own files."""
    own = ("output", "told", "tmp", "codes", "watched")
    found = set()
    for place, folders, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        if here.parts and here.parts[0] in own:
            folders.clear()
            continue
        found |= {f"{here / name}" for name in (*folders, *names) if name not in own}
    return found


def _forbid(folder: Path) -> None:
    """Record each program, connection and written file outside the folder, by an audit hook."""
    allowed = tuple(str(folder / name) for name in ("output", "tmp", "told", "watched", "codes"))
    allowed = (*allowed, "/dev/", "/proc/")

    def hook(event: str, arguments: tuple) -> None:
        if event in RUNS:
            _note(folder, "watched", f"{event} {str(arguments[:2])[:200]}")
        elif event == "open" and _writes(arguments):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not path.startswith(allowed):
                _note(folder, "watched", f"file outside the output: {path}")

    sys.addaudithook(hook)


def _writes(arguments: tuple) -> bool:
    path, _, flags = arguments
    return isinstance(path, (str, bytes)) and isinstance(flags, int) and bool(flags & WRITING)


_noting = False


def _note(folder: Path, name: str, line: str) -> None:
    """Append a JSON line to a file, without triggering the audit hook."""
    global _noting
    if _noting:
        return
    _noting = True
    try:
        file = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(file, (json.dumps(line) + "\n").encode())
        os.close(file)
    finally:
        _noting = False


# --------------------------------------------------------------------------------------------------
# In the parent.


def _crowding() -> float:
    """Runnable processes per processor, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _watch(process: int, result: Result) -> None:
    """Wait for the child; stop it if it takes too much time or memory."""
    seen, begun = psutil.Process(process), time.monotonic()
    first, own = 0, psutil.Process().memory_info().rss
    while True:
        done, status, used = os.wait4(process, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status) and not result.stopped:
                result.stopped = signal.Signals(os.WTERMSIG(status)).name
            # What was taken and given back between two looks counts as well.
            result.memory = max(result.memory, used.ru_maxrss * 1024 - (first or own))
            if not result.stopped and result.memory > MEMORY:
                result.stopped = "memory"
            return
        try:
            times, memory = seen.cpu_times(), seen.memory_info().rss
        except psutil.Error:
            continue
        first = first or memory
        result.memory = max(result.memory, memory - first)
        waited = time.monotonic() - begun
        late = times.user + times.system > SECONDS or waited > 3 * SECONDS * _crowding()
        if not result.stopped and (late or result.memory > MEMORY):
            result.stopped = "time" if late else "memory"
            os.kill(process, signal.SIGUSR1)  # faulthandler writes the stack
            time.sleep(0.3)
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _read(result: Result) -> Result:
    folder = result.folder
    if (folder / "commands.json").is_file():
        result.commands = json.loads((folder / "commands.json").read_text())
    result.watched = _lines(folder / "watched")
    result.codes = [int(one) for one in _lines(folder / "codes")]
    for index in range(len(result.commands)):
        texts = [folder / "told" / f"{index}.{name}" for name in ("out", "err")]
        if texts[1].is_file():
            result.outputs.append(tuple(t.read_bytes().decode("utf-8", "replace") for t in texts))
    if result.stopped:
        result.stack = (folder / "told" / "stack").read_text()
    return result


def _lines(path: Path) -> list[str]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
