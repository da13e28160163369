"""The program that measures decoder fine-tuning, cut to a few steps."""

from __future__ import annotations

import pytest
from videoldm.core.evaluation import fine_tuning


def test_it_trains_an_autoencoder_and_its_temporal_layers_and_measures_both(tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "IMAGES", (*fine_tuning.IMAGES, "steps=2", "batch=1"))
    monkeypatch.setattr(fine_tuning, "VIDEOS", 1)
    monkeypatch.setattr(fine_tuning, "FRAMES", 3)
    before, after = fine_tuning.fine_tuned(tmp_path, 2, "data.frames=3", "data.size=32")
    assert before.keys() == after.keys() == {"shapes", "driving"}
    for world in before:
        assert before[world] != after[world]
        assert after[world].psnr == pytest.approx(before[world].psnr, abs=3)
