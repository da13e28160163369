"""Stand-ins for ComfyUI's nodes that resize latents and images and store latents in files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from videoldm.core.diffusion import resizing
from videoldm.nodes.host.standalone import core_nodes_latent, core_nodes_scaling

METHODS = sorted({*resizing.LATENT_METHODS, *resizing.IMAGE_METHODS})


def test_the_nodes_offer_what_core_has():
    for name in ("LATENT_METHODS", "IMAGE_METHODS", "CROPS"):
        assert getattr(core_nodes_scaling, name) == getattr(resizing, name)


# --------------------------------------------------------------------------------------------------
# Resizing.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(6, 4), (9, 13), (3, 2)])
def test_what_is_the_same_everywhere_stays(method, size):
    x = torch.tensor([51.0, 102.0, 255.0])[:, None, None].expand(3, 4, 6)[None] / 255
    expected = x[..., :1, :1].expand(1, 3, size[1], size[0])
    torch.testing.assert_close(resizing.resize(x, *size, method), expected, atol=1e-5, rtol=0)


def test_the_spherical_mean_keeps_the_length():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    x = torch.stack([a, b], dim=1)[None, :, None]  # two adjacent positions
    middle = resizing.bislerp(x, 3, 1)[0, :, 0, 1]
    torch.testing.assert_close(middle, torch.tensor([2.0, 2.0]) / 2**0.5)
    outer = resizing.bislerp(x, 3, 1)[0, :, 0, [0, 2]]
    torch.testing.assert_close(outer, x[0, :, 0])


def test_opposite_and_equal_directions_are_mixed_without_a_turn():
    x = torch.tensor([1.0, -3.0]).reshape(1, 1, 1, 2)
    torch.testing.assert_close(resizing.bislerp(x, 3, 1).flatten(), torch.tensor([1.0, -1.0, -3.0]))
    nothing = resizing.bislerp(torch.zeros(1, 4, 2, 2), 4, 4)
    assert torch.equal(nothing, torch.zeros(1, 4, 4, 4))


def test_the_centre_is_cut_out(run):
    image = torch.arange(12.0).reshape(1, 2, 6, 1).expand(-1, -1, -1, 3) / 12
    got = run("ImageScale", image=image, upscale_method="nearest-exact", width=2, height=2,
              crop="center")  # fmt: skip
    assert torch.equal(got, image[:, :, 2:4])


@pytest.mark.parametrize(
    ("size", "expected"), [((0, 0), (4, 6)), ((12, 0), (8, 12)), ((0, 2), (2, 3)), ((5, 7), (7, 5))]
)
def test_a_side_of_zero_keeps_the_proportions(run, size, expected):
    image = torch.rand(2, 4, 6, 3)
    got = run("ImageScale", image=image, upscale_method="bilinear", width=size[0],
              height=size[1], crop="disabled")  # fmt: skip
    assert got.shape == (2, *expected, 3)
    by = run("ImageScaleBy", image=image, upscale_method="area", scale_by=0.5)
    torch.testing.assert_close(by[:, 0, 0], image[:, :2, :2].mean((1, 2)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((0, 0), (4, 6)), ((96, 0), (8, 12)), ((0, 160), (20, 30)), ((16, 80), (10, 8))],
)
def test_latents_are_at_least_8_positions_a_side(run, size, expected):
    latent = {"samples": torch.randn(3, 4, 4, 6), "batch_index": [0, 1, 2]}
    got = run("LatentUpscale", samples=latent, upscale_method="bislerp", width=size[0],
              height=size[1], crop="disabled")  # fmt: skip
    assert got["samples"].shape == (3, 4, *expected) and got["batch_index"] == [0, 1, 2]


def test_latents_with_a_time_axis_are_resized_frame_by_frame(run):
    video = torch.randn(1, 4, 3, 4, 6)
    got = run("LatentUpscaleBy", samples={"samples": video}, upscale_method="bicubic",
              scale_by=1.5)["samples"]  # fmt: skip
    alone = resizing.resize(video[:, :, 1], 9, 6, "bicubic")
    torch.testing.assert_close(got[:, :, 1], alone)


# --------------------------------------------------------------------------------------------------
# Files.


def test_latents_come_back_from_their_file(run, toys, tmp_path):
    latent = {"samples": torch.randn(3, 4, 5, 6)}
    hidden = {"prompt": {"1": {}}, "extra_pnginfo": {"workflow": {"nodes": []}}}
    run("SaveLatent", samples=latent, filename_prefix="sub/a", **hidden)
    path = tmp_path / "output" / "sub" / "a_00001_.latent"
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {"latent_tensor", "latent_format_version_0"}
        texts = {key: json.loads(text) for key, text in file.metadata().items()}
    assert texts == {"prompt": {"1": {}}, "workflow": {"nodes": []}}
    assert torch.equal(run("LoadLatent", latent="sub/a_00001_.latent [output]")["samples"],
                       latent["samples"])  # fmt: skip


def test_latents_without_the_mark_were_scaled(run, toys, tmp_path):
    samples = torch.randn(1, 4, 2, 2)
    save_file({"latent_tensor": samples.half()}, tmp_path / "input" / "old.latent")
    got = run("LoadLatent", latent="old.latent")["samples"]
    torch.testing.assert_close(got, samples.half().float() / 0.18215)


def test_only_files_of_latents_are_offered(run, toys, tmp_path):
    for name in ("a.latent", "b.png", "sub.LATENT"):
        (tmp_path / "input" / name).touch()
    spec = core_nodes_latent.LoadLatent.define_schema().inputs[0]
    assert spec.options == ["a.latent", "sub.LATENT"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "broken.latent"), (b"junk" * 9, "broken.latent"),
     ({"a": torch.ones(1)}, "holds a instead"), ({"latent_tensor": torch.ones(4)}, "shape")],
)  # fmt: skip
def test_files_without_latents_are_one_sentence(run, toys, tmp_path, content, words):
    path = tmp_path / "input" / "broken.latent"
    path.write_bytes(content) if isinstance(content, bytes) else save_file(content, path)
    with pytest.raises(ValueError, match=words):
        run("LoadLatent", latent="broken.latent")


def test_prefixes_that_escape_are_refused_before_the_run():
    from videoldm.nodes import node_registry

    check = node_registry()["SaveLatent"].validate_inputs
    assert check(filename_prefix="a/b") is True
    assert "out of the folder" in check(filename_prefix="../a")
