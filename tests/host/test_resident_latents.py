"""Latents that stay where they were made, for as long as a LATENT is what it was."""

from __future__ import annotations

import pytest
import torch
from videoldm.nodes.host.resident import KEY, hand_on, take_up

# The meta device stands for the accelerator: what comes back from main memory is another tensor.
THERE, HERE = torch.device("meta"), torch.device("cpu")
PLENTY = 1e9


@pytest.fixture
def raw():
    return torch.zeros(1, 5, 4, 8, 8)


def test_the_next_stage_gets_the_very_tensor(raw):
    latent = hand_on(raw, THERE, PLENTY)
    assert latent["samples"].device == THERE and latent["samples"].shape == (5, 4, 8, 8)
    assert take_up(latent, HERE) is raw


def test_what_another_node_changed_is_taken_from_main_memory(raw):
    latent = hand_on(raw, THERE, PLENTY)
    changed = latent | {"samples": torch.ones(5, 4, 8, 8)}
    assert bool((take_up(changed, HERE) == 1).all())


def test_nothing_stays_without_room_or_without_need(raw):
    assert KEY not in hand_on(raw, THERE, raw.nbytes)
    assert KEY not in hand_on(raw, HERE, PLENTY)
