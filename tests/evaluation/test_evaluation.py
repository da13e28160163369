"""The figures, end to end on small random models: what they measure, and what they skip."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from videoldm.core.evaluation import included as figures_of
from videoldm.core.evaluation import programs, roads, run, samples, unseen, upsampled
from videoldm.core.evaluation.figures import Figure, as_json, at_least, at_most, table
from videoldm.core.evaluation.metrics import psnr
from videoldm.core.evaluation.models import Models, Settings, Sparse
from videoldm.core.families.embedded import included, worlds
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.autoencoder import (
    AutoencoderConfig,
    TemporalDecoder,
    build_autoencoder,
    config_dict,
)
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.tasks.back_projection import enlarge, shrink
from videoldm.core.text.encoders import (
    BoxEncoder,
    TextConfig,
    build_text_encoder,
    load_tokenizer,
    train_tokenizer,
)
from videoldm.core.weights.checkpoints import Header, save

SMALL = figures_of.Counts(
    prompts=2,
    aligned=1,
    long=1,
    interpolated=1,
    upsampled=1,
    upsampled_frames=3,
    decoded=1,
    real_frames=3,
)
AUTOENCODER = AutoencoderConfig(channels=(8, 8, 16), latent_channels=4)
UNET = embedded.ImageUNetConfig(channels=(32, 32, 32), text_width=32, latent_channels=4)
UPSAMPLER = replace(UNET, attention=(False, False, True), extra_channels=3, noise_levels=1000)


def write_models(folder: Path) -> None:
    """Writes all files of the embedded family, tiny and untrained."""
    save_part(folder, "autoencoder", build_autoencoder(AUTOENCODER).state_dict(),
              config_dict(AUTOENCODER))  # fmt: skip
    decoder = embedded.without_encoder(TemporalDecoder(build_autoencoder(AUTOENCODER)))
    save_part(folder, "temporal_decoder", decoder.state_dict(),
              {"autoencoder": config_dict(AUTOENCODER), "kernel": 3})  # fmt: skip
    train_tokenizer([worlds.caption(worlds.sample_scene("shapes", k)) for k in range(50)],
                    folder / "tokenizer")  # fmt: skip
    text = TextConfig(vocabulary=len(load_tokenizer(folder / "tokenizer")), width=32, layers=1)
    unet = embedded.build_unet(UNET)
    parts = {"unet": unet, "text_encoder": build_text_encoder(text),
             "box_encoder": BoxEncoder(text.width, text.vocabulary, slots=4)}  # fmt: skip
    save_part(folder, "image_model", joined(parts),
              {"unet": vars(UNET), "text": vars(text), "boxes": {"slots": 4}})  # fmt: skip
    for name in embedded.TEMPORAL_LAYERS:
        more = {"context_channels": 4, "rates": 2 if name == "interpolation" else 0}
        layers = TemporalLayers(spec_from_table(layout_of(unet.config), **more))
        save_part(folder, name, layers.state_dict(), layers.spec.as_dict(), "temporal_layers")
    large = embedded.build_unet(UPSAMPLER)
    layers = TemporalLayers(spec_from_table(layout_of(large.config)))
    save_part(folder, "upsampler", joined({"unet": large, "layers": layers}),
              {"unet": vars(UPSAMPLER), "layers": layers.spec.as_dict()})  # fmt: skip


def joined(parts: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": v for n, module in parts.items() for k, v in module.state_dict().items()}


def save_part(folder: Path, name: str, state: dict, config: dict, kind: str = "") -> None:
    header = Header(family=embedded.FAMILY, kind=kind or name, config=config)
    save(folder / f"{name}.safetensors", state, header)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedded")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_models(path)
    return path


@pytest.fixture
def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models, two steps, small frames, no known captions."""
    monkeypatch.setattr(included, "WEIGHTS", folder)
    monkeypatch.setattr(unseen, "trained_captions", lambda: frozenset())
    two = Settings(steps=2)
    sparse = Sparse(frames=2, fill_steps=2, fill_denoise=1.0)
    for module in (figures_of, roads, samples):
        monkeypatch.setattr(module, "TEXT_TO_VIDEO", Settings(steps=4, cfg=4.0, sparse=sparse))
    for module in (figures_of, samples):
        monkeypatch.setattr(module, "IMAGE", Settings(steps=2, cfg=4.0))
        monkeypatch.setattr(module, "INTERPOLATION", two)
    monkeypatch.setattr(upsampled, "UPSAMPLING", two)
    monkeypatch.setattr(figures_of, "LONG_VIDEO", two)
    monkeypatch.setattr(figures_of, "LONG_FRAMES", 73)
    monkeypatch.setattr(samples, "PREDICTION", two)
    monkeypatch.setattr(samples, "FUTURE", Settings(steps=2, cfg=1.5))
    for module in (upsampled, samples):
        monkeypatch.setattr(module, "LARGE_SIDE", 64)


def measure(*names: str) -> list[Figure]:
    return figures_of.evaluate(lambda line: None, only=names, counts=SMALL)


# --------------------------------------------------------------------------------------------------
# Figures of random models.


def test_shapes_are_counted_in_per_cent_with_rendered_clips_as_the_ceiling(tiny) -> None:
    figures = measure("shapes")
    assert [one.target for one in figures] == [99, 97, 97, 1]
    assert all(0 <= one.value <= 100 for one in figures)
    *recognised, counted = figures
    assert all(one.detail["rendered videos"] == 100 for one in recognised)
    assert figures[0].detail["prompts"] == 2 and figures[0].passed is False
    assert counted.value == 100 <= counted.detail["missing"] + counted.detail["duplicated"]
    assert counted.detail["rendered videos"] == 0 and not counted.passed


def test_driving_is_measured_with_rendered_and_encoded_clips_beside_it(tiny) -> None:
    cars, marks = measure("driving")
    assert cars.detail["rendered videos"] == 100 and 0 <= cars.value <= 100
    assert cars.detail["prompts"] == 2 and cars.bound == "at least"
    assert marks.value == pytest.approx(marks.detail["made"] / marks.detail["encoded"])
    assert 0 < marks.detail["rendered"] < 0.03 and marks.target == 1.5


def test_what_is_read_off_rendered_roads_is_as_told() -> None:
    found: dict[str, list[float]] = {}
    for seed in range(40, 46):
        scene = worlds.sample_scene("driving", seed)
        clip = worlds.render(scene, times=torch.arange(16).numpy(), size=64)
        roads._measure(clip, scene, found)
        other = replace(scene, ego="drifts left" if scene.drift >= 0 else "drifts right", cars=())
        roads._measure(clip, other, found)
    assert found["camera"] == [1.0, 0.0] * 6 and found["lanes"] == found["light"] == [1.0] * 12
    wrong = found["cars"][1::2]
    assert found["cars"][::2] == [1.0] * 6 and any(one == 0 for one in wrong)


def test_shapes_are_looked_for_at_the_end_of_a_long_video(tiny, monkeypatch) -> None:
    lengths: list[int] = []
    plain = Models.predicted

    def predicted(self, *given, frames: int, **more) -> torch.Tensor:
        lengths.append(frames)
        return plain(self, *given, frames=frames, **more)

    monkeypatch.setattr(Models, "predicted", predicted)
    (figure,) = measure("long_shapes")
    assert lengths == [19] and figure.detail["prompts"] == 1
    assert 0 <= figure.value <= 100 and "shape at the start" in figure.detail


def test_what_is_true_at_the_end_is_recognised_there(tiny, monkeypatch) -> None:
    """Only the last 16 frames are examined, whatever comes before them."""
    (scene,) = unseen.unseen_shapes(1, unseen.FIRST_SEED)
    shown = torch.from_numpy(worlds.render(scene, times=torch.arange(16).numpy(), size=64))[None]
    other = torch.full((1, 45, 3, 64, 64), -0.9)
    monkeypatch.setattr(Models, "predicted", lambda *given, **more: torch.cat([other, shown], 1))
    monkeypatch.setattr(Models, "decoded", lambda self, latents, **more: latents)
    (figure,) = measure("long_shapes")
    assert figure.value == 100 and figure.detail["shape at the start"] == 0


def test_untrained_temporal_layers_change_nothing(tiny, monkeypatch) -> None:
    """They are the identity, so the ratio of the warping errors is 1."""
    monkeypatch.setattr(figures_of, "TEXT_TO_VIDEO", figures_of.IMAGE)
    (figure,) = measure("alignment")
    assert figure.value == pytest.approx(1, abs=1e-3) and figure.passed is False
    assert figure.detail["shapes rendered"] < 0.05


def test_the_temporal_decoder_untrained_is_an_image_decoder(tiny, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VIDEOLDM_CLIPS", str(tmp_path))
    flickering, better = measure("decoder")
    assert flickering.unit == "" and better.unit == "dB"
    assert "carphone_pristine.mp4" in flickering.detail["missing"]
    assert {"shapes psnr", "driving psnr frames"} <= set(better.detail)
    assert all(math.isfinite(one.value) for one in (flickering, better))


def test_interpolation_reports_both_worlds_and_both_passes(tiny) -> None:
    (figure,) = measure("interpolation")
    gains = [figure.detail[f"{w} ours"] - figure.detail[f"{w} blend"] for w in run.WORLDS]
    assert figure.value == pytest.approx(sum(gains) / 2)
    assert {"shapes twice ours", "driving twice blend"} <= set(figure.detail)
    # Both passes blend between key frames one base frame apart.
    once, twice = figure.detail["shapes blend"], figure.detail["shapes twice blend"]
    assert once == pytest.approx(twice, abs=3)


def test_the_upsampler_is_compared_with_bicubic_and_with_single_frames(tiny) -> None:
    gain, steady = measure("upsampler")
    assert gain.bound == "at least" and steady.bound == "at most"
    truth = unseen.rendered_videos("shapes", 1, unseen.FIRST_SEED, frames=3, size=64)
    assert gain.detail["shapes bicubic"] == pytest.approx(
        psnr(enlarge(shrink(truth)).clamp(-1, 1), truth), abs=1e-4
    )
    assert gain.value < 0 and math.isfinite(steady.value)


def test_real_clips_that_are_not_there_are_skipped_and_said_to_be(
    tiny, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("VIDEOLDM_CLIPS", str(tmp_path))
    lines: list[str] = []
    figures = figures_of.evaluate(lines.append, only=["upsampler_real"], counts=SMALL)
    assert [one.passed for one in figures] == [None] * 3
    assert "SKIPPED (no video carphone_pristine.mp4" in lines[0]


def test_real_clips_that_are_there_are_measured(tiny, monkeypatch, tmp_path) -> None:
    def short(frames: int) -> tuple[dict[str, torch.Tensor], list[str]]:
        clip = unseen.rendered_videos("driving", 1, unseen.FIRST_SEED, frames=frames, size=48)
        return {"a.mp4": clip}, []

    monkeypatch.setattr(upsampled, "held_out_videos", short)
    distance, below, steady = measure("upsampler_real")
    wanted = distance.detail["a.mp4 spectrum"] / distance.detail["a.mp4 spectrum bicubic"]
    assert distance.value == pytest.approx(wanted)
    assert below.value > 0 and math.isfinite(steady.value)


def test_the_same_seed_gives_the_same_figures(tiny) -> None:
    assert [one.value for one in measure("shapes")] == [one.value for one in measure("shapes")]


def test_an_unknown_name_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="no figure 'shape'; known are shapes, driving, alignment"):
        figures_of.evaluate(only=["shape"])


@pytest.mark.parametrize(
    ("workflow", "node", "expected"),
    [
        ("text_to_video", "VideoLDM_VideoSampler", run.TEXT_TO_VIDEO),
        ("long_video", "VideoLDM_VideoSampler", run.LONG_VIDEO),
        ("interpolate_video", "VideoLDM_InterpolateFrames", run.INTERPOLATION),
        ("upscale_video", "VideoLDM_UpsampleVideo", run.UPSAMPLING),
    ],
)
def test_settings_are_those_of_the_shipped_workflows(
    workflow: str, node: str, expected: Settings
) -> None:
    path = programs.WORKFLOWS / "api" / f"{workflow}.json"
    if not path.is_file():
        pytest.skip(f"no workflow {workflow}")
    nodes = [n["inputs"] for n in json.loads(path.read_text()).values() if n["class_type"] == node]
    assert len(nodes) == 1
    inputs = {"denoise": 1.0} | nodes[0]
    names = {"steps": "steps", "cfg": "cfg", "sampler": "sampler_name", "schedule": "schedule",
             "denoise": "denoise"}  # fmt: skip
    settings = {field: inputs[name] for field, name in names.items()}
    if workflow == "long_video":
        own = inputs["frames"], inputs["strategy.context_frames"], inputs["strategy.passes"]
        assert own == (run.LONG_FRAMES, run.LONG_CONTEXT, 1)
    if expected.sparse:
        names = {"frames": "first_frames", "fill_steps": "fill_steps",
                 "fill_denoise": "fill_denoise"}  # fmt: skip
        found = {field: inputs[f"strategy.{name}"] for field, name in names.items()}
        settings["sparse"] = Sparse(**found)
    assert Settings(**settings) == expected
    assert nodes[0].get("noise_level", run.UPSAMPLING_NOISE_LEVEL) == run.UPSAMPLING_NOISE_LEVEL


# --------------------------------------------------------------------------------------------------
# Evaluation data.


def test_evaluation_prompts_are_in_no_recipe() -> None:
    known = unseen.trained_captions()
    assert len(known) > 2000
    scenes = unseen.unseen_shapes(20, unseen.FIRST_SEED)
    captions = [worlds.caption(scene) for scene in scenes]
    assert not known & set(captions) and len(set(captions)) == 20
    assert [len(scene.objects) for scene in scenes] == [1, 2] * 10
    assert all(worlds.caption(scene) not in known
               for scene in islice(unseen.unseen_scenes("driving", 0), 5))  # fmt: skip


def test_a_real_clip_is_reduced_and_cut_to_sides_that_fit(monkeypatch) -> None:
    def frames_of(path, count):
        yield torch.rand(count, 3, 293, 512) * 2 - 1

    monkeypatch.setattr(unseen, "read_frames", frames_of)
    assert unseen._real_video(Path("some.gif"), 4).shape == (1, 4, 3, 144, 256)


# --------------------------------------------------------------------------------------------------
# Bounds, tables and JSON.


def test_a_figure_is_passed_at_its_bound_and_not_beyond() -> None:
    assert at_least("g", "n", 2.0, 2.0).passed and not at_least("g", "n", 1.9, 2.0).passed
    assert at_most("g", "n", 2.0, 2.0).passed and not at_most("g", "n", 2.1, 2.0).passed
    assert at_most("g", "n", math.nan, 2.0).passed is False
    assert at_most("g", "n", None, 2.0).passed is None


def test_figures_as_a_table_and_as_json() -> None:
    from rich.console import Console

    figures = [at_least("g", "first", 3.0, 2.0, "dB", {"a": 1.5}), at_most("g", "second", None, 1)]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(figures))
    text = console.export_text()
    assert "3.00 dB" in text and "at least 2.00 dB" in text and "not measured" in text
    read = json.loads(as_json(figures))
    assert read[0]["passed"] is True and read[0]["detail"] == {"a": 1.5}
    assert read[1]["value"] is None and read[1]["passed"] is None


# --------------------------------------------------------------------------------------------------
# Programs.


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is Linux's")
def test_time_and_memory_of_a_program_are_its_own() -> None:
    pause = "import time; x = b'1' * ({} * 10**6); time.sleep(0.3)"
    small, large = (
        programs.measure([sys.executable, "-c", pause.format(size)]) for size in (1, 100)
    )
    assert 80e6 < large.peak_rss - small.peak_rss < 120e6
    assert small.peak_rss < 60e6  # this process, with torch in it, has far more
    assert 0.3 <= small.seconds < 10


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="failed: ZeroDivisionError"):
        programs.measure([sys.executable, "-c", "1 / 0"])


def test_memory_of_the_long_workflow_is_compared_between_lengths(monkeypatch) -> None:
    def fake(path, settings=()):
        frames = int(settings[0].split("=")[1]) if settings else 61
        return programs.Measured(seconds=frames / 10, peak_rss=10**9 + frames)

    monkeypatch.setattr(programs, "run_workflow", fake)
    monkeypatch.setattr(programs, "workflow", lambda name: Path(f"{name}.json"))
    (memory,) = measure("long_video")
    assert memory.passed and memory.value == pytest.approx(1, abs=1e-5)
    assert memory.detail["961 frames s"] == pytest.approx(96.1)
    seconds, peak = measure("demo")
    assert seconds.value == pytest.approx(6.1) and peak.unit == "GB" and peak.passed


def test_a_workflow_that_is_not_there_is_skipped(monkeypatch) -> None:
    monkeypatch.setattr(programs, "workflow", lambda name: None)
    assert [one.passed for one in measure("long_video", "demo")] == [None] * 3


# --------------------------------------------------------------------------------------------------
# Contact sheets.


def test_contact_sheets_of_every_task_are_written(tiny, tmp_path) -> None:
    written = samples.write_samples(tmp_path, report=lambda line: None, samples=1, segment_frames=5)
    assert [path.stem for path in written] == list(samples.SHEETS)
    assert all(path.is_file() and path.stat().st_size > 1000 for path in written)


def test_one_seed_after_the_other_is_sampled(tiny) -> None:
    """The second of two videos made together is the first of those made from the next seed."""
    models = Models()
    text = models.text(["a red square moves left on a black background"])
    settings = Settings(steps=2, cfg=3.0)
    both = models.videos(
        models.text_to_video, text.expand(2, -1, -1), settings, 5, frames=3, side=32
    )
    alone = models.videos(models.text_to_video, text, settings, 6, frames=3, side=32)
    assert torch.allclose(both[1:], alone, atol=1e-4) and not torch.allclose(both[:1], alone)
