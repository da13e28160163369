"""Convert published weight files to safetensors, with strict checks before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..graph.messages import shown_path
from ..weights.checkpoints import (
    FOREIGN_KEY,
    METADATA_KEY,
    CheckpointError,
    Header,
    read_state,
    save,
)
from ..weights.weight_files import header_of, read_weights
from . import (
    animatediff,
    factorised_files,
    lavie,
    lvdm,
    modelscope,
    stable_diffusion,
    svd,
    svd_decoder,
    svd_files,
    videocrafter,
)
from .animatediff_config import prefix_of
from .animatediff_keys import split
from .factorised_keys import is_duplicate
from .lavie_config import kind_in
from .stable_diffusion_parts import is_leftover, with_average
from .stable_diffusion_refusals import what_it_is

STABLE_DIFFUSION, LVDM, VIDEOCRAFTER = "stable diffusion", "lvdm", "videocrafter"
OWN_NAMES = lavie.FAMILY, animatediff.FAMILY, svd.FAMILY, modelscope.FAMILY, LVDM, VIDEOCRAFTER
PUBLISHED_FORMATS = (
    STABLE_DIFFUSION, animatediff.FAMILY, svd.FAMILY, modelscope.FAMILY, LVDM, VIDEOCRAFTER,
)  # fmt: skip
"""Families whose files are recognised by their contents, even when converted."""


@dataclass(frozen=True)
class IdentifiedFile:
    """An identified file, ready to be written: tensors keep the names they came with."""

    header: Header
    state: dict[str, Tensor]

    def write(self, target: Path, dtype: torch.dtype | None = None) -> None:
        """Write the tensors atomically, cast to `dtype` (None keeps theirs)."""
        key = FOREIGN_KEY if self.header.family in PUBLISHED_FORMATS else METADATA_KEY
        save(target, separate(self.state), self.header, dtype, metadata_key=key)


def identify(path: Path) -> IdentifiedFile:
    """Read a file and check all its names and shapes.

    Supported are this project's own files, LaVie's three, motion modules of AnimateDiff and its
    successors, Stable Video Diffusion whole or in parts, ModelScope's U-Net, LVDM, VideoCrafter,
    and the single files of Stable Diffusion 1, 2, XL and the x4 upscaler. Raises CheckpointError
    for anything else.
    """
    if path.is_dir():
        raise CheckpointError(f"{shown_path(path)} is a folder, expected one file of weights")
    header = header_of(path)
    if header is not None:
        return IdentifiedFile(header, read_state(path))
    try:
        state = lavie.read(path)
    except CheckpointError:
        # A training checkpoint, or an unreadable file, for which read_weights says why.
        state = read_weights(path)
    if kind_in(shapes(state)) is not None:
        return _lavie(path, state)
    if prefix_of(state) is not None:
        return _motion_modules(path, state)
    for known in (svd_file(path, state), modelscope_file(path, state)):
        if known is not None:
            return known
    state = factorised_files.unwrapped(state)
    if lvdm.detect(shapes(state)) is not None:
        return _lvdm(path, state)
    if (kind := videocrafter.detect(shapes(state))) is not None:
        videocrafter.assemble(on_meta(state), path.name, device="meta")
        return _published(VIDEOCRAFTER, kind, state)
    return _stable_diffusion(path, state)


def _lavie(path: Path, state: dict[str, Tensor]) -> IdentifiedFile:
    config = lavie.config_of(path, state)
    lavie.assemble(on_meta(state), config, path.name)
    header = Header(family=lavie.FAMILY, kind=config.kind, config=config.as_dict())
    return IdentifiedFile(header, state)


def _motion_modules(path: Path, state: dict[str, Tensor]) -> IdentifiedFile:
    """Under plain names, and without weights of an image network."""
    state = animatediff.without_prefix(state)
    config = animatediff.config_of(path, state)
    animatediff.assemble(on_meta(state), config, path.name)
    unused = set(split(state, config, path.name).left_out)
    header = Header(
        family=animatediff.FAMILY, kind="temporal_layers", config={"variant": config.variant}
    )
    return IdentifiedFile(header, {k: v for k, v in state.items() if k not in unused})


def svd_file(path: Path, state: dict[str, Tensor]) -> IdentifiedFile | None:
    """Stable Video Diffusion: whole, its U-Net alone or its autoencoder alone; None for others."""
    plain = {k: v for k, v in state.items() if not is_leftover(k)}
    if svd.is_svd({k.removeprefix(svd_files.UNET): v.shape for k, v in plain.items()}):
        found = svd_files.take_apart(on_meta(plain), path.name)
        svd.assemble(found, path.name, device="meta")
        kept = {k: v for k, v in plain.items() if k not in svd_files.unused(plain)}
        return IdentifiedFile(Header(family=svd.FAMILY, kind="video_model", config={}), kept)
    alone = {k.removeprefix(svd_files.FIRST_STAGE): v for k, v in plain.items()}
    if svd_decoder.names_in(shapes(alone)) is None:
        return None
    svd_decoder.from_state(on_meta(alone), path.name)
    return IdentifiedFile(Header(family=svd.FAMILY, kind="temporal_decoder", config={}), plain)


def modelscope_file(path: Path, state: dict[str, Tensor]) -> IdentifiedFile | None:
    """ModelScope's U-Net under plain names; None for other files."""
    plain = modelscope.without_prefix(state)
    if not modelscope.is_modelscope(shapes(plain)):
        return None
    modelscope.assemble(on_meta(plain), path.name)
    return IdentifiedFile(Header(family=modelscope.FAMILY, kind="video_model", config={}), plain)


def _lvdm(path: Path, state: dict[str, Tensor]) -> IdentifiedFile:
    kind, on = lvdm.detect(shapes(state)), on_meta(state)
    # Any values will do: names and shapes do not depend on them.
    hints = lvdm.LvdmHints(data="sky", task="prediction")
    if kind == lvdm.AUTOENCODER_ALONE:
        own = {k: v for k, v in on.items() if not is_leftover(k)}
        lvdm.autoencoder_of(own, hints, path.name)
    else:
        for weights in ("raw", "average"):
            if weights == "raw" or any(key.startswith("model_ema.") for key in on):
                lvdm.assemble(on, path.name, hints, weights=weights, device="meta")
    return _published(LVDM, kind, state)


def _published(family: str, kind: str, state: dict[str, Tensor]) -> IdentifiedFile:
    """Without training leftovers, but with both sets of weights, the noise schedule and the table
    of signal scales; duplicate weights are kept once."""
    kept = {k: v for k, v in state.items() if factorised_files.is_used(k)}
    once = {k: v for k, v in kept.items() if not is_duplicate(k, kept)}
    return IdentifiedFile(Header(family=family, kind=kind, config={}), once)


def _stable_diffusion(path: Path, state: dict[str, Tensor]) -> IdentifiedFile:
    """Without training leftovers; the model's name is its whole configuration."""
    state = dict(with_average(state, stable_diffusion.SPECS))
    if stable_diffusion.detect(shapes(state)) is None:
        known = ", ".join((*OWN_NAMES, *stable_diffusion.SPECS))
        raise CheckpointError(f"{path.name} is none of {known}{what_it_is(state)}")
    # On meta, the kind of prediction cannot be detected; it makes no difference here.
    found = stable_diffusion.from_ldm(on_meta(state), path.name, device="meta", prediction="eps")
    kept = {k: v for k, v in state.items() if not is_leftover(k)}
    kind = "upsampler" if stable_diffusion.SPECS[found.name].max_noise_level else "image_model"
    header = Header(family=STABLE_DIFFUSION, kind=kind, config={"name": found.name})
    return IdentifiedFile(header, kept)


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items()}


def on_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same names and shapes without data."""
    return {k: v.to("meta") for k, v in state.items()}


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor its own memory, as safetensors requires: published pickles hold one table
    of constants under many names."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        found[key] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found
