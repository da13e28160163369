"""What long videos lose: the measures, and the table and the plot of them."""

import pytest
import torch
from videoldm.core.evaluation import drift
from videoldm.core.families.embedded.worlds import shapes


def star(contrast: float = 1.0, blur: int = 0) -> torch.Tensor:
    """Sixteen frames of a red square block on black."""
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


def test_the_table_compares_the_first_stretch_with_the_last():
    course = drift.Course()
    for k in range(10):
        course.add(star(1 - 0.05 * k))
    found = {"rolling": course}
    assert course.change("contrast") == pytest.approx((0.6 + 0.55) / (1 + 0.95), rel=1e-3)
    lines = drift.table(found, 160).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| rolling | ")
    assert drift.plot(found).size[0] == 720
    assert set(drift.as_json(found)["rolling"]) == set(drift.MEASURES)
