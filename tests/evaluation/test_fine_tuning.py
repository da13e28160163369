"""The program that measures decoder fine-tuning, cut to a few steps."""

from __future__ import annotations

import pytest
from videoldm.core.evaluation import fine_tuning
from videoldm.core.evaluation.fine_tuning import FineTuned, Quality

FEW = ("data.frames=3", "data.size=32", "data.max_size=32", "learning_rate=1e-3")


def test_it_trains_the_layers_and_the_control_and_measures_both(tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "VIDEOS", 1)
    monkeypatch.setattr(fine_tuning, "FRAMES", 3)
    said = []
    found = fine_tuning.fine_tuned(tmp_path, said.append, *FEW, steps=2)
    assert found.after.keys() == fine_tuning.VARIANTS.keys()
    for name, after in found.after.items():
        kinds = {
            f"{world}, {one}" for world in ("shapes", "driving") for one in fine_tuning.LATENTS
        }
        assert after.keys() == found.before.keys() == kinds
        assert any(line.startswith(name) for line in said)
        for what, quality in after.items():
            assert quality != found.before[what]
            assert quality.psnr == pytest.approx(found.before[what].psnr, abs=3)
    before = found.before["driving, sampled"], found.before["driving, mode"]
    assert before[0].flicker > before[1].flicker
    assert found.after["in time"] != found.after["frame by frame"]
    assert len(list(tmp_path.rglob("video_decoder.safetensors"))) == 2


def test_the_table_tells_how_flicker_and_psnr_changed():
    found = FineTuned(
        {"shapes": Quality(0.02, 30.0)},
        {"in time": {"shapes": Quality(0.015, 31.5)},
         "frame by frame": {"shapes": Quality(0.019, 30.5)}},
    )  # fmt: skip
    first, second = fine_tuning.table(found).splitlines()
    assert first.startswith("in time, shapes: flicker 0.01500 is 0.750 of 0.02000")
    assert first.endswith("31.50 dB, +1.50 dB") and "is 0.950 of" in second
