"""Joining or starting a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .... import __version__
from .pool import Pool
from .worker import Setup, Worker

if TYPE_CHECKING:
    from ..standalone.host import StandaloneHost

AUTO = "auto"
NO_RAY = "--ray needs Ray, which is not installed: pip install videoldm[ray]"
STORE_BYTES = 2**30
"""Of a cluster that is started for one run, for weights on their way to workers."""


@contextmanager
def joined(host: StandaloneHost, address: str, workers: int | None) -> Iterator[Pool]:
    """Chunks are made by the workers of a cluster within this context.

    address: of a running one; "auto" for that of this machine, or else one that is started and
    ends with the context. workers: their number, None for one for each GPU, or for as many CPUs as
    this process has threads. Raises ValueError where there is no cluster or no Ray.
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
            for actor in pool.actors:
                ray.kill(actor)
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
    """Join or start; Ray's handlers of signals are put back, the command has its own."""
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        _init(ray, address)
    finally:
        if threading.current_thread() is threading.main_thread():
            for one, handler in handlers.items():
                signal.signal(one, handler)


def _init(ray: Any, address: str) -> None:
    quiet = dict(logging_level="error", log_to_driver=False)
    try:
        ray.init(address=address, **quiet)
        return
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != AUTO:
            reason = str(error).splitlines()[0]
            raise ValueError(f"there is no Ray cluster at {address} ({reason})") from error
    ray.init(include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)


def _actors(ray: Any, host: StandaloneHost, workers: int | None) -> list[Any]:
    """Workers that come back when they die, and then make again what they were at."""
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
    # Two at a time: what makes a chunk, and what tells how far it is.
    lasting = dict(max_restarts=-1, max_task_retries=-1, max_concurrency=2)
    actor = ray.remote(Worker).options(**needs, **lasting)
    return [actor.remote(setup, ray.get) for _ in range(count)]
