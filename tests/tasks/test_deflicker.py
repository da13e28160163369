"""Deflickering along motion: less flicker, no other change, and the same for all chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from videoldm.core.evaluation.metrics import flicker, psnr
from videoldm.core.families.embedded import worlds
from videoldm.core.tasks.back_projection import shrink
from videoldm.core.tasks.deflicker import Deflicker
from videoldm.core.tasks.optical_flow import GradientFlow, gradient_flow

FRAMES, SIDE = 6, 64


def videos(world: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A rendered video [1, t, 3, h, w], and the same with spots that change in every frame."""
    scene = worlds.sample_scene(world, 5)
    true = torch.from_numpy(worlds.render(scene, times=np.arange(FRAMES), size=SIDE))[None]
    spots = torch.randn(FRAMES, 3, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(1))
    return true, true + 0.1 * F.interpolate(spots, scale_factor=4, mode="bicubic")[None]


def whole(how: Deflicker, video, guide=None) -> torch.Tensor:
    return torch.cat(list(how.deflickered([video], guide)), dim=1)


@pytest.mark.parametrize("world", ["shapes", "driving"])
def test_frames_before_upscaling_guide_it(world: str) -> None:
    true, spotted = videos(world)
    made = whole(Deflicker(threshold=0.05), spotted, shrink(true))
    assert flicker(made, true) < 0.7 * flicker(spotted, true)
    assert psnr(made, true) > psnr(spotted, true) + 1


def test_where_the_guide_shows_something_else_nothing_changes() -> None:
    true, spotted = videos("shapes")
    cut = torch.cat([true[:, :3], -true[:, 3:].flip(-1)], dim=1)
    made = whole(Deflicker(threshold=0.01), spotted, cut)
    assert (made[:, 3] - spotted[:, 3]).abs().mean() < 0.2 * (made - spotted)[:, 1:3].abs().mean()
    assert torch.equal(whole(Deflicker(strength=0.0), spotted), spotted)


def test_chunks_do_not_matter() -> None:
    _, spotted = videos("driving")
    how = Deflicker(threshold=0.2)
    parts = torch.cat(list(how.deflickered(spotted.split(2, dim=1), spotted.split(5, dim=1))), 1)
    assert torch.equal(parts, whole(how, spotted))


def test_settings_and_guides_that_do_not_fit_are_refused() -> None:
    _, spotted = videos("shapes")
    with pytest.raises(ValueError, match="strength 1.0 must be at least 0 and below 1"):
        Deflicker(strength=1.0)
    with pytest.raises(ValueError, match="the guide has 2 frames, but the video has more"):
        whole(Deflicker(), spotted, spotted[:, :2])


def test_the_model_of_gradients_is_called_as_raft_is() -> None:
    true, _ = videos("driving")
    flows = GradientFlow()(true[0, :2], true[0, 1:3], num_flow_updates=4)
    assert torch.equal(flows[-1], gradient_flow(true[0, :2], true[0, 1:3]))
    assert flows[-1].shape == (2, 2, SIDE, SIDE)
