"""Detail of given frames restored after decoding."""

from __future__ import annotations

import pytest
import torch
from videoldm.core.tasks.keyframe_residual import with_keyframe_residual


def clip(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, frames, 3, 6, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def restored(decoded, keys, spacing, chunk=3) -> torch.Tensor:
    return torch.cat(
        list(with_keyframe_residual(decoded.split(chunk, dim=1), keys, spacing)), dim=1
    )


def test_given_frames_come_out_exactly():
    truth, decoded = clip(9), clip(9, seed=1)
    out = restored(decoded, truth[:, ::4], 4)
    assert out.shape == decoded.shape
    assert torch.equal(out[:, ::4], truth[:, ::4])


def test_a_loss_that_changes_linearly_is_undone_where_key_frames_differ():
    keys = torch.tensor([1.0, -1.0, 1.0, -1.0])[None, :, None, None, None].expand(1, 4, 3, 6, 5)
    truth = clip(13)[:1]
    truth[:, ::4] = keys
    ramp = torch.linspace(-0.2, 0.3, 13)[None, :, None, None, None]
    assert torch.allclose(restored(truth + ramp, keys, 4), truth, atol=0.02)


def test_where_key_frames_agree_the_frames_between_are_like_them():
    keys = clip(1).expand(-1, 3, -1, -1, -1).clone()
    keys[:, 1:, ..., 3:] = -keys[:, 1:, ..., 3:]
    out = restored(clip(9, seed=1), keys, 4)
    assert torch.allclose(out[..., :2], keys[:, :1, ..., :2].expand_as(out[..., :2]), atol=1e-6)
    still = keys[:, 1:2].expand_as(out[:, 4:])
    assert torch.allclose(out[:, 4:], still, atol=1e-6)
    assert not torch.allclose(out[:, 1:4, ..., 4:], keys[:, :1, ..., 4:], atol=0.1)


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
