"""Counted nouns in messages: one frame, two frames."""

import pytest
import torch
from videoldm.core.graph.wording import counted
from videoldm.core.tasks.back_projection import back_projected
from videoldm.core.tasks.sparse_first import spread_evenly


def test_one_thing_is_one_and_all_others_are_many():
    assert [counted(n, "frame") for n in (0, 1, 2, 61)] == [
        "0 frames", "1 frame", "2 frames", "61 frames",
    ]  # fmt: skip


def test_messages_say_one_frame():
    with pytest.raises(ValueError, match="A segment of 1 frame cannot have 2 sparse frames"):
        spread_evenly(1, 2)
    one, two = torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 2, 3, 8, 8)
    with pytest.raises(ValueError, match="1 low-resolution frame cannot belong to a video of 2 fr"):
        next(back_projected([two], one))
