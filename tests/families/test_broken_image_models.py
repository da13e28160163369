"""Files of image models that are damaged, hostile, of another kind or incomplete."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_diffusion_toys import published, save_folder, shapes_of, toy_model, toy_spec
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.weights.checkpoints import CheckpointError


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no image model at .*gone"):
        sd.load(tmp_path / "gone.safetensors")


def test_a_truncated_file_is_one_sentence(tmp_path):
    spec = toy_spec("plain")
    state = {k: v.contiguous() for k, v in sd.to_ldm(toy_model(spec), spec).items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.ckpt")
    for name in ("a.safetensors", "a.ckpt"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CheckpointError, match=name) as error:
            sd.load(tmp_path / name, specs={"a": spec})
        assert "\n" not in str(error.value)


def test_other_bytes_are_one_sentence(tmp_path):
    for name in ("a.safetensors", "a.ckpt"):
        (tmp_path / name).write_bytes(b"<html>not found</html>" * 20)
        with pytest.raises(CheckpointError, match=name) as error:
            sd.load(tmp_path / name)
        assert "\n" not in str(error.value)


class Opens:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {}, "extra": Opens(tmp_path / "trace")}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Opens(tmp_path / "trace")))
    for name, words in {"a.ckpt": "only tensors are loaded", "b.ckpt": "as tensors alone"}.items():
        with pytest.raises(CheckpointError, match=words):
            sd.load(tmp_path / name)
    assert not (tmp_path / "trace").exists()


def test_a_training_checkpoint_is_read_without_its_trainer(tmp_path, monkeypatch):
    """As in the first published files: a callback's class and a numpy number beside the weights."""
    spec = toy_spec("plain")
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    module = types.ModuleType(name)
    module.ModelCheckpoint = callback
    state = sd.to_ldm(toy_model(spec), spec)
    with monkeypatch.context() as patch:
        for end in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            patch.setitem(sys.modules, end, module)
        torch.save(
            {"state_dict": state, "callbacks": {callback: {"best": np.float32(2)}}},
            tmp_path / "a.ckpt",
        )
    assert sd.load(tmp_path / "a.ckpt", specs={"a": spec}).name == "a"


def test_another_kind_of_model_is_named_by_its_first_keys(tmp_path):
    save_file({"blocks.0.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a.safetensors is none of .* blocks\.0\.weight"):
        sd.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "extra",
    [
        "input_blocks.1.1.time_stack.0.norm_in.weight",
        "input_blocks.1.0.temopral_conv.conv1.2.weight",
    ],
)
def test_a_video_model_is_not_taken_for_the_image_model_it_grew_from(extra):
    shapes = shapes_of(published("stable diffusion 2"))
    assert sd.detect(shapes | {sd.UNET + extra: (320,)}) is None


def test_missing_misshapen_and_unknown_weights_are_named():
    spec = toy_spec("plain")
    state = sd.to_ldm(toy_model(spec), spec)
    key = "first_stage_model.quant_conv.bias"
    for broken, message in (
        ({k: v for k, v in state.items() if k != key}, r"lacks keys \(1\): quant_conv.bias"),
        (state | {key: torch.ones(3)}, r"misshapen keys \(1\): quant_conv.bias \(3,\)"),
        (state | {"control_model.x": torch.ones(3)}, r"unknown keys \(1\): control_model.x"),
        (
            state | {"first_stage_model.x.y": torch.ones(3)},
            r"unknown keys \(1\): first_stage_model.x.y",
        ),
    ):
        with pytest.raises(CheckpointError, match=message):
            sd.from_ldm(broken, "it", specs={"a": spec})


def test_folders_that_are_no_image_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no unet/config.json"):
        sd.load(tmp_path)
    save_folder(toy_model(toy_spec("plain")), tmp_path)
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights in .*vae"):
        sd.load(tmp_path)
    config = json.loads((tmp_path / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "config.json").write_text(
        json.dumps(config | {"_class_name": "UNetSpatioTemporalConditionModel"})
    )
    with pytest.raises(CheckpointError, match="expected a UNet2DConditionModel"):
        sd.load(tmp_path)
