"""Drift of long videos: its measures, resumed runs, the table and the plot."""

from xml.etree import ElementTree

import pytest
import torch
from videoldm.core.evaluation import drift, drift_plot
from videoldm.core.evaluation.models import Models, Settings
from videoldm.core.families.embedded.worlds import shapes


def star(contrast: float = 1.0, blur: int = 0) -> torch.Tensor:
    """Sixteen frames of a red square on black, where `drift` looks for a red star."""
    frames = torch.full((16, 3, 64, 64), -1.0)
    frames[:, :, 20:44, 20:44] = torch.tensor(shapes.COLORS["red"]).float()[:, None, None] * 2 - 1
    for _ in range(blur):
        frames = torch.nn.functional.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    return frames * contrast


def test_each_measure_falls_with_what_it_measures():
    plain, pale, soft = (drift.measured(one) for one in (star(), star(0.5), star(blur=6)))
    assert pale["contrast"] == pytest.approx(0.5 * plain["contrast"], rel=1e-4)
    assert pale["colour"] == pytest.approx(0.5 * plain["colour"], rel=1e-4)
    assert pale["sharpness"] == pytest.approx(plain["sharpness"], rel=1e-4)
    assert soft["sharpness"] < 0.95 * plain["sharpness"]
    assert plain["objects"] == 0.5, "the colour is right, the shape is not"
    assert drift.measured(torch.full((16, 3, 64, 64), -1.0))["objects"] == 0.0


def test_blocks_are_whole_and_in_order():
    video = torch.arange(50.0).reshape(1, 50, 1, 1, 1)
    blocks = list(drift._blocks(video.split(7, dim=1)))
    assert torch.equal(torch.cat(blocks, dim=1), video[:, :48])
    assert {one.shape[1] for one in blocks} == {16}


def fading(blocks: int = 10) -> drift.Course:
    course = drift.Course()
    for k in range(blocks):
        course.add(star(1 - 0.05 * k))
    return course


def test_the_table_compares_the_first_stretch_with_the_last():
    course = fading()
    assert course.change("contrast") == pytest.approx((0.6 + 0.55) / (1 + 0.95), rel=1e-3)
    lines = drift_plot.table({"rolling": course}, 160).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| rolling | ")
    assert set(drift.as_json({"rolling": course})["rolling"]) == set(drift.MEASURES)


def test_the_plot_has_a_line_for_each_strategy_in_each_panel():
    found = {name: fading() for name in drift.STRATEGIES}
    picture = ElementTree.fromstring(drift_plot.svg(found, 160))
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(found) * len(drift.MEASURES)
    assert len({line.get("stroke") for line in lines}) == len(found)
    contrast = lines[len(found)].get("points").split()
    heights = [float(point.split(",")[1]) for point in contrast]
    assert heights == sorted(heights), "what fades goes down, which is a larger y"


class Killed(Exception):
    pass


def test_a_run_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    """Finished chunks are reused, and the measures are those of an uninterrupted run."""
    monkeypatch.setattr(drift, "SIDE", 16)
    for name in ("SETTINGS", "FILLING"):
        monkeypatch.setattr(drift, name, Settings(steps=1, sampler="ddim"))
    models, said = Models(), []

    def run(folder, say=lambda text: None, frames=96):
        store = drift.chunk_store(folder, pytest.fail)
        found = drift.courses(models, store, frames, only=chosen, say=say)
        return drift.as_json(dict(found))

    chosen = ("prediction, colours matched", "rolling")
    whole = run(tmp_path / "whole")
    decoded = Models.decoded
    calls = []

    def killing(self, *args, **more):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return decoded(self, *args, **more)

    monkeypatch.setattr(Models, "decoded", killing)
    with pytest.raises(Killed):
        run(tmp_path / "cut")
    assert run(tmp_path / "cut", said.append) == whole
    assert "prediction, colours matched: 3 chunks made, 4 reused" in said
    said.clear()
    longer = run(tmp_path / "cut", said.append, frames=112)
    assert [course["contrast"][:6] for course in longer.values()] == [
        course["contrast"] for course in whole.values()
    ]
    assert any(text.startswith("rolling: 1 chunks made") for text in said), said
