"""Blending two encoded prompts, linearly and spherically."""

from __future__ import annotations

import pytest
import torch
from model_toys import normal
from videoldm.core.text.blending import linear, spherical


@pytest.mark.parametrize("mix", [linear, spherical])
def test_the_ends_are_the_two_themselves(mix):
    a, b = normal(2, 5, 8, seed=1), normal(2, 5, 8, seed=2)
    torch.testing.assert_close(mix(a, b, 0.0), a)
    torch.testing.assert_close(mix(a, b, 1.0), b)


def test_an_arc_is_followed_evenly_in_the_plane_of_both():
    a, b = (torch.nn.functional.normalize(normal(6, 8, seed=seed), dim=-1) for seed in (1, 2))
    angle = torch.acos((a * b).sum(-1))
    for share in (0.25, 0.5, 0.8):
        found = spherical(a, b, share)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(6))
        torch.testing.assert_close(torch.acos((found * a).sum(-1)), share * angle)
        torch.testing.assert_close(torch.acos((found * b).sum(-1)), (1 - share) * angle)


def test_vectors_without_an_angle_between_them_are_mixed_in_a_line():
    a = normal(3, 8)
    for b in (a, 2 * a, -a):
        torch.testing.assert_close(spherical(a, b, 0.25), linear(a, b, 0.25))
    assert spherical(a, torch.zeros_like(a), 0.25).isfinite().all()
