"""A few runs that are killed and begun again; `python -m tests.kill` does it for longer."""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from kill.flows import flows
from kill.running import Place
from videoldm.core.tasks.chunk_store import is_whole

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes can be forked here")


@pytest.fixture(autouse=True)
def one_thread():
    """A forked process must not inherit half a pool of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["prediction", "upsampling, independent"])
def test_a_run_that_is_killed_ends_with_the_same_file(tmp_path, toy_family, name):
    undisturbed = Place(tmp_path / "undisturbed", flows()[name], toy_family)
    code, seconds = undisturbed.run()
    assert code == 0
    killed = Place(tmp_path / "killed", flows()[name], toy_family)
    codes = [killed.run(killed_after=part * seconds)[0] for part in (0.5, 0.8)]
    assert all(map(is_whole, killed.chunk_files()))
    before = len(killed.chunks)
    code, _ = killed.run()
    assert code == 0 and killed.video() == undisturbed.video()
    names = [f"clip_{k + 1:05}_.mp4" for k in range(1 + codes.count(0))]
    assert sorted(path.name for path in killed.folder.glob("output/*.*")) == names
    assert max(Counter(killed.chunks).values()) == 1
    assert sorted(killed.chunks) == sorted(undisturbed.chunks) and before <= len(killed.chunks)
