"""Stable Diffusion 1, 2 and the x4 upscaler: published files and diffusers folders -> image models.

Rombach et al. 2022. Nothing is ever downloaded, and the family is told by the names and shapes of
the weights, never by a file's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel

from ..checkpoints import CheckpointError, complain, load_into, part
from ..clip_vocabulary import ClipTokenizer
from ..cloning import shared_clone
from ..denoiser import Prediction
from ..diffusion_model import DiffusionModel
from ..schedules import NoiseSchedule, scaled_linear
from ..sites import SD1, SD2, X4_UPSCALER, UNetLayout, layout_of
from ..video_unet import VideoUNet
from . import stable_diffusion_folders as folders
from . import stable_diffusion_keys as keys

UNET, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
CLIP_TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."
# Training state, the schedules' tables (names without a dot) and the second schedule of upscalers.
UNUSED = ("model_ema.", "low_scale_model.", "first_stage_model.loss.")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One published image model: what it is built from, in diffusers' and transformers' words."""

    layout: UNetLayout
    unet: dict[str, Any]
    autoencoder: dict[str, Any]
    text: dict[str, Any]
    open_clip: bool = False  # the single file names the text encoder so
    padding: int = 49407  # the token that fills up short prompts
    prediction: Prediction | None = "eps"  # None: told by a weight, see `prediction_of`
    betas: tuple[float, float] = (8.5e-4, 1.2e-2)
    max_noise_level: int = 0  # above 0 for upscalers

    @property
    def text_prefix(self) -> str:
        return OPEN_CLIP_TEXT if self.open_clip else CLIP_TEXT


@dataclass(frozen=True)
class ImageModel:
    """An image model with what turns words into conditions and pixels into latents and back.

    ``text_encoder(ids).last_hidden_state`` is the condition in every family: where the published
    model uses the last but one layer, the layers above it (``dropped_layers``) were left out.
    """

    model: DiffusionModel
    text_encoder: CLIPTextModel
    tokenizer: Any  # CLIPTokenizer or ClipTokenizer
    text_length: int
    autoencoder: AutoencoderKL
    dropped_layers: int = 0
    name: str = "image model"
    box_encoder: None = None  # conditions of the embedded driving model only


def _unet(layout: UNetLayout, **more: Any) -> dict[str, Any]:
    """diffusers' configuration of a U-Net of that layout."""
    return dict(
        block_out_channels=layout.channels,
        layers_per_block=layout.layers,
        down_block_types=tuple(f"{'CrossAttn' * bool(d)}DownBlock2D" for d in layout.depths),
        up_block_types=tuple(f"{'CrossAttn' * bool(d)}UpBlock2D" for d in layout.depths[::-1]),
        **more,
    )


def _autoencoder(channels: tuple[int, ...], scale: float) -> dict[str, Any]:
    levels = len(channels)
    return dict(
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=scale,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )


CLIP_L = dict(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="quick_gelu",
    projection_dim=768,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=49407,
)
# 23 of the 24 layers: the condition is the output of the last but one, after the final norm.
OPEN_CLIP_H = dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    hidden_act="gelu",
    projection_dim=1024,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=0,
)

SPECS: dict[str, ImageSpec] = {
    "stable diffusion 1": ImageSpec(
        layout=SD1,
        unet=_unet(SD1, cross_attention_dim=768, attention_head_dim=8),
        autoencoder=_autoencoder((128, 256, 512, 512), 0.18215),
        text=CLIP_L,
    ),
    "stable diffusion 2": ImageSpec(
        layout=SD2,
        unet=_unet(
            SD2,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        ),
        autoencoder=_autoencoder((128, 256, 512, 512), 0.18215),
        text=OPEN_CLIP_H,
        open_clip=True,
        padding=0,
        prediction=None,
    ),
    "stable diffusion x4 upscaler": ImageSpec(
        layout=X4_UPSCALER,
        # The three finer levels attend to the text twice instead of to themselves.
        unet=_unet(
            X4_UPSCALER,
            cross_attention_dim=1024,
            attention_head_dim=8,
            in_channels=7,
            use_linear_projection=True,
            num_class_embeds=1000,
            only_cross_attention=(True, True, True, False),
        ),
        autoencoder=_autoencoder((128, 256, 512), 0.08333),
        text=OPEN_CLIP_H,
        open_clip=True,
        padding=0,
        prediction="v",
        betas=(1e-4, 2e-2),
        max_noise_level=350,
    ),
}


def detect(
    shapes: Mapping[str, Sequence[int]], specs: Mapping[str, ImageSpec] = SPECS
) -> str | None:
    """The name of the spec whose single file has weights of these names and shapes, else None."""
    unet = {k: tuple(v) for k, v in part(shapes, UNET).items()}
    for name, spec in specs.items():
        table = keys.unet_table(spec.layout)
        marks = _marks(spec.unet)
        if all(unet.get(key) == shape for key, shape in marks.items()) and (
            "label_emb.weight" in marks or not any(k.startswith("label_emb") for k in unet)
        ):
            # Video models keep the image model's names and add their own.
            if all(keys.rename(key, table) for key in unet):
                return name
    return None


def _marks(unet: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a few ldm weights that tell one U-Net from another."""
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

    ``prediction`` overrides what the file tells or hints at. An upscaler's autoencoder stays in
    float32 where float16 is asked for, whose range it exceeds. Raises CheckpointError, in one
    sentence, for a file that is missing, broken, incomplete or of another family.
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
    """The image model of a single file's state dict; ``name`` is what errors call the file."""
    family = detect({k: v.shape for k, v in state.items()}, specs)
    if family is None:
        first = ", ".join(list(state)[:5])
        raise CheckpointError(f"{name} is none of {', '.join(specs)}; its first keys are {first}")
    spec = specs[family]
    parts = split(state, spec, name)
    unet = load_into(folders.build_unet(spec.unet), parts["unet"], f"the U-Net of {name}", dtype)
    autoencoder = load_into(
        folders.build_autoencoder(spec.autoencoder),
        parts["autoencoder"],
        f"the autoencoder of {name}",
        autoencoder_dtype(dtype, spec.max_noise_level),
    )
    text = folders.load_text_encoder(
        folders.build_text_encoder(spec.text), parts["text"], f"the text encoder of {name}", dtype
    )
    schedule = scaled_linear(start=spec.betas[0], end=spec.betas[1])
    model = _model(
        unet.to(device),
        autoencoder,
        schedule,
        prediction or spec.prediction or prediction_of(parts["unet"], spec.layout),
        schedule if spec.max_noise_level else None,
        spec.max_noise_level,
    )
    return ImageModel(
        model,
        text.to(device),
        ClipTokenizer(spec.padding),
        77,
        autoencoder.to(device),
        int(spec.open_clip),
        family,
    )


def split(
    state: Mapping[str, Tensor], spec: ImageSpec, name: str = "the file"
) -> dict[str, dict[str, Tensor]]:
    """The weights of ``unet``, ``autoencoder`` and ``text`` under their modules' own names.

    Raises CheckpointError for keys that belong to no part.
    """
    used = {k: v for k, v in state.items() if "." in k and not k.startswith(UNUSED)}
    prefixes = (UNET, AUTOENCODER, spec.text_prefix)
    complain("has unknown", name, [key for key in used if not key.startswith(prefixes)])
    text = part(used, spec.text_prefix)
    levels, layers = _autoencoder_size(spec)
    return {
        "unet": keys.unet_from_ldm(part(used, UNET), spec.layout),
        "autoencoder": keys.autoencoder_from_ldm(part(used, AUTOENCODER), levels, layers),
        "text": keys.text_from_open_clip(text, spec.text["num_hidden_layers"])
        if spec.open_clip
        else keys.clip_names(text),
    }


def to_ldm(image_model: ImageModel, spec: ImageSpec) -> dict[str, Tensor]:
    """The single file's state dict: inverse of :func:`from_ldm`, without what that leaves out."""
    unet = image_model.model.network.image_unet.state_dict()
    text = image_model.text_encoder.state_dict()
    own = (
        keys.text_to_open_clip(text, spec.text["num_hidden_layers"])
        if spec.open_clip
        else {f"text_model.{k}": v for k, v in keys.clip_names(text).items()}
    )
    autoencoder = keys.autoencoder_to_ldm(
        image_model.autoencoder.state_dict(), *_autoencoder_size(spec)
    )
    return {
        **{UNET + k: v for k, v in keys.unet_to_ldm(unet, spec.layout).items()},
        **{AUTOENCODER + k: v for k, v in autoencoder.items()},
        **{spec.text_prefix + k: v for k, v in own.items()},
    }


def _autoencoder_size(spec: ImageSpec) -> tuple[int, int]:
    """Levels, and residual blocks per level of the encoder."""
    return len(spec.autoencoder["block_out_channels"]), spec.autoencoder["layers_per_block"]


def prediction_of(unet: Mapping[str, Tensor], layout: UNetLayout) -> Prediction:
    """Whether a Stable Diffusion 2 U-Net predicts the velocity or the noise.

    The two were published with the same names and shapes. One norm's bias tells them apart: its
    spread is well above 0.09 where the velocity is predicted, and below it elsewhere. This is the
    hosts' common rule of thumb; pass ``prediction`` where a fine-tuned model defeats it.
    """
    last = f"up_blocks.{layout.levels - 1}.attentions.{layout.layers}.transformer_blocks.0"
    bias = unet.get(f"{last}.norm1.bias")
    return "v" if bias is not None and bias.float().std(unbiased=False) > 0.09 else "eps"


def autoencoder_dtype(dtype: torch.dtype, max_noise_level: int) -> torch.dtype:
    """The autoencoder's precision: the upscaler's leaves the range of float16."""
    return torch.float32 if max_noise_level and dtype == torch.float16 else dtype


def _model(
    unet,
    autoencoder: AutoencoderKL,
    schedule: NoiseSchedule,
    prediction: Prediction,
    low_res_schedule: NoiseSchedule | None,
    max_noise_level: int,
) -> DiffusionModel:
    config = autoencoder.config
    return DiffusionModel(
        network=VideoUNet(unet, []),
        schedule=schedule,
        prediction=prediction,
        latent_channels=config.latent_channels,
        factor=2 ** (len(config.block_out_channels) - 1),
        latent_scale=config.scaling_factor,
        latent_shift=config.shift_factor or 0.0,
        noise_schedule_for_low_res=low_res_schedule,
        max_noise_level=max_noise_level,
    )


def without_last_layers(image_model: ImageModel, count: int) -> ImageModel:
    """The model with an earlier layer of its text encoder, after the final norm, as the condition
    ("clip skip"); counted from the layer that it uses, which is not always the published last."""
    text = shared_clone(image_model.text_encoder)
    layers = getattr(text, "text_model", text).encoder.layers
    if not 0 <= count < len(layers):
        raise ValueError(f"cannot leave out {count} of the {len(layers)} layers of the encoder")
    del layers[len(layers) - count :]
    text.config.num_hidden_layers = len(layers)
    return replace(
        image_model, text_encoder=text, dropped_layers=image_model.dropped_layers + count
    )


# --------------------------------------------------------------------------------------------------
# Folders.


def _load_folder(
    path: Path, dtype: torch.dtype, device: torch.device | str, prediction: Prediction | None
) -> ImageModel:
    if not folders.is_folder(path):
        raise CheckpointError(f"{path} is no image model: it has no unet/config.json")
    if (path / "text_encoder_2").is_dir():
        raise CheckpointError(f"{path} has two text encoders (SDXL), which are not supported")
    unet = folders.load_unet_folder(path / "unet", dtype)
    layout_of(unet.config)
    scheduler = folders.read_json(path / "scheduler" / "scheduler_config.json")
    low_res = path / "low_res_scheduler" / "scheduler_config.json"
    low_res_schedule = (
        folders.schedule_from_config(folders.read_json(low_res)) if low_res.is_file() else None
    )
    highest = _max_noise_level(path) if low_res_schedule else 0
    autoencoder = folders.load_autoencoder_folder(path / "vae", autoencoder_dtype(dtype, highest))
    text = folders.load_text_encoder_folder(path / "text_encoder", dtype)
    model = _model(
        unet.to(device),
        autoencoder,
        folders.schedule_from_config(scheduler),
        prediction or folders.prediction_from_config(scheduler),
        low_res_schedule,
        highest,
    )
    tokenizer = folders.load_tokenizer_folder(path / "tokenizer") or _published_tokenizer(text)
    length = text.config.max_position_embeddings
    return ImageModel(
        model, text.to(device), tokenizer, length, autoencoder.to(device), 0, path.name
    )


def _max_noise_level(path: Path) -> int:
    index = path / "model_index.json"
    return folders.read_json(index).get("max_noise_level", 350) if index.is_file() else 350


def _published_tokenizer(text: CLIPTextModel) -> ClipTokenizer:
    """CLIP's own vocabulary, padded as OpenAI's CLIP (quick GELU) or OpenCLIP (GELU) pads."""
    if text.config.vocab_size != ClipTokenizer.vocab_size:
        raise CheckpointError(
            f"the folder has no tokenizer, and its text encoder knows "
            f"{text.config.vocab_size} words instead of CLIP's 49408"
        )
    return ClipTokenizer(49407 if text.config.hidden_act == "quick_gelu" else 0)
