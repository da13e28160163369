"""Diffusers folders of image models ↔ modules: strictly, from local files only, without pickles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..checkpoints import CheckpointError, load_into
from ..denoiser import Prediction
from ..schedules import NoiseSchedule, from_betas, linear, scaled_linear, zero_terminal_snr
from ..weight_files import read_weights
from .stable_diffusion_keys import clip_names, modern_autoencoder

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
BETAS: dict[str, Callable[..., NoiseSchedule]] = {"linear": linear, "scaled_linear": scaled_linear}


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder with at least a U-Net as diffusers writes them."""
    return (path / "unet" / "config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file; raise CheckpointError if it is missing or is not JSON."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing from {path.parent}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None


def find_weights(folder: Path, stem: str) -> Path:
    """The weight file of one part: full precision before half, safetensors before pickles."""
    names = [
        f"{stem}{variant}.{suffix}"
        for suffix in ("safetensors", "bin")
        for variant in ("", ".fp16")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"no weights in {folder}, looked for {', '.join(names)}")


def find_text_weights(folder: Path) -> Path:
    """The weight file of a text encoder, whose pickles transformers calls by another name."""
    stem = "pytorch_model" if (folder / "pytorch_model.bin").is_file() else "model"
    return find_weights(folder, "model" if any(folder.glob("model*.safetensors")) else stem)


# --------------------------------------------------------------------------------------------------
# Parts.


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """An image U-Net on the meta device."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(dict(config))


def build_autoencoder(config: Mapping[str, Any]) -> AutoencoderKL:
    """An autoencoder on the meta device."""
    with torch.device("meta"):
        return AutoencoderKL.from_config(dict(config))


def build_text_encoder(config: Mapping[str, Any]) -> CLIPTextModel:
    """A CLIP text encoder on the meta device."""
    known = {k: v for k, v in config.items() if k not in ("architectures", "dtype", "torch_dtype")}
    with torch.device("meta"):
        return CLIPTextModel(CLIPTextConfig(**known))


def load_text_encoder(
    encoder: CLIPTextModel, state: Mapping[str, Tensor], name: str, dtype: torch.dtype
) -> CLIPTextModel:
    """Load ``state``, as :func:`~.stable_diffusion_keys.clip_names` names it, into any version's
    ``CLIPTextModel``."""
    prefixed = any(k.startswith("text_model.") for k in encoder.state_dict())
    prefix = "text_model." if prefixed else ""
    load_into(encoder, {prefix + k: v for k, v in state.items()}, name, dtype)
    # Not part of the state, so still on meta.
    for module in encoder.modules():
        if "position_ids" in module._buffers:
            module.position_ids = torch.arange(encoder.config.max_position_embeddings)[None]
    return encoder


def load_unet_folder(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """Load the image U-Net that diffusers wrote to ``folder``."""
    config = _config_of(folder, "UNet2DConditionModel", "_class_name")
    state = read_weights(find_weights(folder, "diffusion_pytorch_model"))
    return load_into(build_unet(config), state, f"the U-Net in {folder}", dtype)


def load_autoencoder_folder(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Load the autoencoder that diffusers wrote to ``folder``."""
    config = _config_of(folder, "AutoencoderKL", "_class_name")
    state = read_weights(find_weights(folder, "diffusion_pytorch_model"))
    module = build_autoencoder(config)
    return load_into(module, modern_autoencoder(state), f"the autoencoder in {folder}", dtype)


def load_text_encoder_folder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """Load the CLIP text encoder that transformers wrote to ``folder``."""
    config = _config_of(folder, "CLIPTextModel", "architectures")
    state = clip_names(read_weights(find_text_weights(folder)))
    name = f"the text encoder in {folder}"
    return load_text_encoder(build_text_encoder(config), state, name, dtype)


def _config_of(folder: Path, wanted: str, key: str) -> dict[str, Any]:
    """The configuration in ``folder``, provided that it says it is of class ``wanted``."""
    config = read_json(folder / "config.json")
    found = config.get(key, wanted)
    if wanted not in (found, *(found if isinstance(found, list) else ())):
        raise CheckpointError(f"{folder} holds a {found}, expected a {wanted}")
    return config


def load_tokenizer_folder(folder: Path) -> CLIPTokenizer | None:
    """The tokenizer in ``folder``, None where there is none; the network is never asked."""
    if not (folder / "tokenizer_config.json").is_file() or not (folder / "vocab.json").is_file():
        return None
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)


# --------------------------------------------------------------------------------------------------
# Schedules.


def schedule_from_config(config: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule of a diffusers scheduler's configuration."""
    if config.get("trained_betas"):
        return from_betas(torch.tensor(config["trained_betas"], dtype=torch.float64))
    name = config.get("beta_schedule", "linear")
    if name not in BETAS:
        raise CheckpointError(f"unknown beta_schedule {name!r}; known are {', '.join(BETAS)}")
    schedule = BETAS[name](
        config.get("num_train_timesteps", 1000),
        start=config.get("beta_start", 1e-4),
        end=config.get("beta_end", 2e-2),
    )
    return zero_terminal_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule


def prediction_from_config(config: Mapping[str, Any]) -> Prediction:
    """What the network predicts, by a diffusers scheduler's configuration."""
    name = config.get("prediction_type", "epsilon")
    if name not in PREDICTIONS:
        raise CheckpointError(
            f"unknown prediction_type {name!r}; known are {', '.join(PREDICTIONS)}"
        )
    return PREDICTIONS[name]
