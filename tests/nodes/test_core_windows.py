"""The stand-in for ComfyUI's Context Windows (Manual)."""

import pytest
import torch
from videoldm.core.diffusion.noise import free_noise
from videoldm.core.tasks.windows import covering
from videoldm.nodes.host.standalone.context_windows import ContextWindows

USUAL = {
    "context_length": 4, "context_overlap": 1, "context_schedule": "standard_static",
    "context_stride": 1, "closed_loop": False, "fuse_method": "pyramid", "freenoise": False,
    "causal_window_fix": False,
}  # fmt: skip


@pytest.fixture
def ksample(run, parts):
    def call(model, frames=9):
        latent = run("EmptyLatentImage", width=16, height=16, batch_size=frames)
        return run("KSampler", model=model, latent_image=latent, seed=3, steps=2, cfg=2.0,
                   sampler_name="euler", scheduler="simple", denoise=1.0,
                   positive=parts["positive"], negative=parts["negative"])["samples"]  # fmt: skip

    return call


@pytest.fixture
def windowed(run):
    return lambda model, **changed: run("ContextWindowsManual", model=model, **USUAL | changed)


def test_frames_that_know_nothing_of_each_other_stay_the_same(run, parts, ksample, windowed):
    plain = ksample(parts["model"])
    for changed in (
        {}, {"causal_window_fix": True}, {"context_schedule": "batched"},
        {"context_schedule": "standard_uniform", "context_stride": 2},
        {"context_schedule": "looped_uniform", "closed_loop": True, "fuse_method": "relative"},
    ):  # fmt: skip
        seen = ksample(windowed(parts["model"], **changed))
        torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-4)


def test_windows_and_the_frame_before_matter_to_temporal_layers(ksample, windowed, video_model):
    model = video_model()
    plain, seen = ksample(model), ksample(windowed(model))
    anchored = ksample(windowed(model, causal_window_fix=True))
    assert (plain - seen).abs().max() > 1e-3 and (seen - anchored).abs().max() > 1e-4
    torch.testing.assert_close(ksample(windowed(model), frames=4), ksample(model, frames=4))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("schedule", [
    "standard_static", "standard_uniform", "looped_uniform", "batched",
])  # fmt: skip
def test_plans_cover_every_frame(schedule, stride):
    how = ContextWindows(schedule=schedule, length=16, overlap=4, stride=stride, closed=False,
                         fuse="flat", free_noise=False, anchored=False)  # fmt: skip
    for frames in range(17, 70):
        for step in range(5):
            covering(how.windows(frames, step), frames)


def test_noise_is_shuffled_as_freenoise_does():
    how = ContextWindows(schedule="batched", length=4, overlap=1, stride=1, closed=False,
                         fuse="flat", free_noise=True, anchored=False)  # fmt: skip
    noise = torch.randn(1, 9, 1, 1, 1)
    assert torch.equal(how.shuffled(noise, 7), free_noise(noise, 4, 1, 7))
    assert torch.equal(how.shuffled(noise[:, :4], 7), noise[:, :4])


def test_what_is_not_known_here_is_refused(parts, windowed):
    for changed, text in (
        ({"context_overlap": 4}, "context_overlap 4 must be smaller than context_length 4"),
        ({"dim": 2}, "axis 0 of the latents here, but dim is 2"),
        ({"latent_retain_index_list": "0"}, "latent_retain_index_list is not supported outside"),
        ({"split_conds_to_windows": True}, "split_conds_to_windows is not supported outside"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            windowed(parts["model"], **changed)
