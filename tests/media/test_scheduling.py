"""Writing a video leaves the threads of the process scheduled as they were."""

from __future__ import annotations

import os
import threading
from fractions import Fraction

import numpy as np
import pytest
from videoldm.core.media import scheduling
from videoldm.core.media.codecs import ENCODINGS
from videoldm.core.media.container import ContainerWriter, OutputSettings

pytestmark = pytest.mark.skipif(
    not scheduling.THREADS.is_dir(), reason="only Linux tells how threads are scheduled"
)


def test_own_and_new_threads_get_the_old_policy_back():
    done, started = threading.Event(), threading.Event()
    seen = []

    def wait():
        started.set()
        done.wait()
        seen.append(os.sched_getscheduler(0))

    before = os.sched_getscheduler(0)
    with scheduling.usual_scheduling():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        thread = threading.Thread(target=wait)  # inherits it
        thread.start()
        started.wait()
    done.set()
    thread.join()
    assert [os.sched_getscheduler(0), *seen] == [before, before]


@pytest.mark.parametrize("name", ["mp4", "mp4 (H.265)", "mp4 (AV1)", "webm", "mov (ProRes 4444)"])
def test_no_encoder_makes_threads_real_time_ones(name, tmp_path):
    """SVT-AV1 does so for root."""
    settings = OutputSettings(
        encoding=ENCODINGS[name], frame_rate=Fraction(8), quality=20, metadata={}
    )
    writer = ContainerWriter(tmp_path / "partial", (64, 64), settings)
    writer.add(np.zeros((64, 64, 3), np.uint8))
    policies = {os.sched_getscheduler(int(one)) for one in os.listdir(scheduling.THREADS)}
    writer.finish()
    assert not policies & {os.SCHED_FIFO, os.SCHED_RR}
