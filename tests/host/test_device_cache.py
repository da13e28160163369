"""Latents stay on their device between stages as long as no other node changes the LATENT."""

from __future__ import annotations

import pytest
import torch
from videoldm.nodes.host.device_cache import KEY, cached_or_moved, latent_with_cache

# The meta device stands in for main memory, so that a tensor taken from there is a different one.
THERE, HERE = torch.device("meta"), torch.device("cpu")
PLENTY = 1e9


@pytest.fixture
def raw():
    return torch.zeros(1, 5, 4, 8, 8)


def test_the_next_stage_gets_the_very_tensor(raw):
    latent = latent_with_cache(raw, THERE, PLENTY)
    assert latent["samples"].device == THERE and latent["samples"].shape == (5, 4, 8, 8)
    assert cached_or_moved(latent, HERE) is raw


def test_what_another_node_changed_is_taken_from_main_memory(raw):
    latent = latent_with_cache(raw, THERE, PLENTY)
    changed = latent | {"samples": torch.ones(5, 4, 8, 8)}
    assert bool((cached_or_moved(changed, HERE) == 1).all())


def test_nothing_stays_without_room_or_without_need(raw):
    assert KEY not in latent_with_cache(raw, THERE, raw.nbytes)
    assert KEY not in latent_with_cache(raw, HERE, PLENTY)
