"""What Stable Diffusion XL (Podell et al. 2023) adds: a second text encoder, OpenCLIP's, whose
pooled output also conditions the U-Net; and what files say about their noise levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from ..diffusion.denoiser import Prediction
from ..diffusion.schedules import NoiseSchedule, scaled_linear, zero_terminal_snr
from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError, load_into
from . import stable_diffusion_folders as folders
from . import stable_diffusion_keys as keys
from . import stable_diffusion_parts as parts
from .stable_diffusion_specs import ImageSpec

PROJECTION = "text_projection"
VELOCITY, ZERO_SNR = "v_pred", "ztsnr"
"""Entries of single files that mark v-prediction and a schedule with zero terminal SNR."""
OTHER_LEVELS = ("edm_mean", "edm_vpred.sigma_max")
"""Entries of models with other noise levels (Playground 2.5)."""


@dataclass(frozen=True)
class SecondText:
    """The second text encoder and its tokenizer. Its penultimate layer, without the final norm, is
    part of the condition; its last layer, pooled and projected, conditions the U-Net as well."""

    encoder: CLIPTextModelWithProjection
    tokenizer: Any  # CLIPTokenizer or ClipTokenizer


def schedule_of(
    state: Mapping[str, Tensor], spec: ImageSpec, name: str
) -> tuple[NoiseSchedule, Prediction | None]:
    """(noise schedule, prediction type or None for unknown) of a single file; CheckpointError for
    unsupported noise levels."""
    schedule = scaled_linear(start=spec.betas[0], end=spec.betas[1])
    if spec.second_text is None:
        return schedule, spec.prediction
    other = next((key for key in OTHER_LEVELS if key in state), None)
    if other is not None:
        raise CheckpointError(f"{name} has noise levels of its own ({other}), which needs ComfyUI")
    if ZERO_SNR in state:
        schedule = zero_terminal_snr(schedule)
    return schedule, "v" if VELOCITY in state else spec.prediction


# --------------------------------------------------------------------------------------------------
# The second text encoder.


def second_text(
    found: Mapping[str, Tensor], spec: ImageSpec, name: str, dtype: torch.dtype
) -> SecondText | None:
    """The second text encoder of a single file; None if the file has none."""
    if spec.second_text is None or not found:
        return None
    encoder = build(spec.second_text, name)
    state = second_text_state(found, spec.second_text["num_hidden_layers"])
    return SecondText(load(encoder, state, name, dtype), ClipTokenizer(spec.second_padding))


def build(config: Mapping[str, Any], name: str) -> CLIPTextModelWithProjection:
    """The second text encoder on the meta device; `name` is what errors call its configuration."""
    return folders.build_text_encoder(config, name, CLIPTextModelWithProjection)


def load(
    encoder: CLIPTextModelWithProjection, state: Mapping[str, Tensor], name: str,
    dtype: torch.dtype,
) -> CLIPTextModelWithProjection:  # fmt: skip
    """Load `state`, named as by `second_text_state`."""
    load_into(encoder, dict(state), name, dtype)
    return folders.with_positions(encoder)


def second_text_state(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Rename a file's weights to transformers' names, from these or OpenCLIP's, whose projection is
    transposed."""
    own = {k: v for k, v in state.items() if not k.startswith(PROJECTION)}
    found = {f"text_model.{k}": v for k, v in parts.text_state(own, layers).items()}
    if PROJECTION in state:
        return found | {f"{PROJECTION}.weight": state[PROJECTION].T}
    projection = f"{PROJECTION}.weight"
    return found | ({projection: state[projection]} if projection in state else {})


def second_text_to_ldm(second: SecondText, layers: int) -> dict[str, Tensor]:
    """Rename to OpenCLIP's names: inverse of `second_text_state`."""
    state = dict(second.encoder.state_dict())
    projection = state.pop(f"{PROJECTION}.weight")
    return keys.text_to_open_clip(state, layers) | {PROJECTION: projection.T}


def second_text_folder(path: Path, dtype: torch.dtype) -> SecondText | None:
    """The second text encoder of a diffusers folder; None if the folder has none."""
    folder = path / "text_encoder_2"
    if not folder.is_dir():
        return None
    config = folders.text_config(folder, "CLIPTextModelWithProjection")
    encoder = build(config, str(folder / "config.json"))
    state = folders.read_weights(folders.find_text_weights(folder))
    own = {k.removeprefix("text_model."): v for k, v in state.items()}
    state = second_text_state(own, config.get("num_hidden_layers", 12))
    encoder = load(encoder, state, f"the text encoder in {folder}", dtype)
    found = folders.load_tokenizer_folder(path / "tokenizer_2")
    return SecondText(encoder, found or ClipTokenizer(0))


def moved(second: SecondText | None, device: torch.device | str) -> SecondText | None:
    """The same on a device; None stays None."""
    return second and replace(second, encoder=second.encoder.to(device))
