"""What the frontend shows while a node runs: segment, step, remaining time, memory and warnings.

ComfyUI's own progress bar has only one number. The rest is sent, as events of this pack, to the
browser that queued the run; nothing depends on them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import comfy.model_management as manager
from comfy_execution.utils import get_executing_context

from ..time_left import TimeLeft

if TYPE_CHECKING:
    from ..interface import StageProgress

PROGRESS, WARNING = "videoldm.progress", "videoldm.warning"

log = logging.getLogger("videoldm")


class Reports:
    """Reports of the running node; another node's, or one with less done, restart the time."""

    def __init__(self) -> None:
        self.time_left = TimeLeft()
        self.last: tuple[Any, float] = (None, 0.0)
        self.warned: tuple[Any, set[str]] = (None, set())

    def progress(self, done: float, total: float, part: StageProgress | None) -> None:
        context, now = get_executing_context(), time.monotonic()
        if context is None:
            return
        running = (context.prompt_id, context.node_id)
        if running != self.last[0] or done < self.last[1]:
            self.time_left.restart(now, done)
        self.last = running, done
        if not self.time_left.is_due(now, done, total):
            return
        left = self.time_left.seconds(now, done, total)
        values = {"node": context.node_id, "done": done, "total": total, "left": left}
        _send(PROGRESS, values | {"part": part and part._asdict(), "memory": memory()})

    def warn(self, sentence: str) -> None:
        """Log a warning and show it on the running node, once per run of this node."""
        context = get_executing_context()
        running = context and (context.prompt_id, context.node_id)
        if running is None or running != self.warned[0]:
            self.warned = running, set()
        if sentence in self.warned[1]:
            return
        self.warned[1].add(sentence)
        log.warning("%s", sentence)
        if context is not None:
            _send(WARNING, {"node": context.node_id, "text": sentence})


def memory() -> dict[str, Any]:
    """Bytes used and in total: of the GPU, or used by this process of the main memory."""
    device = manager.get_torch_device()
    if device.type == "cpu":
        import psutil

        used = psutil.Process().memory_info().rss
        return {"device": "cpu", "used": used, "total": psutil.virtual_memory().total}
    total, free = manager.get_total_memory(device), manager.get_free_memory(device)
    return {"device": str(device), "used": int(total - free), "total": int(total)}


def _send(event: str, values: dict[str, Any]) -> None:
    from server import PromptServer

    server = PromptServer.instance
    server.send_sync(event, values, server.client_id)
