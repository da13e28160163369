"""Lengths of a Video Sampler request are converted into latent frames."""

import pytest
from videoldm.nodes.choices import SLIDING_WINDOWS, VIDEO_TO_VIDEO, WHOLE
from videoldm.nodes.stages.strategy import Strategy
from videoldm.nodes.stages.video_request import VideoRequest, in_latents


def request(name: str, **own) -> VideoRequest:
    chosen = Strategy(name=name, context_frames=4, **own)
    return VideoRequest(
        width=16, height=16, frames=9, cfg=1.0, guidance_rescale=0.0, strategy=chosen
    )


@pytest.mark.parametrize("name", WHOLE)
def test_a_window_that_nothing_reads_need_not_fit(name):
    found = in_latents(3, request(name))
    assert found.frames == 3 and found.strategy.context_frames == 2


@pytest.mark.parametrize("own", [
    dict(name=SLIDING_WINDOWS), dict(name=VIDEO_TO_VIDEO, windows=SLIDING_WINDOWS),
    dict(name="prediction"), dict(name="rolling"),
], ids=str)  # fmt: skip
def test_windows_have_to_fit(own):
    with pytest.raises(ValueError, match="window 16 does not fit.*take 15 or 18"):
        in_latents(3, request(**own))
    assert in_latents(3, request(**own, window=15)).strategy.window == 5
