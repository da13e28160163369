"""LVDM's claims about drift: the measures, the comparison of variants and the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from videoldm.core.evaluation import driving_rules, lvdm_claims, lvdm_long
from videoldm.core.evaluation.lvdm_claims import Claims, Course, course, in_clips, measured
from videoldm.core.evaluation.lvdm_plot import svg
from videoldm.core.evaluation.lvdm_videos import VARIANTS, EmbeddedLvdm, Length, Sampled
from videoldm.core.evaluation.programs import Measured
from videoldm.core.evaluation.run import Run
from videoldm.core.families.embedded import worlds

SHORT = Length(frames=64, steps=2, videos=1)


@pytest.fixture(scope="module")
def models() -> EmbeddedLvdm:
    return EmbeddedLvdm()


def _video(seed: int, frames: int = 256) -> torch.Tensor:
    return lvdm_claims.rendered(seed, 0.0, frames)[None]


def test_the_light_is_read_even_from_what_the_autoencoder_makes_of_a_frame(models) -> None:
    for seed in range(7000, 7006):
        clip = _video(seed, 16)
        with torch.no_grad():
            coded = models.autoencoder(models.autoencoder.encode(clip))
        name = worlds.sample_scene("driving", seed).light
        for video in (clip, coded):
            light = driving_rules.measure_frames(video).light
            assert [driving_rules.NAMES[k] for k in light[0].tolist()] == [name] * 16


def test_rules_see_a_frozen_a_blurred_and_a_discoloured_video() -> None:
    video = _video(7000, 8)
    plain = driving_rules.measure_frames(video)
    assert driving_rules.measure_frames(video[:, :1].expand(-1, 8, -1, -1, -1)).motion.max() == 0
    blurred = torch.nn.functional.avg_pool2d(video[0], 3, 1, 1)[None]
    assert driving_rules.measure_frames(blurred).detail.mean() < 0.8 * plain.detail.mean()
    assert (driving_rules.measure_frames(video * 0.7).sky_error > plain.sky_error).all()


def test_rendered_videos_do_not_drift_and_those_that_fade_do(models) -> None:
    real = lvdm_claims.real_features(models.autoencoder, 16)
    video = torch.cat([_video(seed) for seed in (7000, 7001)])
    fading = video * torch.linspace(1, 0.2, 256)[None, :, None, None, None]
    steady, falling = (course(models.autoencoder, iter([one]), real) for one in (video, fading))
    assert abs(steady.drift()) < 0.1 * steady.ends("distance")[0]
    assert falling.drift() > 5 * abs(steady.drift())
    assert steady.by_name["light kept"] == [1.0] * lvdm_claims.WINDOWS


def test_clips_do_not_depend_on_the_chunks() -> None:
    video = torch.arange(40.0).reshape(1, 40, 1, 1, 1)
    clips = torch.cat(list(in_clips(iter(video.split((5, 30, 5), dim=1)))), dim=1)
    assert torch.equal(clips, video[:, :32])


def test_what_was_sampled_is_kept_and_every_variant_differs(models, tmp_path) -> None:
    made = [models.kept(variant, SHORT, 5, tmp_path) for variant in VARIANTS]
    for one in made:
        assert one.latents.shape == (1, 16, 4, 16, 16) and int(one.sizes.sum()) == 16
        assert len(one.seconds) == len(one.sizes)
    distinct = {float(one.latents.sum()) for one in made}
    assert len(distinct) == len(VARIANTS)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = models.kept(VARIANTS[0], SHORT, 5, tmp_path)
    assert torch.equal(again.latents, made[0].latents)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_variants_are_measured_and_said(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(lvdm_claims, "WINDOWS", 2)
    lines: list[str] = []
    length = Length(frames=64, steps=1, videos=1)

    def run() -> Claims:
        return measured(tmp_path, lines.append, length=length, seeds=(5,), clips=2)

    claims = run()
    assert len(lines) == 1 + len(VARIANTS) and lines[0].startswith("seed 5, rendered: distance")
    assert set(claims.courses) == {"rendered", *(variant.name for variant in VARIANTS)}
    assert all(len(courses[0].by_name["distance"]) == 2 for courses in claims.courses.values())
    assert lvdm_claims.table(claims).count("\n") == 2 + len(VARIANTS)
    monkeypatch.setattr(lvdm_claims, "course", None)  # measured courses are cached
    assert run().courses == claims.courses


def _claims(**drifts: list[float]) -> Claims:
    """Courses that rise from 1 by these drifts."""
    courses = {
        name.replace("_", " "): [
            Course({m: np.linspace(1, 1 + drift, 2).tolist() for m in lvdm_claims.MEASURES})
            for drift in found
        ]
        for name, found in drifts.items()
    }
    return Claims(length=SHORT, seeds=(1, 2), courses=courses)


def test_a_claim_reproduces_only_if_it_does_for_every_seed() -> None:
    claims = _claims(perturbation_and_guidance=[0.1, 0.1], guidance=[0.5, 0.6],
                     perturbation=[0.4, 0.05], neither=[0.3, 0.3])  # fmt: skip
    found = {one["claim"]: one for one in lvdm_claims.verdicts(claims)}
    assert found["perturbation, with guidance"]["smaller"] == 2
    assert found["guidance, with perturbation"]["smaller"] == 1
    lines = [lvdm_claims.verdict_line(one) for one in found.values()]
    assert lines[0].endswith("smaller in 2 of 2 seeds: reproduces")
    assert lines[2].endswith("smaller in 1 of 2 seeds: does not reproduce")


def test_the_plot_has_a_line_for_every_variant() -> None:
    picture = svg(_claims(rendered=[0.0, 0.0], guidance=[0.5, 0.6]), "distance")
    assert picture.count("<polyline") == 2 and ">guidance</text>" in picture


def test_time_is_compared_between_the_first_and_the_last_quarter() -> None:
    seconds = torch.tensor([9.0, 0.5, 0.5, 8, 3, 3, 3, 3, 3, 3.5, 1, 0.75])
    assert lvdm_long.ends(seconds) == (0.5, 1.0)


def test_the_time_of_a_chunk_is_the_least_of_all_runs(monkeypatch) -> None:
    slow = iter([(1, 9, 1, 1, 9), (1, 1, 9, 1, 1.5), (9, 1, 1, 1, 1.5)])

    def sampled(self, variant, length, seed) -> Sampled:
        return Sampled(torch.zeros(1), torch.tensor(next(slow)), torch.full((5,), 4))

    monkeypatch.setattr(lvdm_long.EmbeddedLvdm, "sampled", sampled)
    figure = lvdm_long._time(Run(models=None))
    assert figure.value == pytest.approx(1.5) and not figure.passed


def test_memory_is_compared_between_two_lengths(monkeypatch) -> None:
    def fake(path, settings) -> Measured:
        frames = int(settings[0].split("=")[1])
        return Measured(seconds=1.0, peak_rss=10**9 + 10**5 * frames)

    monkeypatch.setattr(lvdm_long, "run_workflow", fake)
    figure = lvdm_long._memory()
    assert figure.passed and figure.value == pytest.approx(1.1e9 / 1.01e9)
    monkeypatch.setattr(lvdm_long, "workflow", lambda name: None)
    assert lvdm_long._memory().passed is None
