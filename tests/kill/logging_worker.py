"""A worker that logs to a shared file which chunks it makes and which it has stored."""

from __future__ import annotations

import os
from pathlib import Path

from videoldm.core.tasks.chunk_store import Place
from videoldm.nodes.host.distributed.worker import Worker


class LoggingPlace(Place):
    def read(self):
        found = super().read()
        if found is None:
            note("making", self.path)
        return found

    def write(self, made):
        reason = super().write(made)
        note("kept", self.path)
        return reason


def note(what: str, path: Path) -> None:
    with open(os.environ["VIDEOLDM_TEST_LOG"], "a") as log:
        log.write(f"{what} {path}\n")


class LoggingWorker(Worker):
    def place(self, packed):
        found = super().place(packed)
        return found and LoggingPlace(found.store, found.path, found.about)
