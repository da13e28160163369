"""Stable Diffusion 1, 2, XL and the x4 upscaler from published files and diffusers folders.

Rombach et al. 2022, Podell et al. 2023. Nothing is ever downloaded, and models are recognised by
the names and shapes of their weights, never by file name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from ..diffusion.denoiser import Prediction
from ..diffusion.preconditioning import discrete
from ..diffusion.schedules import NoiseSchedule
from ..networks.diffusion_model import DiffusionModel
from ..networks.sites import UNetLayout
from ..networks.video_unet import VideoUNet, eject
from ..text.clip_vocabulary import ClipTokenizer
from ..weights.checkpoints import CheckpointError, load_into
from . import stable_diffusion_autoencoders as autoencoders
from . import stable_diffusion_folders as folders
from . import stable_diffusion_keys as keys
from . import stable_diffusion_parts as parts
from . import stable_diffusion_xl as xl
from .stable_diffusion_refusals import of_channels, what_it_is
from .stable_diffusion_specs import SPECS, ImageSpec

UNET, AUTOENCODER = parts.UNET, "first_stage_model."
FIRST_OF_TWO, SECOND_OF_TWO = (
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.model.",
)
CLIP_TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."
CLIP_LENGTH = 77  # tokens of a prompt


@dataclass(frozen=True)
class ImageModel:
    """An image model with its text encoder and autoencoder.

    ``text_encoder(ids).last_hidden_state`` is always the condition: where the published model uses
    the penultimate layer, the layers above it (``dropped_layers``) are left out. With a
    ``second_text``, the condition joins the penultimate layers of both, see there.
    """

    model: DiffusionModel
    text_encoder: CLIPTextModel | None  # None: the file holds none
    tokenizer: Any  # CLIPTokenizer or ClipTokenizer
    text_length: int
    autoencoder: AutoencoderKL | None
    dropped_layers: int = 0
    name: str = "image model"
    box_encoder: None = None  # the embedded models only
    known_words: None = None  # the embedded models only: these take any words
    second_text: xl.SecondText | None = None


def detect(
    shapes: Mapping[str, Sequence[int]], specs: Mapping[str, ImageSpec] = SPECS
) -> str | None:
    """The name of the spec whose U-Net has weights of these names and shapes; None if none has."""
    found = {k: tuple(v) for k, v in parts.unet_of(shapes).items()}
    for name, spec in specs.items():
        # Video models keep the image model's names and add their own.
        unet = parts.unet_shapes(found, spec)
        if not unet:
            continue
        marks = _marks(spec.unet)
        labelled = any(key.startswith("label_emb") for key in marks)
        if all(unet.get(key) == shape for key, shape in marks.items()) and (
            labelled or not any(k.startswith("label_emb") for k in unet)
        ):
            return name
    return None


def _marks(unet: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the few ldm weights that distinguish the U-Nets."""
    first, last = unet["block_out_channels"][0], unet["block_out_channels"][-1]
    projection = (last, last) if unet.get("use_linear_projection") else (last, last, 1, 1)
    marks = {
        "input_blocks.0.0.weight": (first, unet.get("in_channels", 4), 3, 3),
        "out.2.weight": (unet.get("out_channels", 4), first, 3, 3),
        "middle_block.1.proj_in.weight": projection,
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (
            last,
            unet["cross_attention_dim"],
        ),
    }
    if unet.get("num_class_embeds"):
        marks["label_emb.weight"] = (unet["num_class_embeds"], 4 * first)
    if unet.get("addition_embed_type"):
        inputs = unet["projection_class_embeddings_input_dim"]
        marks["label_emb.0.0.weight"] = (4 * first, inputs)
    return marks


def load(
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    prediction: Prediction | None = None,
    specs: Mapping[str, ImageSpec] = SPECS,
) -> ImageModel:
    """Load a single file (.safetensors, or .ckpt of nothing but tensors) or a diffusers folder.

    ``prediction`` overrides what the file says or suggests. The autoencoders of the upscaler and of
    XL stay in float32 instead of float16, which they overflow. Raises CheckpointError for a file
    that is missing, broken, incomplete or of another family.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path, dtype, device, prediction)
    if not path.is_file():
        raise CheckpointError(f"no image model at {path}")
    return from_ldm(
        folders.read_weights(path),
        path.name,
        dtype=dtype,
        device=device,
        prediction=prediction,
        specs=specs,
    )


# --------------------------------------------------------------------------------------------------
# Single files.


def from_ldm(
    state: Mapping[str, Tensor],
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    prediction: Prediction | None = None,
    specs: Mapping[str, ImageSpec] = SPECS,
) -> ImageModel:
    """Build the image model from a single file's state dict; ``name`` is what errors call it."""
    family, found = identify(state, name, specs)
    spec = specs[family]
    own = arranged(found, spec)
    unet = load_into(folders.build_unet(spec.unet), own.unet, f"the U-Net of {name}", dtype)
    schedule, stated = xl.schedule_of(state, spec, name)
    text = _text_encoder(own.text, spec, f"the text encoder of {name}", dtype)
    second = xl.second_text(found.second_text, spec, f"the second text encoder of {name}", dtype)
    autoencoder = _autoencoder(found.autoencoder, spec, f"the autoencoder of {name}", dtype)
    model = model_of(
        unet.to(device),
        spec.autoencoder,
        schedule,
        prediction or stated or prediction_of(own.unet, spec.layout),
        schedule if spec.max_noise_level else None,
        spec.max_noise_level,
    )
    return ImageModel(
        model,
        text and text.to(device),
        ClipTokenizer(spec.padding),
        CLIP_LENGTH,
        autoencoder and autoencoder.to(device),
        int(spec.open_clip),
        family,
        second_text=xl.moved(second, device),
    )


def identify(
    state: Mapping[str, Tensor], name: str, specs: Mapping[str, ImageSpec] = SPECS
) -> tuple[str, parts.Parts]:
    """(name of the spec that a single file matches, its networks under the file's names).

    Raises CheckpointError, which says what the file is instead, if it matches none.
    """
    state = parts.with_average(state, specs)
    family = detect({k: v.shape for k, v in state.items()}, specs)
    if family is None:
        raise CheckpointError(f"{name} is none of {', '.join(specs)}{what_it_is(state)}")
    return family, parts.take_apart(state, name)


def arranged(found: parts.Parts, spec: ImageSpec) -> parts.Parts:
    """Rename the networks of a file to diffusers' and transformers' names."""
    layers = spec.text["num_hidden_layers"]
    return parts.Parts(
        unet=parts.unet_state(found.unet, spec),
        autoencoder=autoencoders.renamed(found.autoencoder, *_autoencoder_size(spec)),
        text=parts.text_state(found.text, layers) if found.text else {},
    )


def _text_encoder(
    state: Mapping[str, Tensor], spec: ImageSpec, name: str, dtype: torch.dtype
) -> CLIPTextModel | None:
    if not state:
        return None
    return folders.load_text_encoder(folders.build_text_encoder(spec.text), state, name, dtype)


def _autoencoder(
    state: Mapping[str, Tensor], spec: ImageSpec, name: str, dtype: torch.dtype
) -> AutoencoderKL | None:
    if not state:
        return None
    dtype = autoencoder_dtype(dtype, spec.half_autoencoder)
    return autoencoders.load_state(state, spec.autoencoder, name, dtype)


def to_ldm(image_model: ImageModel, spec: ImageSpec) -> dict[str, Tensor]:
    """The single file's state dict: inverse of :func:`from_ldm`, without the keys it drops."""
    unet = eject(image_model.model.network).state_dict()
    text = image_model.text_encoder.state_dict()
    own = (
        keys.text_to_open_clip(text, spec.text["num_hidden_layers"])
        if spec.open_clip
        else {f"text_model.{k}": v for k, v in keys.clip_names(text).items()}
    )
    prefix = OPEN_CLIP_TEXT if spec.open_clip else CLIP_TEXT
    second: dict[str, Tensor] = {}
    if image_model.second_text is not None:
        layers = spec.second_text["num_hidden_layers"]
        second = xl.second_text_to_ldm(image_model.second_text, layers)
        prefix = FIRST_OF_TWO
    autoencoder = keys.autoencoder_to_ldm(
        image_model.autoencoder.state_dict(), *_autoencoder_size(spec)
    )
    return {
        **{UNET + k: v for k, v in keys.unet_to_ldm(unet, spec.layout).items()},
        **{AUTOENCODER + k: v for k, v in autoencoder.items()},
        **{prefix + k: v for k, v in own.items()},
        **{SECOND_OF_TWO + k: v for k, v in second.items()},
    }


def _autoencoder_size(spec: ImageSpec) -> tuple[int, int]:
    """Levels, and residual blocks per level of the encoder."""
    return len(spec.autoencoder["block_out_channels"]), spec.autoencoder["layers_per_block"]


def prediction_of(unet: Mapping[str, Tensor], layout: UNetLayout) -> Prediction:
    """Whether a Stable Diffusion 2 U-Net predicts velocity or noise.

    Both were published with the same names and shapes. One norm's bias distinguishes them: its
    standard deviation is well above 0.09 for velocity, and below it for noise. Other programs use
    the same heuristic; pass ``prediction`` if it fails for a fine-tuned model.
    """
    last = f"up_blocks.{layout.levels - 1}.attentions.{layout.layers}.transformer_blocks.0"
    bias = unet.get(f"{last}.norm1.bias")
    return "v" if bias is not None and bias.float().std(unbiased=False) > 0.09 else "eps"


def autoencoder_dtype(dtype: torch.dtype, half: bool) -> torch.dtype:
    """The autoencoder's precision: the upscaler's and XL's overflow in float16."""
    return torch.float32 if not half and dtype == torch.float16 else dtype


def model_of(
    unet: UNet2DConditionModel,
    autoencoder: Mapping[str, Any],
    schedule: NoiseSchedule,
    prediction: Prediction,
    low_res_schedule: NoiseSchedule | None,
    max_noise_level: int,
) -> DiffusionModel:
    """``autoencoder`` is its configuration, which determines the latents."""
    return DiffusionModel(
        network=VideoUNet(unet, []),
        preconditioning=discrete(prediction, schedule),
        own_task="upsampling" if low_res_schedule is not None else "",
        latent_channels=autoencoder["latent_channels"],
        factor=2 ** (len(autoencoder["block_out_channels"]) - 1),
        latent_scale=autoencoder["scaling_factor"],
        latent_shift=autoencoder.get("shift_factor") or 0.0,
        noise_schedule_for_low_res=low_res_schedule,
        max_noise_level=max_noise_level,
    )


# --------------------------------------------------------------------------------------------------
# Folders.


def _load_folder(
    path: Path, dtype: torch.dtype, device: torch.device | str, prediction: Prediction | None
) -> ImageModel:
    if not folders.is_folder(path):
        raise CheckpointError(f"{path} is not an image model: it has no unet/config.json")
    _refuse_other_models(path)
    unet = folders.load_unet_folder(path / "unet", dtype)
    scheduler = path / "scheduler" / "scheduler_config.json"
    low_res = path / "low_res_scheduler" / "scheduler_config.json"
    highest = _max_noise_level(path) if low_res.is_file() else 0
    family = _family_of(unet, highest)
    autoencoder = text = None
    if (path / "vae").is_dir():
        in_dtype = autoencoder_dtype(dtype, SPECS[family].half_autoencoder)
        autoencoder = folders.load_autoencoder_folder(path / "vae", in_dtype).to(device)
    if (path / "text_encoder").is_dir():
        text = folders.load_text_encoder_folder(path / "text_encoder", dtype).to(device)
    model = model_of(
        unet.to(device),
        autoencoder.config if autoencoder is not None else SPECS[family].autoencoder,
        folders.load_schedule(scheduler),
        prediction or folders.load_prediction(scheduler),
        folders.load_schedule(low_res) if highest else None,
        highest,
    )
    length = text.config.max_position_embeddings if text is not None else CLIP_LENGTH
    second = xl.moved(xl.second_text_folder(path, dtype), device)
    return ImageModel(
        model, text, _tokenizer(path, text), length, autoencoder, _dropped_layers(text),
        path.name, second_text=second,
    )  # fmt: skip


def _family_of(unet: UNet2DConditionModel, max_noise_level: int) -> str:
    if max_noise_level:
        return "stable diffusion x4 upscaler"
    return "stable diffusion xl" if unet.config.addition_embed_type else "stable diffusion 1"


def _dropped_layers(text: CLIPTextModel | None) -> int:
    """1 if the text encoder is Stable Diffusion 2's, which folders hold without its last layer."""
    text_2 = SPECS["stable diffusion 2"].text
    published = text_2["hidden_size"], text_2["num_hidden_layers"]
    return int(
        text is not None and (text.config.hidden_size, text.config.num_hidden_layers) == published
    )


def _refuse_other_models(path: Path) -> None:
    """Raise CheckpointError for XL's refiner, and for models with further input channels."""
    if (path / "text_encoder_2").is_dir() and not (path / "text_encoder").is_dir():
        raise CheckpointError(f"{path} is the refiner of Stable Diffusion XL, which needs ComfyUI")
    config = folders.unet_config(path / "unet")
    other = of_channels(config.get("in_channels", 4), config.get("cross_attention_dim", 0))
    if other is not None:
        raise CheckpointError(f"{path} cannot be used: it is {other}")


def _tokenizer(path: Path, text: CLIPTextModel | None) -> Any:
    found = folders.load_tokenizer_folder(path / "tokenizer")
    return found or (ClipTokenizer() if text is None else _published_tokenizer(text))


def _max_noise_level(path: Path) -> int:
    index = path / "model_index.json"
    level = folders.read_json(index).get("max_noise_level", 350) if index.is_file() else 350
    if not isinstance(level, int):
        raise CheckpointError(f"{index}: max_noise_level must be a whole number, got {level!r}")
    return level


def _published_tokenizer(text: CLIPTextModel) -> ClipTokenizer:
    """CLIP's own vocabulary, padded as in OpenAI's CLIP (quick GELU) or in OpenCLIP (GELU)."""
    if text.config.vocab_size != ClipTokenizer.vocab_size:
        raise CheckpointError(
            f"the folder has no tokenizer, and its text encoder has "
            f"{text.config.vocab_size} tokens instead of CLIP's 49408"
        )
    return ClipTokenizer(49407 if text.config.hidden_act == "quick_gelu" else 0)
