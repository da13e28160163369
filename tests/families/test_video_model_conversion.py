"""`videoldm convert` of Stable Video Diffusion's and ModelScope's files."""

from __future__ import annotations

import json
from pathlib import Path

import modelscope_toys
import pytest
import svd_toys
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from videoldm.core.families import conversion, family_of, load_video_parts, svd_files
from videoldm.core.families.image_models import load_temporal_autoencoder
from videoldm.nodes.headless import main


def convert(source: Path, *options: str) -> tuple[Path, dict]:
    """The converted file and its header."""
    target = source.parent / "out" / f"{source.stem}.safetensors"
    assert main(["convert", str(source), "--output", str(target.parent), *options]) == 0
    with safe_open(target, framework="pt") as file:
        (header,) = file.metadata().values()
    return target, json.loads(header)


def test_a_whole_model_loads_alike_before_and_after(tmp_path):
    source = svd_toys.write_single(tmp_path)
    target, header = convert(source)
    assert (header["family"], header["kind"]) == ("svd", "video_model")
    state = load_file(target)
    assert state.keys() == load_file(source).keys() - svd_files.unused(load_file(source))
    before, after = (load_video_parts(path)[1] for path in (source, target))
    for name in ("autoencoder", "decoder", "image_encoder"):
        one, two = (getattr(found, name).state_dict() for found in (before, after))
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    one, two = (found.model.network.state_dict() for found in (before, after))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_decoder_alone_stays_one(tmp_path):
    state = {k.removeprefix(svd_files.FIRST_STAGE): v.clone().contiguous()
             for k, v in svd_toys.single_file().items()
             if k.startswith(svd_files.FIRST_STAGE)}  # fmt: skip
    source = tmp_path / "decoder.pt"
    torch.save(state, source)
    target, header = convert(source, "--dtype", "fp16")
    assert (header["family"], header["kind"]) == ("svd", "temporal_decoder")
    _, decoder = load_temporal_autoencoder(target)
    assert decoder.reach is None
    assert all(v.dtype == torch.float16 for v in load_file(target).values())


@pytest.mark.parametrize("names", ["ldm", "diffusers"])
def test_text_to_video_stays_what_it_is_under_plain_names(names, tmp_path):
    written = load_file(modelscope_toys.write(tmp_path / "plain.safetensors", names))
    source = tmp_path / "prefixed.pth"
    torch.save({f"unet.{k}": v for k, v in written.items()}, source)
    target, header = convert(source)
    assert (header["family"], header["kind"]) == ("modelscope", "video_model")
    assert load_file(target).keys() == written.keys()
    assert family_of(target).name == "modelscope"


@pytest.mark.parametrize("name, kind", [
    ("svd_single_file", "video_model"), ("svd_xt_single_file", "video_model"),
    ("svd_image_decoder_single_file", "video_model"), ("svd_unet_only", "video_model"),
    ("svd_diffusers_unet", "video_model"), ("svd_diffusers_vae", "temporal_decoder"),
    ("svd_temporal_decoder_first_stage", "temporal_decoder"),
    ("modelscope_original_unet", "video_model"), ("modelscope_diffusers_unet", "video_model"),
])  # fmt: skip
def test_every_published_file_is_known_at_full_size(name, kind):
    state, path = svd_toys.manifest(name), Path(f"{name}.safetensors")
    found = conversion.svd_file(path, state) or conversion.modelscope_file(path, state)
    assert found.header.kind == kind
    left = {k for k in state if k.endswith("position_ids") or k in svd_files.unused(state)}
    prefixes = ("model.diffusion_model.", "unet.")
    wanted = state.keys() - left
    if found.header.family == "modelscope":
        wanted = {k.removeprefix(p) for k in wanted for p in prefixes if k.startswith(p)} or wanted
    assert found.state.keys() == wanted
