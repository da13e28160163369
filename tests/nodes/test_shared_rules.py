"""Rules that both hosts compute, told by plain values: none of these needs a host."""

from __future__ import annotations

import pytest
import torch
from videoldm.nodes.choices import EMBEDDED_LAYERS
from videoldm.nodes.host.shared.folders import Folders
from videoldm.nodes.host.shared.latent_files import load_latent, save_unfinished
from videoldm.nodes.host.shared.missing_parts import check_boxes
from videoldm.nodes.host.shared.model_names import embedded_part


def test_embedded_parts_are_named_and_files_are_not():
    parts = [embedded_part(name) for name in EMBEDDED_LAYERS]
    assert parts == ["text_to_video", "prediction", "interpolation"]
    for file in ("embedded", "embedded: ", "mine: text to video", "a/embedded: b.safetensors"):
        assert embedded_part(file) is None
    with pytest.raises(ValueError, match="'embedded: weather': choose one of embedded: text to"):
        embedded_part("embedded: weather")


def test_what_was_finished_is_kept_whatever_it_is_worth(tmp_path):
    samples = torch.randn(3, 4, 2, 2)
    folders = Folders(output=tmp_path)
    first = save_unfinished(folders, {"samples": samples})
    assert first.parent == tmp_path / "latents" and first.name == "unfinished_00001_.latent"
    assert torch.equal(load_latent(first)["samples"], samples)
    second = save_unfinished(folders, {"samples": samples * float("nan")})
    assert second.name == "unfinished_00002_.latent" and second.is_file()


def test_boxes_need_an_encoder_of_boxes():
    assert check_boxes([object()], object()) is None
    with pytest.raises(ValueError, match="^2 bounding boxes were given, but this CLIP has no box"):
        check_boxes([object()] * 2, None)
