"""Deflicker Along Motion works with every kind of OPTICAL_FLOW that a host may pass."""

from __future__ import annotations

import pytest
import torch


class Still(torch.nn.Module):
    """Stands in for torchvision's RAFT, which takes sides divisible by 8 of at least 128 pixels and
    returns one flow per update; here there is no motion, so every flow is zero."""

    def forward(self, image1, image2, num_flow_updates=12):
        assert image1.shape == image2.shape and image1.dtype == torch.float32
        assert min(image1.shape[-2:]) >= 128 and not any(side % 8 for side in image1.shape[-2:])
        return [torch.zeros_like(image1[:, :2])] * num_flow_updates


class Patcher:
    def __init__(self, model):
        self.model, self.device = model, torch.device("cpu")


def test_flicker_goes_along_the_motion_that_any_optical_flow_finds(run):
    random = torch.Generator().manual_seed(2)
    still = torch.rand(1, 20, 36, 3, generator=random).expand(4, -1, -1, -1)
    spotted = (still + 0.05 * torch.randn(4, 20, 36, 3, generator=random)).clamp(0, 1)
    video = run("CreateVideo", images=spotted, fps=8.0)
    own = run("VideoLDM_OpticalFlow", radius=2.0)
    for flow in (None, own, Patcher(Still())):
        made = run("VideoLDM_Deflicker", video=video, guide=still[:, ::2, ::2], strength=0.8,
                   optical_flow=flow)  # fmt: skip
        images = made.get_components().images
        assert images.shape == spotted.shape and torch.allclose(images[0], spotted[0], atol=1e-6)
        assert (images - still).diff(dim=0).abs().mean() < 0.7 * (spotted - still).diff(
            dim=0
        ).abs().mean()
    with pytest.raises(ValueError, match="optical_flow is of another kind"):
        run("VideoLDM_Deflicker", video=video, optical_flow=torch.rand(2))
    with pytest.raises(ValueError, match="the guide has 3 frames, the video 4"):
        run("VideoLDM_Deflicker", video=video, guide=still[:3])
