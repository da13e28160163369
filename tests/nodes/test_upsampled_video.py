"""Upsample Video turns a VIDEO into a VIDEO chunk by chunk."""

from __future__ import annotations

import weakref

import pytest
import torch
from media_toys import RATE, ramp
from videoldm.core.graph.schema import Blocked
from videoldm.core.media.files import AudioClip, VideoStream
from videoldm.nodes.choices import BORDERS
from videoldm.nodes.host.standalone.video import StandaloneVideo

NODE, STEPS = "VideoLDM_UpsampleVideo", {"steps": 2, "chunk": 4, "overlap": 1}


@pytest.fixture
def upsampled(run, parts):
    """upsampled(images, **inputs) returns (LATENT, VIDEO)."""
    model, _, vae = run("VideoLDM_LoadUpsampler").values
    prompts = {name: parts[name] for name in ("positive", "negative")}

    def call(images, **inputs):
        given = {"vae": vae, **STEPS, **prompts, **inputs}
        return run(NODE, model=model, images=images, **given).values

    call.vae = vae
    return call


@pytest.fixture
def small():
    """A VIDEO of 7 frames of 12x8 at 5 per second, with sound, in chunks of 3."""
    pixels = torch.rand(7, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    sound = AudioClip(ramp(7 / 5), RATE)
    return StandaloneVideo(VideoStream.from_tensor(pixels, 5, audio=sound, chunk=3))


@pytest.mark.parametrize("borders", BORDERS)
def test_a_video_is_upsampled_as_its_frames_are(run, upsampled, small, borders):
    images = small.get_components().images
    by_images, nothing = upsampled(images, borders=borders)
    by_video, video = upsampled(small, borders=borders)
    torch.testing.assert_close(by_video["samples"], by_images["samples"], atol=1e-4, rtol=1e-4)
    assert isinstance(nothing, Blocked) and "where a video is connected" in nothing.message
    assert (video.get_dimensions(), video.get_frame_count()) == ((48, 32), 7)
    assert video.get_frame_rate() == 5
    assert torch.equal(video.stream.audio().waveform, small.stream.audio().waveform)
    decoded = run("VideoLDM_TemporalVAEDecode", samples=by_video, vae=upsampled.vae)
    torch.testing.assert_close(video.get_components().images, decoded, atol=1e-5, rtol=1e-5)


def test_without_a_vae_the_output_video_says_what_is_missing(upsampled, small):
    latent, video = upsampled(small, vae=None)
    assert latent["samples"].shape[0] == 7
    assert isinstance(video, Blocked) and "a VAE to its input vae" in video.message


def test_no_more_than_a_chunk_is_read_or_decoded_at_a_time(upsampled, small, monkeypatch):
    read, source = [], small.stream.source

    def counted():
        for chunk in source():
            read.append(len(chunk))
            yield chunk

    monkeypatch.setattr(VideoStream, "frames_tensor", None)  # It would hold all frames in memory.
    stream = VideoStream(counted, small.stream.frame_rate, 7, 12, 8)
    _, video = upsampled(StandaloneVideo(stream))
    assert read == [3, 3, 1]
    assert [len(chunk) for chunk in video.stream.chunks()] == [4, 3]


def test_tiles_of_the_video_are_those_of_the_decoder(upsampled, small):
    _, video = upsampled(small, tile=8, tile_overlap=2)
    assert video.stream.frames_tensor().shape == (7, 3, 32, 48)


def test_a_video_is_back_projected_to_a_video(run, upsampled, small):
    _, video = upsampled(small)
    images = small.get_components().images
    held, expected = (
        run("VideoLDM_BackProjection", video=video, images=given).stream.frames_tensor()
        for given in (small, images)
    )
    torch.testing.assert_close(held, expected, atol=1e-5, rtol=1e-5)
    other = StandaloneVideo(small.stream.part(0, 6))
    with pytest.raises(ValueError, match="6 low-resolution frames cannot belong to a video of 7"):
        run("VideoLDM_BackProjection", video=video, images=other)


def test_a_video_is_in_memory_once_when_all_of_its_frames_are_asked_for():
    held = []

    def chunks():
        for k in range(5):
            chunk = torch.full((4, 4, 2, 2), k / 10)
            held.append(weakref.ref(chunk))
            yield chunk
            del chunk
            assert all(one() is None for one in held[:-1])

    stream = VideoStream(chunks, 5, 20, 2, 2, channels=4)
    parts = StandaloneVideo(stream).get_components()
    expected = ((torch.arange(5) / 10 + 1) / 2).repeat_interleave(4)
    assert torch.equal(parts.images, expected.reshape(20, 1, 1, 1).expand(20, 2, 2, 3))
    assert torch.equal(parts.alpha, expected.reshape(20, 1, 1, 1).expand(20, 2, 2, 1))
