import weakref

import numpy as np
import pytest
import torch
from model_toys import fill, normal, peak_tensors, whole
from videoldm.core.networks.autoencoder import (
    AutoencoderConfig,
    TemporalDecoder,
    build_autoencoder,
    decode_frames,
)
from videoldm.core.tasks.decoding import decode

LATENTS = normal(1, 61, 4, 3, 4)


@pytest.fixture(scope="module")
def autoencoder():
    config = AutoencoderConfig(channels=(16, 16), latent_channels=4, scale=0.7, shift=0.1)
    return build_autoencoder(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def decoder(autoencoder):
    decoder = TemporalDecoder(autoencoder).eval().requires_grad_(False)
    fill(decoder.temporal, scale=0.1)
    return decoder


@pytest.fixture(scope="module")
def expected(decoder):
    return decoder(LATENTS)


@pytest.mark.parametrize("chunk", [1, 4, 8, 16, 61, 100])
def test_pixels_do_not_depend_on_the_chunk(decoder, expected, chunk):
    chunks = list(decode(decoder, LATENTS, chunk=chunk))
    assert [c.shape[1] for c in chunks] == [min(chunk, 61 - s) for s in range(0, 61, chunk)]
    torch.testing.assert_close(whole(chunks), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_latents_may_come_in_chunks_of_any_size(decoder, expected, size):
    stream = (part for part in LATENTS.split(size, dim=1))
    torch.testing.assert_close(whole(decode(decoder, stream)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("reach", [0, 2, 5, 6, 9])
def test_every_frame_comes_out_once_whatever_the_overlap(decoder, frames, reach):
    pixels = whole(decode(decoder, LATENTS[:, :frames], chunk=10, reach=reach))
    assert pixels.shape == (1, frames, 3, 6, 8)


def test_the_reach_is_needed_and_blending_is_the_next_best_thing(decoder, expected):
    def error(reach):
        return (whole(decode(decoder, LATENTS, chunk=12, reach=reach)) - expected).abs().max()

    assert error(decoder.reach) < 1e-5
    assert error(4) < error(2) < error(0)
    assert error(2) > 1e-4


def test_blending_ramps_from_the_earlier_chunk_to_the_later_one():
    calls = iter(range(1, 100))

    def counting(latents):
        return torch.full_like(latents, next(calls))

    counting.reach = 5
    pixels = whole(decode(counting, LATENTS[:, :12], chunk=6, reach=2))[0, :, 0, 0, 0]
    ramp = 1 + torch.arange(1, 5) / 5
    torch.testing.assert_close(pixels, torch.cat([torch.ones(4), ramp, 2 * torch.ones(4)]))


def test_the_image_decoder_works_frame_by_frame(autoencoder):
    expected = decode_frames(autoencoder, LATENTS[:, :9])
    pixels = whole(decode(autoencoder, LATENTS[:, :9], chunk=4))
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_one_tile_is_the_whole_frame_and_tiles_agree_away_from_their_borders(decoder):
    latents = normal(1, 5, 4, 12, 12)
    expected = decoder(latents)
    one = whole(decode(decoder, latents, tile=12, tile_overlap=2))
    torch.testing.assert_close(one, expected, atol=1e-5, rtol=0)

    def near(z):
        return torch.nn.functional.avg_pool3d(z, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)

    tiles = whole(decode(near, latents, tile=8, tile_overlap=4))
    exact = near(latents)
    torch.testing.assert_close(tiles[..., :4, :4], exact[..., :4, :4])
    assert (tiles - exact).abs().max() < (latents - exact).abs().max()


def test_by_default_16_frames_at_a_time_and_tiles_that_share_8_positions(decoder):
    assert [c.shape[1] for c in decode(decoder, LATENTS)] == [16, 16, 16, 13]
    seen = []

    def note(latents):
        seen.append(latents)
        return latents

    row = torch.arange(20.0).expand(1, 1, 1, 20, 20)
    list(decode(note, row, tile=12))
    assert {(int(z[0, 0, 0, 0, 0]), z.shape[-1]) for z in seen} == {(0, 12), (4, 12), (8, 12)}


@pytest.mark.parametrize("reach", [0, 3, 7])
def test_no_more_latents_are_held_than_a_chunk_and_its_neighbours(reach):
    alive = []

    def source():
        for _ in range(60):
            frame = np.zeros((1, 1, 1, 2, 2), np.float32)  # Lives as long as tensors that view it.
            alive.append(weakref.ref(frame))
            yield torch.from_numpy(frame)

    function = lambda z: z.clone()  # noqa: E731
    function.reach = reach
    for _ in decode(function, source(), chunk=8):
        held = sum(one() is not None for one in alive)
        assert 0 < held <= 8 + 2 * reach


def test_what_is_finished_holds_no_memory_of_its_neighbours(decoder):
    chunks = list(decode(decoder, LATENTS[:, :24], chunk=8))
    assert len(chunks) == 3
    for chunk in chunks:
        assert chunk.untyped_storage().nbytes() == chunk.numel() * chunk.element_size()


def test_memory_does_not_grow_with_the_length():
    def peak(frames):
        source = (torch.zeros(1, 5, 1, 2, 2) for _ in range(frames // 5))
        function = lambda z: z.clone()  # noqa: E731
        function.reach = 3
        return peak_tensors(decode(function, source, chunk=8))

    peak(40)
    assert peak(400) <= peak(80) + 2


def test_errors_name_the_numbers(decoder):
    with pytest.raises(ValueError, match="chunk 3 must be at least 2 x 2"):
        decode(decoder, LATENTS, chunk=3, reach=2)
    with pytest.raises(ValueError, match="chunk 0 must be at least 1"):
        decode(decoder, LATENTS, chunk=0)
    with pytest.raises(ValueError, match="8 must be smaller than the tile 8"):
        decode(decoder, LATENTS, tile=8, tile_overlap=8)
    with pytest.raises(ValueError, match=r"\[1, 4, 3, 4\]"):
        list(decode(decoder, LATENTS[:, 0]))
    with pytest.raises(ValueError, match=r"\[1, 4, 2, 2\] follows frames of shape \[1, 4, 3, 4\]"):
        list(decode(decoder, [LATENTS[:, :20], LATENTS[..., :2, :2]]))


def test_what_is_finished_is_yielded_before_latents_that_are_not_numbers():
    latents = LATENTS.clone()
    latents[0, 40, 1, 2, 3] = float("nan")
    finished = []
    with pytest.raises(ValueError, match="1 of .* not a number"):
        for chunk in decode(lambda z: z, latents, chunk=16):
            finished.append(chunk)
    assert len(finished) == 2


class Doubling:
    """Two frames per latent, from it and its neighbours, or (`reach=None`) from all latents."""

    temporal_factor = 2

    def __init__(self, reach):
        self.reach = reach

    def __call__(self, latents):
        if self.reach is None:
            mixed = latents + latents.mean(1, keepdim=True)
        else:
            padded = torch.cat([0 * latents[:, :1], latents, 0 * latents[:, :1]], dim=1)
            mixed = padded[:, :-2] + latents + padded[:, 2:]
        return torch.stack([mixed, -mixed], dim=2).flatten(1, 2)[:, :, :3]


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_a_latent_frame_may_stand_for_several_frames(chunk):
    decoder = Doubling(reach=1)
    chunks = list(decode(decoder, LATENTS, chunk=chunk))
    assert chunks[0].shape[1] == 2 * chunk
    torch.testing.assert_close(whole(chunks), decoder(LATENTS))
    blended = whole(decode(decoder, LATENTS, chunk=4, reach=0))
    assert blended.shape[1] == 2 * LATENTS.shape[1]


def test_a_decoder_that_is_not_local_decodes_chunks_by_themselves_or_blends_them():
    decoder, parts = Doubling(reach=None), LATENTS[:, :12].split(4, dim=1)
    alone = whole(decode(decoder, LATENTS[:, :12], chunk=4))
    assert torch.equal(alone, whole(map(decoder, parts)))
    blended = whole(decode(decoder, LATENTS[:, :12], chunk=4, reach=2))
    assert blended.shape == alone.shape and not torch.allclose(blended, alone)
    with pytest.raises(ValueError, match="below the decoder's whole video"):
        decode(decoder, LATENTS, chunk=3, reach=2)
