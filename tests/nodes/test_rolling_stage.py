"""The strategy rolling of the Video Sampler."""

import pytest
import torch
from node_inputs import strategy
from videoldm.core.diffusion.samplers import SAMPLERS

ROLL = {"window": 4, "lookahead": False}


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_as_many_frames_as_asked_for_in_windows_of_one_length(sample, video_model, lookahead, eta):
    how = strategy("rolling", window=4, lookahead=lookahead, eta=eta)
    samples = sample(video_model(), frames=9, steps=5, **how)["samples"]
    assert samples.shape[0] == 9 and torch.isfinite(samples).all()
    again = sample(video_model(), frames=9, steps=5, **how)["samples"]
    assert torch.equal(samples, again)


def test_a_longer_video_begins_like_a_shorter_one(sample, video_model):
    how = strategy("rolling", **ROLL)
    short, long = (sample(video_model(), frames=n, steps=4, **how)["samples"] for n in (3, 19))
    assert torch.equal(long[:3], short)


def test_lookahead_and_eta_change_the_video(sample, video_model):
    def made(**more):
        return sample(video_model(), frames=6, steps=4, **strategy("rolling", **ROLL | more))

    plain = made()["samples"]
    for more in ({"lookahead": True}, {"eta": 1.0}):
        assert (made(**more)["samples"] - plain).abs().max() > 1e-3


def test_guidance_is_rescaled_beside_finished_frames(sample, video_model):
    how = strategy("rolling", window=4, lookahead=True)
    given = dict(frames=6, steps=5, cfg=4.0, **how)
    plain, rescaled = (
        sample(video_model(), guidance_rescale=phi, **given)["samples"] for phi in (0.0, 0.7)
    )
    assert torch.isfinite(rescaled).all() and not torch.equal(rescaled, plain)


def test_the_sampler_is_for_the_first_window(sample, video_model):
    how, video = strategy("rolling", **ROLL), {}
    for name in SAMPLERS:
        made = sample(video_model(), frames=5, steps=4, sampler_name=name, **how)
        video[name] = made["samples"]
        assert torch.isfinite(video[name]).all()
    # DDIM takes Euler's steps.
    alike = {name for name in SAMPLERS if torch.allclose(video[name], video["ddim"], atol=1e-3)}
    assert alike == {"ddim", "euler"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"steps": 3}, "steps 3 must be at least window 4"),
        ({"schedule": "as published"}, "cannot be used with rolling"),
    ],
)
def test_settings_that_do_not_fit_are_refused(sample, video_model, more, words):
    with pytest.raises(ValueError, match=words):
        sample(video_model(), frames=5, **{"steps": 4, **more}, **strategy("rolling", **ROLL))


def test_free_init_is_refused(run, sample, video_model):
    model = run("VideoLDM_FreeInit", model=video_model())
    with pytest.raises(ValueError, match="rolling never has one"):
        sample(model, frames=5, steps=4, **strategy("rolling", **ROLL))
