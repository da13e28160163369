"""Decoding cost compared with diffusers, and seams between chunks, at toy size."""

from __future__ import annotations

import torch
from videoldm.core.evaluation.decoder import cost, random_decoder, seam, seam_table, seams

WIDTHS = (32, 64)


def test_both_decoders_of_the_same_weights_give_the_same_pixels():
    found = cost(random_decoder(WIDTHS), frames=3, side=32, repeats=1)
    assert found.difference < 1e-5
    assert all(one > 0 for one in (*found.seconds, *found.peak))
    assert found.memory_share <= 0.8


def test_a_seam_is_what_chunks_change_and_nothing_where_there_is_one_chunk():
    decoder = random_decoder(WIDTHS)
    latents = torch.randn(1, 8, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert seam(decoder, latents, 8, 4) == {"all": 0.0, "step": 0.0}
    hard, blended = (seam(decoder, latents, 4, overlap) for overlap in (0, 2))
    assert hard["all"] > 0 and blended["step"] < hard["step"]


def test_the_table_has_a_line_for_each_chunk_and_none_for_the_whole_is_off():
    found = seams(random_decoder(WIDTHS), side=4)
    assert list(found) == [4, 8, 14, 28]
    assert found[28] == {"all": 0.0, "step": 0.0}
    assert found[4]["all"] > found[14]["all"] > 0
    assert seam_table(found).count("\n") == 4
