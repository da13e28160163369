"""Back projection: upscaled frames whose downscaled version matches the low-resolution ones."""

from __future__ import annotations

import pytest
import torch
from videoldm.core.tasks.back_projection import back_projected, enlarge, shrink


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def restored(decoded, low_res, chunk=2):
    return torch.cat(list(back_projected(decoded.split(chunk, dim=1), low_res)), dim=1)


def test_averages_of_squares():
    video = noise(1, 2, 3, 8, 12)
    assert shrink(video).shape == (1, 2, 3, 2, 3)
    assert torch.allclose(shrink(video)[0, 1, 2, 1, 2], video[0, 1, 2, 4:, 8:].mean())


def test_what_comes_out_shrinks_to_the_small_frames():
    decoded, low_res = noise(2, 5, 3, 24, 32), noise(2, 5, 3, 6, 8, seed=1)
    before = (shrink(decoded) - low_res).abs().mean()
    after = (shrink(restored(decoded, low_res)) - low_res).abs().mean()
    assert after < 0.06 * before


def test_detail_finer_than_a_small_pixel_stays():
    low_res = noise(1, 1, 3, 6, 8)
    stripes = torch.tensor([0.5, -0.5]).repeat(16).expand(1, 1, 3, 24, 32)
    enlarged = enlarge(low_res)
    assert torch.allclose(
        restored(enlarged + stripes, low_res), restored(enlarged, low_res) + stripes, atol=1e-6
    )


def test_the_true_video_is_left_alone():
    truth = noise(1, 3, 3, 16, 16)
    assert torch.allclose(restored(truth, shrink(truth)), truth, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_the_chunks_of_the_decoder_change_nothing(chunk):
    decoded, low_res = noise(1, 5, 3, 16, 16), noise(1, 5, 3, 4, 4, seed=1)
    assert torch.equal(restored(decoded, low_res, chunk), restored(decoded, low_res, 5))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 3, 4, 4), "3 low-resolution frames cannot belong to a video of"),
     ((1, 5, 3, 4, 5), "low-resolution frames of 5x4 cannot belong to a video of 16x16")],
)  # fmt: skip
def test_small_frames_of_another_video_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        restored(noise(1, 5, 3, 16, 16), noise(*shape))
