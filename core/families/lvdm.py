"""LVDM (He et al. 2022): unconditional, text-to-video, prediction and interpolation models, and the
3D autoencoder whose latents all but the text-to-video model use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel

from ..diffusion.denoiser import Prediction
from ..diffusion.preconditioning import discrete
from ..diffusion.schedules import scaled_linear
from ..networks.autoencoder_3d import Autoencoder3D, Autoencoder3DConfig
from ..networks.diffusion_model import DiffusionModel
from ..networks.factorised_unet import FactorisedUNet
from ..networks.layers.residual import channels_last
from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError, Header, broken_config, load_into, save
from ..weights.weight_files import header_of
from . import factorised_files as files
from . import factorised_keys as keys
from . import stable_diffusion_autoencoders as autoencoders
from .checkpoint_hints import CheckpointHints
from .factorised_config import Shapes, autoencoder_config, is_autoencoder_3d, is_lvdm
from .factorised_files import UNET, Parts, Weights
from .stable_diffusion import CLIP_LENGTH
from .stable_diffusion_parts import is_leftover
from .stable_diffusion_refusals import what_it_is
from .stable_diffusion_specs import CLIP_L
from .stable_diffusion_text import TextModel
from .video_parts import VideoParts

FAMILY, AUTOENCODER_KIND, MODEL_KIND = "lvdm", "autoencoder_3d", "factorised_model"
"""The family, and the kinds of its files in the project's own format."""

BESIDE = "lvdm_autoencoder.safetensors"
"""The autoencoder's file beside a model in the project's own format, which holds none."""

KINDS_IN_WORDS = {
    AUTOENCODER_KIND: "an autoencoder of videos",
    MODEL_KIND: "a whole video model",
}

LATENTS = {
    "sky": (0.33422927, 1.4606637),
    "taichi": (0.175733933, 0.03291025),
    "ucf": (0.220142075, 0.5837740898),
}
"""Scale and shift of the 3D autoencoder's latents, by its training data."""

KINDS = UNCONDITIONAL, WITH_TEXT, GIVEN, AUTOENCODER_ALONE = (
    "unconditional",
    "text to video",
    "given frames",
    "autoencoder",
)
IMAGE_LATENT_SCALE = 0.18215
AUTOENCODER = "first_stage_model."
UNCONDITIONAL_BETAS, TEXT_BETAS = (1.5e-3, 1.55e-2), (8.5e-4, 1.2e-2)
CONTEXT_TASKS = ("prediction", "interpolation")
PADDING = 49407  # the token that pads short prompts


@dataclass(frozen=True, kw_only=True)
class LvdmHints:
    """What a file's weights do not reveal.

    data: the 3D autoencoder's training data, one of LATENTS. task: of a model conditioned on
    frames, one of CONTEXT_TASKS. prediction: of a network of the project's own. autoencoder, text:
    configurations of networks of unpublished sizes, the text encoder's as transformers has it.
    """

    data: str | None = None
    task: str | None = None
    autoencoder: Autoencoder3DConfig | None = None
    prediction: Prediction = "eps"
    text: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class LvdmModel:
    """A model to sample from, with its autoencoder and text encoder; None for what the file does
    not hold. 2D autoencoders work frame by frame."""

    model: DiffusionModel
    autoencoder: Autoencoder3D | AutoencoderKL | None
    text_encoder: CLIPTextModel | None = None
    tokenizer: ClipTokenizer | None = None


def detect(shapes: Shapes) -> str | None:
    """The kind of file, one of KINDS, by the names and shapes of its weights; None if it is not
    LVDM's."""
    unet = {k[len(UNET) :]: v for k, v in shapes.items() if k.startswith(UNET)}
    if not unet:
        return AUTOENCODER_ALONE if is_autoencoder_3d(shapes) else None
    if not is_lvdm(unet):
        return None
    if any(".attn1_tmp." in key for key in unet):
        return WITH_TEXT
    given = "label_emb.weight" in unet or "time_embed_cond.0.weight" in unet
    return GIVEN if given else UNCONDITIONAL


def load(
    path: str | os.PathLike,
    hints: LvdmHints | None = None,
    *,
    weights: Weights = "published",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LvdmModel:
    """Load a checkpoint as published.

    weights: "published" is the running average for models conditioned on frames, and the raw
    weights for unconditional and text-to-video models, as the original samples them. Raises
    CheckpointError for a file that is missing, broken, incomplete or of another family, and if
    `hints` lacks something that the weights do not reveal.
    """
    path = Path(path)
    own = header_hints(path)
    if own is not None:
        hints, weights = own, "raw"  # such files hold no others
    return assemble(files.read(path), path.name, hints, weights=weights, dtype=dtype, device=device)


def assemble(
    state: Mapping[str, Tensor],
    name: str,
    hints: LvdmHints | None = None,
    *,
    weights: Weights = "published",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LvdmModel:
    """Build the model from a checkpoint's state dict; `name` is what errors call the file."""
    hints = hints or LvdmHints()
    kind = detect({k: v.shape for k, v in state.items()})
    if kind is None or kind == AUTOENCODER_ALONE:
        what = ": it is a 3D autoencoder alone" if kind else what_it_is(state)
        raise CheckpointError(f"{name} is not an LVDM model{what}")
    found = files.take_apart(state, name)
    task = _task(kind, hints, name)
    autoencoder = _autoencoder(found, hints, name, dtype)
    (time, factor), scale, shift = _latents(autoencoder, kind, hints, name)
    published: Weights = "average" if kind == GIVEN else "raw"
    own = files.unet_weights(found, weights, published, name)
    network = files.load_unet(own, name, dtype).to(device)
    text = files.load_text_encoder(found.text, hints.text or CLIP_L, name, dtype)
    first, last = TEXT_BETAS if kind == WITH_TEXT else UNCONDITIONAL_BETAS
    schedule = files.schedule_of(state, scaled_linear(start=first, end=last), name)
    model = DiffusionModel(
        network=network,
        preconditioning=discrete(hints.prediction, schedule),
        own_task=task,
        latent_channels=network.config.latent_channels,
        factor=factor,
        temporal_factor=time,
        latent_scale=scale,
        latent_shift=-shift,
        family=f"{FAMILY} {kind}",
    )
    return LvdmModel(
        model=model,
        autoencoder=autoencoder and autoencoder.to(device),
        text_encoder=text and text.to(device),
        tokenizer=ClipTokenizer(PADDING) if text is not None else None,
    )


def _latents(
    autoencoder: Autoencoder3D | AutoencoderKL | None, kind: str, hints: LvdmHints, name: str
) -> tuple[tuple[int, int], float, float]:
    """(frames and pixels per latent position, latent scale, latent shift)."""
    config = autoencoder.config if isinstance(autoencoder, Autoencoder3D) else hints.autoencoder
    if config is not None:
        return config.factors[:2], config.scale, config.shift
    if kind == WITH_TEXT:
        return (1, 8), IMAGE_LATENT_SCALE, 0.0
    return (4, 8), *latents_of(hints, name)


def _task(kind: str, hints: LvdmHints, name: str) -> str:
    if kind != GIVEN:
        return "text to video" if kind == WITH_TEXT else ""
    if hints.task not in CONTEXT_TASKS:
        raise CheckpointError(
            f"{name} was trained for prediction or for interpolation, but its weights do not "
            f"reveal which; specify one of the two, got {hints.task!r}"
        )
    return hints.task


def latents_of(hints: LvdmHints, name: str) -> tuple[float, float]:
    """Scale and shift of latents; CheckpointError if the training data is not specified."""
    if hints.data not in LATENTS:
        raise CheckpointError(
            f"the latents of {name} are scaled for its training data, which its weights do not "
            f"reveal; specify one of {', '.join(LATENTS)}, got {hints.data!r}"
        )
    return LATENTS[hints.data]


# --------------------------------------------------------------------------------------------------
# For the registry.


def detects(path: Path) -> bool:
    """Whether a file without a header holds a model or an autoencoder of LVDM's."""
    try:
        return detect({k: v.shape for k, v in files.read(path).items()}) is not None
    except CheckpointError:
        return False


def load_layers(path: Path, **where: Any) -> NoReturn:
    """Raise CheckpointError: LVDM has no layers that fit into an image model."""
    raise CheckpointError(
        f"{path.name} is a network made for video as a whole, without temporal layers for other "
        "image models: load it with Load Video Model"
    )


def load_model(path: Path, **where: Any) -> DiffusionModel:
    return load(path, **where).model


def load_parts(path: Path, *, hints: CheckpointHints, **where: Any) -> VideoParts:
    """Load the model with its autoencoder and text encoder."""
    own = LvdmHints(data=hints.data or None, task=hints.task or None)
    found = load(path, own, weights=hints.weights, **where)
    autoencoder, beside = found.autoencoder, path.with_name(BESIDE)
    if autoencoder is None and header_hints(path) is not None and beside.is_file():
        autoencoder = load_autoencoder(beside, **where)
    text = None
    if found.text_encoder is not None:
        text = TextModel(found.text_encoder, found.tokenizer, CLIP_LENGTH, 0)
    return VideoParts(model=found.model, autoencoder=autoencoder, text=text)


def load_vae(path: Path, **where: Any) -> Autoencoder3D:
    """Load the autoencoder of a file for unscaled latents, so that its training data need not be
    known."""
    if header_of(path) is not None:
        return load_autoencoder(path, **where)
    state = files.read(path)
    shapes = {k: v.shape for k, v in state.items()}
    if not is_autoencoder_3d(shapes):
        state = files.take_apart(state, path.name).autoencoder
        shapes = {k: v.shape for k, v in state.items()}
    if not is_autoencoder_3d(shapes):
        raise CheckpointError(f"{path.name} holds no 3D autoencoder")
    config = autoencoder_config(shapes, scale=1.0, shift=0.0)
    return load_autoencoder(path, LvdmHints(autoencoder=config), **where)


# --------------------------------------------------------------------------------------------------
# Autoencoders.


def load_autoencoder(
    path: str | os.PathLike,
    hints: LvdmHints | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Autoencoder3D:
    """Load the 3D autoencoder from a file of its own, which may include its losses, or from a whole
    checkpoint. Raises CheckpointError like :func:`load`."""
    path = Path(path)
    state = files.read(path)
    header = header_of(path)
    if header is not None and header.kind == AUTOENCODER_KIND:
        with broken_config(path.name), torch.device("meta"):
            module = Autoencoder3D(Autoencoder3DConfig(**tuples(header.config)))
        return channels_last(load_into(module, state, path.name, dtype)).to(device)
    if is_autoencoder_3d({k: v.shape for k, v in state.items()}):
        own = {k: v for k, v in state.items() if not is_leftover(k)}
    else:
        own = files.take_apart(state, path.name).autoencoder
    return autoencoder_of(own, hints or LvdmHints(), path.name, dtype).to(device)


def autoencoder_of(
    state: Mapping[str, Tensor],
    hints: LvdmHints,
    name: str,
    dtype: torch.dtype = torch.float32,
) -> Autoencoder3D:
    """Build the 3D autoencoder from weights without a prefix."""
    shapes = {k: v.shape for k, v in state.items()}
    if not is_autoencoder_3d(shapes):
        raise CheckpointError(f"{name} holds no 3D autoencoder")
    config = hints.autoencoder or autoencoder_config(shapes, *latents_of(hints, name))
    return files.load_autoencoder_3d(state, config, name, dtype)


def _autoencoder(
    found: Parts, hints: LvdmHints, name: str, dtype: torch.dtype
) -> Autoencoder3D | AutoencoderKL | None:
    if not found.autoencoder:
        return None
    if is_autoencoder_3d({k: v.shape for k, v in found.autoencoder.items()}):
        return autoencoder_of(found.autoencoder, hints, name, dtype)
    named = f"the autoencoder of {name}"
    return autoencoders.from_state(found.autoencoder, named, dtype, scale=IMAGE_LATENT_SCALE)


# --------------------------------------------------------------------------------------------------
# The project's own files: the original's names, and in the header what weights do not reveal.


def header_hints(path: Path) -> LvdmHints | None:
    """The settings in the header of a model's file; None for any other file."""
    header = header_of(path)
    if header is None or header.kind != MODEL_KIND:
        return None
    with broken_config(path.name):
        config = dict(header.config)
        latents = Autoencoder3DConfig(**tuples(config.pop("autoencoder")))
        return LvdmHints(autoencoder=latents, **config)


def autoencoder_header(config: Autoencoder3DConfig, notes: dict) -> Header:
    """The header of a 3D autoencoder's file."""
    return Header(family=FAMILY, kind=AUTOENCODER_KIND, config=asdict(config), notes=notes)


def save_model(
    path: str | os.PathLike,
    network: FactorisedUNet,
    latents: Autoencoder3DConfig,
    notes: dict,
    prediction: Prediction = "eps",
) -> None:
    """Write a network conditioned on frames, for latents of a 3D autoencoder of this config."""
    found = keys.unet_to_original(network.state_dict(), network.config)
    config = {"task": CONTEXT_TASKS[0], "autoencoder": asdict(latents), "prediction": prediction}
    header = Header(family=FAMILY, kind=MODEL_KIND, config=config, notes=notes)
    save(path, {UNET + key: tensor for key, tensor in found.items()}, header)


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON lists back to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


# --------------------------------------------------------------------------------------------------
# Networks -> files.


def to_original(model: LvdmModel) -> dict[str, Tensor]:
    """The published file's state dict: inverse of :func:`assemble` for the U-Net and, if it is 3D,
    the autoencoder."""
    network = model.model.network
    found = keys.unet_to_original(network.state_dict(), network.config)
    state = {UNET + key: tensor for key, tensor in found.items()}
    if isinstance(model.autoencoder, Autoencoder3D):
        own = model.autoencoder
        inner = keys.autoencoder_to_original(own.state_dict(), own.config)
        state |= {AUTOENCODER + key: tensor for key, tensor in inner.items()}
    return state
