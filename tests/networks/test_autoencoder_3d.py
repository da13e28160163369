"""The 3D autoencoder: shapes, padding, overlapped decoding, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from model_toys import fill, normal
from videoldm.core.networks.autoencoder_3d import (
    Autoencoder3D,
    Autoencoder3DConfig,
    SameConvTranspose3d,
    phases_of,
    same_padding,
    transposed_of,
)
from videoldm.core.tasks.decoding import decode
from videoldm.core.tasks.overlapped_decoding import Window, decode_overlapped, overlapped_windows

CONFIG = Autoencoder3DConfig(width=16, factors=(4, 2, 2), scale=0.5, shift=1.5)


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return fill(Autoencoder3D(CONFIG).eval().requires_grad_(False), scale=0.1)


@pytest.mark.parametrize(
    "factors, strides",
    [
        ((4, 8, 8), [(2, 2, 2), (2, 2, 2), (1, 2, 2)]),
        ((1, 2, 2), [(1, 2, 2)]),
        ((4, 2, 2), [(2, 2, 2), (2, 1, 1)]),
    ],
)
def test_time_is_reduced_first(factors, strides):
    assert Autoencoder3DConfig(factors=factors).strides == strides


def test_the_larger_half_of_the_padding_stands_in_front():
    assert same_padding(3, (1, 1, 1)) == [1, 1, 1, 1, 1, 1]
    assert same_padding(4, (1, 2, 2)) == [1, 1, 1, 1, 2, 1]
    with pytest.raises(ValueError, match="powers of 2"):
        Autoencoder3DConfig(factors=(3, 8, 8))


@pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_phases_are_a_transposed_convolution(strides):
    layer = SameConvTranspose3d(3, 5, strides)
    weight, bias, h = normal(3, 5, 4, 4, 4), normal(5, seed=1), normal(2, 3, 2, 3, 4, seed=2)
    layer.conv.weight.data, layer.bias.data = phases_of(weight, strides), bias
    padded = F.pad(h, same_padding(4, strides), mode="replicate")
    expected = F.conv_transpose3d(padded, weight, bias, stride=strides, padding=3)
    torch.testing.assert_close(layer(h), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(transposed_of(phases_of(weight, strides), strides), weight)


@pytest.mark.parametrize("frames, height, width", [(4, 2, 2), (8, 6, 10), (12, 8, 4)])
def test_sizes(autoencoder, frames, height, width):
    video = normal(2, frames, 3, height, width)
    latents = autoencoder.encode(video)
    assert latents.shape == (2, frames // 4, 4, height // 2, width // 2)
    assert autoencoder(latents).shape == video.shape


def test_latents_are_shifted_then_scaled(autoencoder):
    raw = torch.tensor([-1.5, 0.0, 2.0])
    assert autoencoder.scaled(raw).tolist() == [0.0, 0.75, 1.75]
    torch.testing.assert_close(autoencoder.unscaled(autoencoder.scaled(raw)), raw)


def test_a_sample_is_drawn_from_the_noise_that_is_given(autoencoder):
    video, noise = normal(1, 4, 3, 4, 4), normal(1, 1, 4, 2, 2, seed=5)
    found = autoencoder.posterior(video)
    got = autoencoder.encode(video, noise)
    torch.testing.assert_close(got, autoencoder.scaled(found.mean + found.std * noise))
    torch.testing.assert_close(autoencoder.encode(video), autoencoder.scaled(found.mean))


@pytest.mark.parametrize(
    "frames, words", [(7, "do not divide 7; the nearest that fit: 4 and 8"), (3, "fit: 4\\.")]
)
def test_frames_that_do_not_fit_are_refused_with_those_that_do(autoencoder, frames, words):
    with pytest.raises(ValueError, match=words):
        autoencoder.encode(normal(1, frames, 3, 4, 4))


def test_or_the_last_frame_is_repeated(autoencoder):
    video = normal(1, 6, 3, 4, 4)
    longer = torch.cat([video, video[:, -1:], video[:, -1:]], dim=1)
    assert torch.equal(autoencoder.encode(video, pad=True), autoencoder.encode(longer))
    assert torch.equal(autoencoder.encode(longer, pad=True), autoencoder.encode(longer))


def test_sizes_that_do_not_fit_are_refused(autoencoder):
    with pytest.raises(ValueError, match="5x4 must be divisible by 2x2"):
        autoencoder.encode(normal(1, 4, 3, 4, 5))
    with pytest.raises(ValueError, match=r"\[b, t, 4, h, w\], got shape \[1, 2, 3, 2, 2\]"):
        autoencoder(normal(1, 2, 3, 2, 2))


def test_latent_ranges_and_frames(autoencoder):
    assert autoencoder.temporal_factor == 4
    assert autoencoder.frames_of(range(2, 5)) == range(8, 20)
    assert autoencoder.latents_of(range(8, 20)) == range(2, 5)
    assert autoencoder.latents_of(range(7, 9)) == range(1, 3)


def test_a_frame_depends_on_every_latent_that_is_decoded_with_it(autoencoder):
    assert autoencoder.reach is None
    latents = normal(1, 6, 4, 2, 2)
    changed = latents.clone()
    changed[:, 5] += 5
    moved = (autoencoder(changed) - autoencoder(latents)).abs().amax((0, 2, 3, 4))
    assert (moved > 1e-6).all()


# ------------------------------------------------------------------------------------ overlapped


def test_windows_keep_what_is_farther_from_their_ends():
    assert overlapped_windows(11, 4, 2) == [
        Window(0, 4, 0, 3),
        Window(2, 6, 3, 5),
        Window(4, 8, 5, 7),
        Window(6, 10, 7, 9),
        Window(8, 11, 9, 11),
    ]
    # With an odd overlap, the earlier window keeps the larger half.
    assert overlapped_windows(9, 5, 3)[:2] == [Window(0, 5, 0, 4), Window(2, 7, 4, 6)]


def test_windows_cover_every_latent_once_whatever_their_sizes():
    for latents in range(1, 20):
        for window in range(1, 8):
            for overlap in range(window):
                windows = overlapped_windows(latents, window, overlap)
                kept = [k for one in windows for k in range(one.first, one.last)]
                assert kept == list(range(latents))
                assert all(o.start <= o.first < o.last <= o.stop for o in windows)
                # The first window that reaches the end is the last.
                assert [o.stop == latents for o in windows].index(True) == len(windows) - 1


def test_decoding_does_not_depend_on_how_latents_arrive(autoencoder):
    latents = normal(1, 7, 4, 2, 2)
    how = dict(window=4, overlap=2)
    whole = list(decode_overlapped(autoencoder, latents, **how))
    parts = list(decode_overlapped(autoencoder, latents.split(2, dim=1), **how))
    assert len(whole) == len(parts) == 3 and [p.shape[1] for p in whole] == [12, 8, 8]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    with torch.no_grad():
        first = autoencoder(latents[:, :4])
    assert torch.equal(whole[0], first[:, :12])
    assert list(decode_overlapped(autoencoder, [], **how)) == []


def test_latents_are_read_as_they_are_needed(autoencoder):
    read = []

    def source():
        for k in range(9):
            read.append(k)
            yield normal(1, 1, 4, 2, 2, seed=k)

    made = decode_overlapped(autoencoder, source(), window=3, overlap=1)
    next(made)
    assert len(read) == 4  # a window, and one latent more to see that it is not the last
    assert sum(part.shape[1] for part in made) == 4 * 9 - 12


@pytest.mark.parametrize("overlap", [-1, 4, 5])
def test_windows_that_do_not_move_on_are_refused_at_once(autoencoder, overlap):
    with pytest.raises(ValueError, match="must overlap by 0 to 3, not"):
        decode_overlapped(autoencoder, normal(1, 5, 4, 2, 2), window=4, overlap=overlap)


def test_latents_that_are_not_numbers_are_refused_by_frame(autoencoder):
    latents = normal(1, 6, 4, 2, 2)
    latents[:, 4] = float("nan")
    made = decode_overlapped(autoencoder, latents, window=4, overlap=1)
    assert next(made).shape[1] == 16
    with pytest.raises(ValueError, match="first of them in frame 4"):
        next(made)


def test_chunks_are_blended_linearly_over_the_frames_that_both_contain(autoencoder):
    """`decode` knows that this decoder is not local, and its temporal factor of 4: chunks with a
    reach of 1 latent frame have 2 in common, hence 8 frames."""
    latents = normal(1, 8, 4, 2, 2)
    made = torch.cat(list(decode(autoencoder, latents, chunk=4, reach=1)), dim=1)
    assert made.shape == (1, 32, 3, 4, 4)
    with torch.no_grad():
        earlier, later = autoencoder(latents[:, :5]), autoencoder(latents[:, 3:])
    weight = (torch.arange(1, 9) / 9).reshape(1, -1, 1, 1, 1)
    blended = (1 - weight) * earlier[:, 12:] + weight * later[:, :8]
    expected = torch.cat([earlier[:, :12], blended, later[:, 8:]], dim=1)
    torch.testing.assert_close(made, expected)
    assert not torch.allclose(earlier[:, 12:], later[:, :8], atol=1e-2)
