"""The text encoders of Stable Diffusion 1 and 2 from files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTextModel

from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError
from ..weights.weight_files import read_weights
from . import stable_diffusion_folders as folders
from . import stable_diffusion_parts as parts
from .stable_diffusion import CLIP_LENGTH
from .stable_diffusion_refusals import what_it_is
from .stable_diffusion_specs import SPECS, ImageSpec

TOKENS = ("embeddings.token_embedding.weight", "token_embedding.weight")
"""The table of tokens, as transformers and as OpenCLIP name it."""


@dataclass(frozen=True)
class TextModel:
    """A text encoder with its tokenizer; see `stable_diffusion.ImageModel`."""

    text_encoder: CLIPTextModel
    tokenizer: ClipTokenizer
    text_length: int
    dropped_layers: int
    box_encoder: None = None  # of this pack's own models alone


def load(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    specs: Mapping[str, ImageSpec] = SPECS,
) -> TextModel:
    """Load a file of a text encoder, alone or among other networks.

    Raises CheckpointError, in one sentence, for a file without one, or with another family's.
    """
    state = read_weights(path)
    placed = ((*parts.place_of(key), key) for key in state)
    text = {
        where: state[key]
        for place, where, key in placed
        if place == "text" and where.startswith(parts.ROOTS["text"]) and not parts.is_leftover(key)
    }
    table = next((text[key] for key in TOKENS if key in text), None)
    if table is None:
        raise CheckpointError(f"{path.name} holds no CLIP text encoder{what_it_is(state)}")
    spec = _spec_of(table.shape[1], path.name, specs)
    own = parts.text_state(text, spec.text["num_hidden_layers"])
    encoder = folders.build_text_encoder(spec.text)
    encoder = folders.load_text_encoder(encoder, own, path.name, dtype).to(device)
    return TextModel(encoder, ClipTokenizer(spec.padding), CLIP_LENGTH, int(spec.open_clip))


def _spec_of(width: int, name: str, specs: Mapping[str, ImageSpec]) -> ImageSpec:
    for spec in specs.values():
        if spec.text["hidden_size"] == width:
            return spec
    known = ", ".join(f"{spec.text['hidden_size']} ({n})" for n, spec in specs.items())
    raise CheckpointError(f"{name} is a text encoder of width {width}, known are {known}")
