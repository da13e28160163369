"""Detail of given frames restored after decoding."""

from __future__ import annotations

import pytest
import torch
from videoldm.core.key_detail import restore_detail


def clip(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, frames, 3, 6, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def restored(decoded, keys, spacing, chunk=3) -> torch.Tensor:
    return torch.cat(list(restore_detail(decoded.split(chunk, dim=1), keys, spacing)), dim=1)


def test_given_frames_come_out_exactly():
    truth, decoded = clip(9), clip(9, seed=1)
    out = restored(decoded, truth[:, ::4], 4)
    assert out.shape == decoded.shape
    assert torch.equal(out[:, ::4], truth[:, ::4])


def test_a_loss_that_changes_linearly_is_undone():
    truth = clip(13)
    ramp = torch.linspace(-0.2, 0.3, 13)[None, :, None, None, None]
    assert torch.allclose(restored(truth + ramp, truth[:, ::4], 4), truth, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 5, 13])
def test_the_chunks_of_the_decoder_change_nothing(chunk):
    decoded, keys = clip(13), clip(4, seed=2)
    assert torch.equal(restored(decoded, keys, 4, chunk), restored(decoded, keys, 4, 13))


@pytest.mark.parametrize(
    ("frames", "keys", "message"),
    [(10, 3, "3 key frames every 4 frames end at frame 8"), (8, 3, "3 frames follow")],
)
def test_numbers_that_do_not_fit_are_refused(frames, keys, message):
    with pytest.raises(ValueError, match=message):
        restored(clip(frames), clip(keys), 4)
