"""Load the parts of diffusers folders of image models: strictly, and from local files only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedModel

from ..diffusion.denoiser import Prediction
from ..diffusion.schedules import (
    NoiseSchedule,
    from_betas,
    linear,
    scaled_linear,
    zero_terminal_snr,
)
from ..graph.messages import written
from ..networks.sites import layout_of
from ..text.encoders import read_tokenizer
from ..weights.checkpoints import CheckpointError, broken_config, load_into, reason_of
from ..weights.weight_files import read_weights
from .stable_diffusion_keys import clip_names, modern_autoencoder

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
BETAS: dict[str, Callable[..., NoiseSchedule]] = {"linear": linear, "scaled_linear": scaled_linear}

# Types of the configuration fields in use; missing fields have defaults.
_TYPES = {int: "a whole number", float: "a number", str: "a text", list: "a list"}
TextEncoder = TypeVar("TextEncoder", bound=PreTrainedModel)
Fields = Mapping[str, tuple[type, ...]]
_LEVELS: Fields = dict.fromkeys(
    ("block_out_channels", "down_block_types", "up_block_types"), (list,)
)
_CHANNELS: Fields = dict.fromkeys(("in_channels", "out_channels", "norm_num_groups"), (int,))
UNET_FIELDS: Fields = {
    **_LEVELS,
    **_CHANNELS,
    "cross_attention_dim": (int,),
    "layers_per_block": (int, list),
    "attention_head_dim": (int, list),
}
AUTOENCODER_FIELDS: Fields = {
    **_LEVELS,
    **_CHANNELS,
    "latent_channels": (int,),
    "layers_per_block": (int,),
    "scaling_factor": (float, int),
}
TEXT_FIELDS: Fields = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), (int,)),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), (int,)),
    "max_position_embeddings": (int,),
    "hidden_act": (str,),
}
SCHEDULER_FIELDS: Fields = {
    "num_train_timesteps": (int,),
    **dict.fromkeys(("beta_start", "beta_end"), (float, int)),
    "beta_schedule": (str,),
}


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a diffusers folder with at least a U-Net."""
    return (path / "unet" / "config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file; CheckpointError if it is missing or no JSON object."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing from {path.parent}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {reason_of(error)}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds {written(found)} instead of settings")
    return found


def find_weights(folder: Path, stem: str) -> Path:
    """The weight file of one part: safetensors before pickles, then full precision before half."""
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
    """The weight file of a text encoder; transformers has another name for its pickles."""
    stem = "pytorch_model" if (folder / "pytorch_model.bin").is_file() else "model"
    return find_weights(folder, "model" if any(folder.glob("model*.safetensors")) else stem)


# --------------------------------------------------------------------------------------------------
# Parts.


def build_unet(config: Mapping[str, Any], name: str = "the U-Net") -> UNet2DConditionModel:
    """An image U-Net on the meta device; ``name`` is what errors call its configuration."""
    with broken_config(name), torch.device("meta"):
        return UNet2DConditionModel.from_config(dict(config))


def build_autoencoder(config: Mapping[str, Any], name: str = "the autoencoder") -> AutoencoderKL:
    """An autoencoder on the meta device."""
    with broken_config(name), torch.device("meta"):
        return AutoencoderKL.from_config(dict(config))


def build_text_encoder(
    config: Mapping[str, Any],
    name: str = "the text encoder",
    kind: Callable[[CLIPTextConfig], TextEncoder] = CLIPTextModel,
) -> TextEncoder:
    """A CLIP text encoder on the meta device."""
    known = {k: v for k, v in config.items() if k not in ("architectures", "dtype", "torch_dtype")}
    with broken_config(name), torch.device("meta"):
        return kind(CLIPTextConfig(**known))


def load_text_encoder(
    encoder: CLIPTextModel, state: Mapping[str, Tensor], name: str, dtype: torch.dtype
) -> CLIPTextModel:
    """Load ``state``, named as by :func:`~.stable_diffusion_keys.clip_names`, into the
    ``CLIPTextModel`` of any transformers version."""
    prefixed = any(k.startswith("text_model.") for k in encoder.state_dict())
    prefix = "text_model." if prefixed else ""
    load_into(encoder, {prefix + k: v for k, v in state.items()}, name, dtype)
    return with_positions(encoder)


def with_positions(encoder: TextEncoder) -> TextEncoder:
    """Set the position ids of a loaded encoder: not part of the state, they are still on meta."""
    for module in encoder.modules():
        if "position_ids" in module._buffers:
            module.position_ids = torch.arange(encoder.config.max_position_embeddings)[None]
    return encoder


def load_unet_folder(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """Load the image U-Net that diffusers wrote to ``folder``."""
    unet = build_unet(unet_config(folder), str(folder / "config.json"))
    with broken_config(str(folder / "config.json")):
        layout_of(unet.config)
    state = read_weights(find_weights(folder, "diffusion_pytorch_model"))
    return load_into(unet, state, f"the U-Net in {folder}", dtype)


def load_autoencoder_folder(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Load the autoencoder that diffusers wrote to ``folder``."""
    config = _config_of(folder, "AutoencoderKL", "_class_name", AUTOENCODER_FIELDS)
    state = read_weights(find_weights(folder, "diffusion_pytorch_model"))
    module = build_autoencoder(config, str(folder / "config.json"))
    return load_into(module, modern_autoencoder(state), f"the autoencoder in {folder}", dtype)


def load_text_encoder_folder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """Load the CLIP text encoder that transformers wrote to ``folder``."""
    config = text_config(folder, "CLIPTextModel")
    module = build_text_encoder(config, str(folder / "config.json"))
    state = clip_names(read_weights(find_text_weights(folder)))
    return load_text_encoder(module, state, f"the text encoder in {folder}", dtype)


def text_config(folder: Path, wanted: str) -> dict[str, Any]:
    """The configuration of the CLIP text encoder of class ``wanted`` in ``folder``."""
    return _config_of(folder, wanted, "architectures", TEXT_FIELDS)


def unet_config(folder: Path) -> dict[str, Any]:
    """The configuration of the image U-Net that diffusers wrote to ``folder``."""
    return _config_of(folder, "UNet2DConditionModel", "_class_name", UNET_FIELDS)


def _config_of(folder: Path, wanted: str, key: str, fields: Fields) -> dict[str, Any]:
    """The configuration in ``folder``; CheckpointError unless it is of class ``wanted`` and its
    fields have the right types."""
    config = read_json(folder / "config.json")
    found = config.get(key, wanted)
    if wanted not in (found, *(found if isinstance(found, list) else ())):
        raise CheckpointError(f"{folder} holds {written(found)}, expected a {wanted}")
    check_fields(config, fields, folder / "config.json")
    return config


def check_fields(config: Mapping[str, Any], fields: Fields, path: Path) -> None:
    """Raise CheckpointError for a field with a value of the wrong type."""
    for name, types in fields.items():
        if name not in config:
            continue
        value = config[name]
        if not isinstance(value, types) or (isinstance(value, bool)):
            wanted = " or ".join(_TYPES[kind] for kind in types)
            raise CheckpointError(f"{path}: {name} must be {wanted}, got {written(value)}")


def load_tokenizer_folder(folder: Path) -> CLIPTokenizer | None:
    """The tokenizer in ``folder``; None if there is none. Nothing is downloaded."""
    if not (folder / "tokenizer_config.json").is_file() or not (folder / "vocab.json").is_file():
        return None
    return read_tokenizer(folder)


# --------------------------------------------------------------------------------------------------
# Schedules.


def load_schedule(path: Path) -> NoiseSchedule:
    """The noise schedule in a diffusers scheduler's file."""
    config = read_json(path)
    check_fields(config, SCHEDULER_FIELDS, path)
    with broken_config(str(path)):
        return schedule_from_config(config)


def load_prediction(path: Path) -> Prediction:
    """What the network predicts, by a diffusers scheduler's file."""
    return prediction_from_config(read_json(path))


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
