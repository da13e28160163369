"""`python -m tests.measure_long` and `measure_growth` detect what they measure, on short runs."""

import pytest
from measure_growth import CHUNK, PERIOD
from measure_growth import growth as growth_of_tasks
from measure_long import FIGURES, growth, noisy_frames, rolled, stages
from videoldm.core.graph.api_format import graph_from_api
from videoldm.core.graph.validate import validate
from videoldm.core.tasks.chunk_store import Place
from videoldm.core.tasks.rolling import RollingQueue
from videoldm.nodes import node_registry


@pytest.mark.parametrize("lookahead", [False, True])
def test_noise_that_is_left_is_counted(lookahead, monkeypatch):
    assert noisy_frames(40, lookahead) == 0
    step = RollingQueue.step

    def skipping(queue):
        if queue.left != 20:
            step(queue)

    monkeypatch.setattr(RollingQueue, "step", skipping)
    assert noisy_frames(40, lookahead) > 0


def test_growth_is_that_of_undisturbed_shares():
    even = [9.0] + [1.0, 5.0, 1.0, 1.0] * 10
    assert growth(even) == pytest.approx(1)
    assert growth([9.0] + [1 + k / 100 for k in range(40)]) > 1.2


def test_chunks_that_cost_more_the_more_there_are_are_seen(tmp_path, monkeypatch):
    frames = CHUNK * (PERIOD + 10)
    assert growth_of_tasks(tmp_path / "as it is", frames, pairs=10) < 1.2
    read = Place.read

    def listing(place):
        for _ in range(10):
            list(place.path.parent.glob("*"))
        return read(place)

    monkeypatch.setattr(Place, "read", listing)
    assert growth_of_tasks(tmp_path / "listed", frames, pairs=10) > 1.2


def test_workflows_are_valid():
    registry = node_registry()
    for flow in (stages(240), rolled(64)):
        assert validate(graph_from_api(flow), registry) == []
    assert set(FIGURES) == {"stages", "rolling", "noise"}
