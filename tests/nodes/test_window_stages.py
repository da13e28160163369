"""The Video Sampler's windows, and context frames at chosen positions."""

import pytest
import torch
from node_inputs import strategy


@pytest.mark.parametrize("schedule", ["static", "uniform", "looped", "batched"])
def test_windows_of_every_schedule_run(sample, video_model, schedule):
    how = strategy("sliding windows", window=4, overlap=1, window_schedule=schedule, strides=2,
                   fuse="overlap-linear")  # fmt: skip
    latent = sample(video_model(), frames=9, **how)
    assert latent["samples"].shape == (9, 4, 4, 4) and torch.isfinite(latent["samples"]).all()


def test_layers_that_cannot_see_views_are_named(sample, video_model):
    with pytest.raises(ValueError, match="cannot see views: take another window_schedule"):
        sample(video_model(), frames=9, **strategy("sliding windows", window_schedule="views"))


def test_a_long_video_is_changed_in_windows(sample, video_model):
    model = video_model()
    start = sample(model, frames=9, **strategy("sliding windows", window=4, overlap=1))

    def changed(window, denoise=0.3):
        chosen = strategy("video to video", latent=start, denoise=denoise,
                          windows="sliding windows", windows__window=window,
                          windows__overlap=2)  # fmt: skip
        return sample(model, frames=9, **chosen)["samples"]

    whole = strategy("video to video", latent=start, denoise=0.3)
    together = sample(model, frames=9, **whole)["samples"]
    torch.testing.assert_close(changed(9), together, rtol=1e-4, atol=1e-5)
    assert (changed(4) - together).abs().max() > 1e-3
    far, near = ((changed(4, one) - start["samples"]).abs().mean() for one in (0.9, 0.01))
    assert near < 0.5 * far


@pytest.mark.parametrize("name", ["single clip", "sliding windows"])
def test_frames_of_context_stand_at_their_places(sample, video_model, name):
    given = sample(video_model(), frames=2, seed=9)["samples"]
    own = {"window": 4, "overlap": 1} if name == "sliding windows" else {}
    for layers, hold in (("prediction", False), ("text to video", True)):
        chosen = strategy(name, context_positions="3, -1", hold_context=hold, **own)
        video = sample(video_model(layers), frames=7, context={"samples": given}, **chosen)
        kept = video["samples"]
        torch.testing.assert_close(kept[[3, 6]], given, rtol=1e-4, atol=1e-4)
        assert not torch.isclose(kept[0], given[0]).all()


def test_as_many_places_as_frames_of_context(sample, video_model):
    given = {"samples": torch.zeros(2, 4, 4, 4)}
    with pytest.raises(ValueError, match="context has 2 frames, but context_positions names 3"):
        sample(video_model("prediction"), frames=7, context=given,
               **strategy(context_positions="0, 1, 2"))  # fmt: skip


def test_settings_that_a_prompt_leaves_out_have_their_defaults():
    """ComfyUI passes None for inputs that a prompt leaves out."""
    from videoldm.nodes.stages.strategy import Strategy, read_strategy

    given = {"strategy": "sliding windows", "window": 8, "fuse": None, "window_schedule": None}
    assert read_strategy(given) == Strategy(name="sliding windows", window=8)
    given = {"strategy": "video to video", "denoise": 0.5, "windows": None}
    assert read_strategy(given) == Strategy(name="video to video", denoise=0.5)
    inside = {"windows": "sliding windows", "window": 4, "fuse": None}
    assert read_strategy({**given, "windows": inside}).window == 4


def test_a_second_pass_at_twice_the_size_gives_each_frame_its_own_noise(run, parts, sample):
    """With an image model, a frame depends only on the seed and its index, not on the windows or
    the number of frames."""
    first = sample(parts["model"], frames=9)
    larger = run("LatentUpscaleBy", samples=first, upscale_method="bislerp", scale_by=2.0)

    def changed(frames, **windows):
        latent = {"samples": larger["samples"][:frames]}
        chosen = strategy("video to video", latent=latent, denoise=0.6, **windows)
        return sample(parts["model"], frames=frames, width=32, height=32, **chosen)["samples"]

    in_windows = changed(9, windows="sliding windows", windows__window=4, windows__overlap=2)
    assert in_windows.shape == (9, 4, 8, 8)
    torch.testing.assert_close(in_windows, changed(9), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(in_windows[:5], changed(5), rtol=1e-4, atol=1e-4)
