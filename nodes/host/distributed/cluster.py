"""Joining or starting a Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .... import __version__
from .pool import Pool
from .worker import Setup, Worker

if TYPE_CHECKING:
    from ..standalone.host import StandaloneHost

AUTO = "auto"
NO_RAY = "--ray needs Ray, which is not installed: pip install videoldm[ray]"
ANSWERS = 3.0
"""Seconds within which a cluster must accept a connection."""


@contextmanager
def joined(host: StandaloneHost, address: str, workers: int | None) -> Iterator[Pool]:
    """Let the workers of a cluster make the chunks within this context.

    address: HOST:PORT of a running cluster; "auto" for this machine's or, without one, a new
    cluster that ends with the context. workers: their number; None for one per GPU or, on CPUs, per
    as many CPUs as this process has threads. Raises ValueError if there is no cluster or no Ray.
    """
    ray = _ray()
    _connect(ray, address)
    try:
        pool = Pool(_actors(ray, host, workers), ray.put)
        host.workers = pool
        try:
            yield pool
        finally:
            host.workers = None
            pool.close()
    finally:
        ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(NO_RAY) from error
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join or start a cluster, keeping this command's signal handlers, which Ray replaces."""
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        _init(ray, address)
    finally:
        if threading.current_thread() is threading.main_thread():
            for one, handler in handlers.items():
                signal.signal(one, handler)


def _init(ray: Any, address: str) -> None:
    quiet = dict(logging_level="error", log_to_driver=False)
    found = _of_this_machine() if address == AUTO else address
    if found is None:
        ray.init("local", include_dashboard=False, **quiet)
        return
    if not _answers(found):
        raise ValueError(f"no Ray cluster answers at {found}, which must be HOST:PORT or {AUTO}")
    try:
        ray.init(address=found, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the Ray cluster at {found} cannot be joined ({reason})") from error


def _of_this_machine() -> str | None:
    """The address of the cluster started on this machine with `ray start`. Ray's own lookup also
    finds clusters of other runs, which may be about to end."""
    named = os.environ.get("RAY_ADDRESS")
    if named:
        return named
    usual = "/tmp" if sys.platform == "darwin" else tempfile.gettempdir()
    file = Path(os.environ.get("RAY_TMPDIR") or usual) / "ray" / "ray_current_cluster"
    try:
        address = file.read_text().strip()
    except OSError:
        return None
    return address if _answers(address) else None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and "/" not in host):
        return False
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS).close()
    except (OSError, OverflowError):
        return False
    return True


def _actors(ray: Any, host: StandaloneHost, workers: int | None) -> list[Any]:
    """Workers that are restarted when they die, and then repeat the chunk they were making."""
    kind, threads = host.policy.device.type, torch.get_num_threads()
    there, key = ray.cluster_resources(), "CPU" if kind == "cpu" else "GPU"
    found = there.get(key, 0)
    if not found:
        raise ValueError(f"the Ray cluster has no {key}, but --device is {host.policy.device}")
    count = workers or max(1, int(found // (threads if key == "CPU" else 1)))
    share = min(found / count, threads if key == "CPU" else 1)
    share = int(share * 1e4) / 1e4 if share < 1 else int(share)
    needs = {"num_cpus": share} if key == "CPU" else {"num_gpus": share, "num_cpus": 0}
    setup = Setup(version=__version__, torch=torch.__version__, threads=threads)
    # Two calls at a time: one makes a chunk, the other reports its progress.
    lasting = dict(max_restarts=-1, max_task_retries=-1, max_concurrency=2)
    actor = ray.remote(Worker).options(**needs, **lasting)
    return [actor.remote(setup, ray.get) for _ in range(count)]
