"""FreeInit on a MODEL takes effect in the Video Sampler and in the stand-in for KSampler."""

import pytest
import torch
from node_inputs import strategy
from videoldm.core.diffusion.free_init import FILTERS
from videoldm.nodes.choices import FREQUENCY_FILTERS


@pytest.fixture
def again(run, video_model):
    """again(iterations) returns a video model with FreeInit on it."""
    return lambda count: run("VideoLDM_FreeInit", model=video_model(), iterations=count)


@pytest.fixture
def ksample(run, parts):
    def call(model, **changed):
        how = {"seed": 3, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
        prompts = {"positive": parts["positive"], "negative": parts["negative"]}
        latent = run("EmptyLatentImage", width=16, height=16, batch_size=4)
        given = {"latent_image": latent, "denoise": 1.0, **how, **prompts, **changed}
        return run("KSampler", model=model, **given)["samples"]

    return call


def test_the_filters_offered_are_those_that_there_are():
    assert sorted(FREQUENCY_FILTERS) == sorted(FILTERS)


@pytest.mark.parametrize("name", ["single clip", "sliding windows", "prediction"])
def test_the_video_sampler_samples_again(sample, video_model, again, name):
    own = {} if name == "single clip" else {"window": 4}
    own |= {"overlap": 1} if name == "sliding windows" else {}
    chosen = strategy(name, **own)
    plain = sample(video_model(), frames=6, **chosen)["samples"]
    torch.testing.assert_close(sample(again(1), frames=6, **chosen)["samples"], plain)
    twice = sample(again(2), frames=6, **chosen)["samples"]
    assert (twice - plain).abs().max() > 0.01 and torch.isfinite(twice).all()
    assert torch.equal(sample(again(2), frames=6, **chosen)["samples"], twice)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_the_stand_in_for_cores_sampler_samples_again(ksample, video_model, again, sampler):
    plain = ksample(video_model(), sampler_name=sampler)
    torch.testing.assert_close(ksample(again(1), sampler_name=sampler), plain)
    three = ksample(again(3), sampler_name=sampler)
    assert (three - plain).abs().max() > 0.01 and torch.isfinite(three).all()


def test_a_video_that_is_changed_is_refused(sample, ksample, again):
    start = {"samples": torch.ones(4, 4, 2, 2)}
    for call in (
        lambda: ksample(again(2), latent_image=start, denoise=0.5),
        lambda: sample(again(2), frames=4, **strategy(
            "video to video", latent={"samples": torch.ones(4, 4, 4, 4)}, denoise=0.5)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="FreeInit makes videos from noise alone"):
            call()


def test_it_has_no_effect_where_no_sampler_heeds_it(run, sample, video_model, parts, caplog):
    clip, model = sample(video_model(), frames=3), video_model("interpolation")
    prompts = {"positive": parts["positive"], "negative": parts["negative"]}
    for node in ("VideoLDM_FreeInit", "VideoLDM_ReferenceWindow"):
        model = run(node, model=model)
    given = dict(latent=clip, passes=1, steps=1, cfg=1.0, seed=1, **prompts)
    run("VideoLDM_InterpolateFrames", model=model, **given)
    for name in ("FreeInit", "Reference Window"):
        assert f"{name} on the model has no effect in Interpolate Frames" in caplog.text


def test_it_has_no_effect_on_the_other_models_of_a_strategy(
    run, sample, video_model, again, caplog
):
    between = video_model("interpolation")
    for node in ("VideoLDM_FreeInit", "VideoLDM_ReferenceWindow"):
        between = run(node, model=between)
    predicts = run("VideoLDM_FreeInit", model=video_model("prediction"), iterations=2)
    how = dict(window=5, passes=1, prediction_model=predicts, interpolation_model=between)
    sample(again(2), frames=18, **strategy("hierarchical", **how))
    for name in ("FreeInit", "Reference Window"):
        words = f"{name} on the interpolation_model has no effect in hierarchical"
        assert words in caplog.text
    assert "the prediction_model" not in caplog.text  # it takes the FreeInit of the sampler's model
    sample(video_model(), frames=18, **strategy("hierarchical", **how))
    assert "FreeInit on the prediction_model has no effect in hierarchical" in caplog.text
