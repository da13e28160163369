"""`videoldm convert`: what comes out loads like what went in, and nothing is written on errors."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import factorised_toys
import lavie_toys as toys
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from stable_diffusion_toys import FULL, published, toy_model, toy_spec
from videoldm.core.families import conversion, lavie, lvdm
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.conversion import identify
from videoldm.core.families.factorised_config import FACTORS
from videoldm.core.families.factorised_keys import autoencoder_to_original
from videoldm.core.families.lavie_config import KINDS
from videoldm.core.families.stable_diffusion_parts import take_apart
from videoldm.core.weights.checkpoints import CheckpointError, Header, save
from videoldm.core.weights.weight_files import read_weights
from videoldm.nodes.headless import main


def written(path):
    """The only key of the metadata, and the header that it holds."""
    with safe_open(path, framework="pt") as file:
        found = file.metadata()
    (key,) = found
    return key, json.loads(found[key])


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_lavies_files_loads_alike_before_and_after(kind, tmp_path, capsys):
    config = toys.config_of(kind)
    state = toys.state_of(config)
    shared = [k for k in state if k.endswith("rotary_emb.freqs")]
    state |= dict.fromkeys(shared, state[shared[0]]) if shared else {}
    source = tmp_path / toys.FILES[kind]
    torch.save({"ema": state}, source)
    assert main(["convert", str(source)]) == 0
    target = source.with_suffix(".safetensors")
    assert capsys.readouterr().out.strip() == str(target)
    key, header = written(target)
    assert (key, header["family"], header["kind"]) == ("videoldm", "lavie", kind)
    again = load_file(target)
    assert again.keys() == state.keys() and all(torch.equal(again[k], state[k]) for k in state)
    one, two = (lavie.load(path).network.state_dict() for path in (source, target))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_numbers_may_be_halved_and_files_replaced_only_when_asked(tmp_path, capsys):
    source = tmp_path / "base.pt"
    torch.save(toys.state_of(toys.config_of("base")), source)
    arguments = ["convert", str(source), "--dtype", "fp16", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    target = tmp_path / "out" / "base.safetensors"
    assert {v.dtype for v in load_file(target).values()} == {torch.float16}
    assert main(arguments) == 2
    assert "base.safetensors already exists; --force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert main(["convert", str(target)]) == 2
    assert "replace itself" in capsys.readouterr().err


@pytest.mark.parametrize("family", list(FULL))
def test_stable_diffusion_is_checked_and_freed_of_what_training_left(family):
    """At full size, on the meta device."""
    file = published(family)
    known = conversion._stable_diffusion(Path("sd.ckpt"), file)
    assert known.header.config == {"name": family}
    left_out = file.keys() - known.state.keys()
    assert all(key.startswith(("model_ema.", "low_scale_model.")) or "." not in key
               or key.endswith(("position_ids", "logit_scale")) for key in left_out)  # fmt: skip
    assert take_apart(known.state).unet
    broken = {key: value for key, value in file.items() if "input_blocks.1.0" not in key}
    with pytest.raises(CheckpointError, match="the U-Net of sd.ckpt lacks keys"):
        conversion._stable_diffusion(Path("sd.ckpt"), broken)


def test_a_published_format_keeps_its_readers(tmp_path):
    from videoldm.core.families.conversion import IdentifiedFile
    from videoldm.core.weights.checkpoints import read_header

    header = Header(family="stable diffusion", kind="image_model", config={"name": "x"})
    IdentifiedFile(header, {"a": torch.ones(2)}).write(tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors") is None
    assert written(tmp_path / "a.safetensors")[1]["config"] == {"name": "x"}


def test_files_of_this_project_keep_their_header(tmp_path):
    header = Header(family="embedded", kind="autoencoder", config={"channels": [1]})
    save(tmp_path / "own.safetensors", {"a": torch.ones(2)}, header)
    known = identify(tmp_path / "own.safetensors")
    assert known.header == header and known.state["a"].dtype == torch.float16


@pytest.mark.parametrize("change, words", [
    (lambda s: s.pop("conv_out.bias"), r"lacks keys \(1\): conv_out.bias"),
    (lambda s: s.update(more=torch.ones(1)), r"unknown keys \(1\): more"),
    (lambda s: s.pop("conv_in.weight"),
     "is none of lavie, animatediff, svd, modelscope, lvdm, videocrafter, "),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_named_and_nothing_written(change, words, tmp_path, capsys):
    state = toys.state_of(toys.config_of("base"))
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=words):
        identify(tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_missing_files_and_folders_are_one_sentence(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "none.pt")]) == 3
    assert main(["convert", str(tmp_path)]) == 2
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.ckpt")]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "there is no file" in lines[0] and "is a folder" in lines[1]


@pytest.mark.parametrize("name", ["pipe.ckpt", "zero.ckpt", "pipe.safetensors"])
def test_pipes_and_devices_are_not_waited_for(name, tmp_path, capsys):
    path = tmp_path / name
    if name.startswith("pipe"):
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert main(["convert", str(path), "--output", str(tmp_path / "out")]) != 0
    said = capsys.readouterr().err
    assert "is a pipe or a device, expected a file of weights" in said and said.count("\n") == 1


def test_a_running_average_alone_becomes_a_unet_that_loads(tmp_path, monkeypatch):
    spec = toy_spec("plain")
    monkeypatch.setitem(sd.SPECS, "toy", spec)
    state = sd.to_ldm(toy_model(spec), spec)
    unet = {k: v for k, v in state.items() if k.startswith(sd.UNET)}
    average = {f"model_ema.diffusion_model{k.removeprefix(sd.UNET).replace('.', '')}": v
               for k, v in unet.items()}  # fmt: skip
    torch.save({"state_dict": average | {"model_ema.decay": torch.ones(1)}}, tmp_path / "a.ckpt")
    assert main(["convert", str(tmp_path / "a.ckpt")]) == 0
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == unet.keys() and all(torch.equal(found[k], unet[k]) for k in unet)
    assert sd.load(tmp_path / "a.safetensors").text_encoder is None


@pytest.mark.parametrize("name", ["lvdm_long_sky_pred", "lvdm_t2v", "videocrafter1_i2v_512"])
def test_lvdm_and_videocrafter_keep_what_either_kind_of_weights_needs(name, monkeypatch, tmp_path):
    state = factorised_toys.manifest(name)
    if "scale_arr" in state:
        state["scale_arr"] = torch.ones(1400)
    monkeypatch.setattr(conversion, "read_weights", lambda path: state)
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04 not a zip")
    known = identify(tmp_path / "a.ckpt")
    assert known.header.family == name.split("_")[0].rstrip("1")
    assert ("scale_arr" in known.state) == ("scale_arr" in state)
    assert not any("alphas_cumprod" in key or "num_updates" in key for key in known.state)
    assert torch.equal(known.state["betas"], state["betas"])
    average = [k for k in state if k.startswith("model_ema.diffusion")]
    assert set(average) <= known.state.keys()
    if name == "lvdm_long_sky_pred":
        again = lvdm.assemble(known.state, "a", lvdm.LvdmHints(data="sky", task="prediction"),
                              device="meta")  # fmt: skip
        assert again.model.task == "prediction"
        assert "first_stage_model.decoder.conv_out.weight" not in known.state


def test_a_converted_autoencoder_loads_like_the_original(tmp_path, monkeypatch):
    monkeypatch.setitem(FACTORS, 1, factorised_toys.AUTOENCODER.factors)
    module, hints = factorised_toys.autoencoder(), lvdm.LvdmHints(data="sky")
    own = autoencoder_to_original(module.state_dict(), module.config)
    losses = {"loss.logvar": torch.zeros(())}
    torch.save({"epoch": 1, "state_dict": own | losses}, tmp_path / "ae.ckpt")
    assert main(["convert", str(tmp_path / "ae.ckpt")]) == 0
    key, header = written(tmp_path / "ae.safetensors")
    assert header["family"] == "lvdm" and header["kind"] == "autoencoder" and key != "videoldm"
    one, two = (lvdm.load_autoencoder(tmp_path / f"ae.{end}", hints).state_dict()
                for end in ("ckpt", "safetensors"))  # fmt: skip
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_settings_of_a_training_run_are_passed_over(tmp_path):
    settings = {"argparse": Namespace(a=1, b=[Path("/a")]), "more": defaultdict(dict)}
    torch.save({"state_dict": {"a": torch.ones(1)}, "hyper_parameters": settings},
               tmp_path / "a.ckpt")  # fmt: skip
    assert read_weights(tmp_path / "a.ckpt") == {"a": torch.ones(1)}


def test_a_file_that_holds_more_than_tensors_says_what_to_do(tmp_path):
    more = {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": Fraction(1, 2)}
    torch.save(more, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="also holds fractions.Fraction.*save its state_dict"):
        read_weights(tmp_path / "a.ckpt")
