"""Load the text encoders of Stable Diffusion 1, 2 and XL from files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel

from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError
from ..weights.weight_files import read_weights
from . import stable_diffusion_folders as folders
from . import stable_diffusion_parts as parts
from . import stable_diffusion_xl as xl
from .stable_diffusion import CLIP_LENGTH
from .stable_diffusion_refusals import what_it_is
from .stable_diffusion_specs import SPECS, ImageSpec

TOKENS = ("embeddings.token_embedding.weight", "token_embedding.weight")
"""The token embedding, under transformers' and OpenCLIP's names."""
PROJECTIONS = (f"{xl.PROJECTION}.weight", xl.PROJECTION)
"""The projection of the pooled text, likewise."""


@dataclass(frozen=True)
class TextModel:
    """A text encoder with its tokenizer; see `stable_diffusion.ImageModel`."""

    text_encoder: CLIPTextModel
    tokenizer: ClipTokenizer
    text_length: int
    dropped_layers: int
    box_encoder: None = None  # the embedded models only, like closed vocabularies
    known_words: None = None
    second_text: xl.SecondText | None = None


@dataclass(frozen=True)
class _File:
    """The text encoder of a file, under names without wrappers, and its width."""

    name: str
    state: dict[str, Tensor]
    width: int


def load(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    specs: Mapping[str, ImageSpec] = SPECS,
) -> TextModel:
    """Load a text encoder from a file that may hold other networks as well.

    Raises CheckpointError for a file without one, or with another family's.
    """
    file = _read(path)
    for spec in specs.values():
        if spec.text["hidden_size"] == file.width:
            return _built(file, spec, dtype, device)
    known = ", ".join(f"{spec.text['hidden_size']} ({n})" for n, spec in specs.items())
    raise CheckpointError(f"{file.name} is a text encoder of width {file.width}, known are {known}")


def load_pair(
    paths: tuple[Path, Path],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    specs: Mapping[str, ImageSpec] = SPECS,
) -> TextModel:
    """Load the text encoders of a model that has two, from one file each, in any order.

    Raises CheckpointError for files that are not such a pair.
    """
    files = [_read(path) for path in paths]
    found = {file.width: file for file in files}
    for spec in specs.values():
        second = spec.second_text or {"hidden_size": None}
        widths = spec.text["hidden_size"], second["hidden_size"]
        if found.keys() == set(widths):
            first, other = (found[width] for width in widths)
            text = xl.second_text(other.state, spec, other.name, dtype)
            return replace(_built(first, spec, dtype, device), second_text=xl.moved(text, device))
    both = " and ".join(f"{file.name} of width {file.width}" for file in files)
    raise CheckpointError(f"{both} are not the two text encoders of Stable Diffusion XL")


def _built(
    file: _File, spec: ImageSpec, dtype: torch.dtype, device: torch.device | str
) -> TextModel:
    own = parts.text_state(file.state, spec.text["num_hidden_layers"])
    encoder = folders.build_text_encoder(spec.text)
    encoder = folders.load_text_encoder(encoder, own, file.name, dtype).to(device)
    return TextModel(encoder, ClipTokenizer(spec.padding), CLIP_LENGTH, int(spec.open_clip))


def _read(path: Path) -> _File:
    state = read_weights(path)
    found: dict[str, dict[str, Tensor]] = {place: {} for place in parts.TEXTS}
    for key, tensor in state.items():
        place, where = parts.place_of(key)
        if place in found and where.startswith(parts.ROOTS[place]) and not parts.is_leftover(key):
            found[place][where] = tensor
    text = next((one for one in found.values() if one), {})
    table = next((text[key] for key in TOKENS if key in text), None)
    if table is None:
        raise CheckpointError(f"{path.name} holds no CLIP text encoder{what_it_is(state)}")
    # In a file of its own the projection has no prefix, so `place_of` assigns it to no network.
    text |= {key: state[key] for key in PROJECTIONS if key in state}
    return _File(path.name, text, table.shape[1])
