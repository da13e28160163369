"""Build and load the small model family that comes with the project.

It is trained by :mod:`...training` from the recipes in ``training/recipes`` and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from ...diffusion.preconditioning import discrete
from ...diffusion.schedules import NoiseSchedule, scaled_linear
from ...networks.autoencoder import AutoencoderConfig, TemporalDecoder, build_autoencoder
from ...networks.diffusion_model import DiffusionModel
from ...networks.layers.residual import channels_last, zeroed
from ...networks.layers.specs import spec_from_dict as layer_from_dict
from ...networks.temporal_decoder import VideoDecoder
from ...networks.temporal_layers import TemporalLayers
from ...networks.temporal_layers_spec import TASKS, TemporalLayersSpec
from ...networks.video_unet import VideoUNet, eject
from ...text.encoders import BoxEncoder, TextConfig, build_text_encoder, load_tokenizer
from ...text.known_words import KnownWords
from ...weights.checkpoints import (
    CheckpointError,
    Header,
    broken_config,
    load_into,
    part,
    read_state,
    save,
)
from ...weights.weight_files import header_of, read_weights
from ..stable_diffusion_refusals import what_it_is
from . import included, worlds
from .specs import spec_from_dict

FAMILY = included.NAME
TEMPORAL_LAYERS = ("text_to_video", "prediction", "interpolation")
KINDS = {
    "image_model": "an image model",
    "upsampler": "an upsampler",
    "temporal_layers": "temporal layers",
    "temporal_decoder": "a temporal decoder",
    "autoencoder": "an autoencoder",
    "video_model": "a whole video model",
}
"""Descriptions, for messages, of the kinds of files in this project's format."""
# Parts that several models may share have files of their own.
IMAGE_MODEL, AUTOENCODER = "image_model.safetensors", "autoencoder.safetensors"
TOKENIZER = "tokenizer"
IMAGE_AUTOENCODER = (
    "in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels",
    "layers_per_block", "act_fn", "latent_channels", "norm_num_groups", "scaling_factor",
    "shift_factor", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention",
)  # fmt: skip
"""The entries of diffusers' configuration that a decoder is built from."""
MAX_NOISE_LEVEL = 350  # of the upsampler's low-resolution input


@dataclass(frozen=True, kw_only=True)
class ImageUNetConfig:
    """The image U-Net: a small version of Stable Diffusion's, no attention at full resolution."""

    channels: tuple[int, ...] = (64, 128, 160)
    layers: int = 1
    attention: tuple[bool, ...] = (False, True, False)
    text_width: int = 128
    heads: int = 4
    latent_channels: int = 8
    extra_channels: int = 0  # concatenated to the noisy latents: 3 for an upsampler
    noise_levels: int = 0  # rows of the upsampler's noise level embedding
    norm_groups: int = 32


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """An image diffusion model with its encoders and autoencoder."""

    model: DiffusionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    text_length: int
    box_encoder: BoxEncoder | None
    autoencoder: AutoencoderKL
    dropped_layers: int = 0  # of the text encoder: all are used
    known_words: KnownWords | None = None  # None: not recorded


def build_unet(config: ImageUNetConfig) -> UNet2DConditionModel:
    """Build a diffusers U-Net in Stable Diffusion's layout."""
    down = [("CrossAttn" if a else "") + "DownBlock2D" for a in config.attention]
    up = [("CrossAttn" if a else "") + "UpBlock2D" for a in reversed(config.attention)]
    unet = UNet2DConditionModel(
        in_channels=config.latent_channels + config.extra_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        cross_attention_dim=config.text_width,
        attention_head_dim=config.heads,
        num_class_embeds=config.noise_levels or None,
        norm_num_groups=config.norm_groups,
    )
    # Every block starts as the identity, as in the original latent diffusion: diffusers initialises
    # the last layer of a block at random.
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            zeroed(module.conv2)
        elif isinstance(module, Transformer2DModel):
            zeroed(module.proj_out)
    return unet


def noise_schedule() -> NoiseSchedule:
    """The forward process of every model of the family.

    Linear in sqrt(beta) like Stable Diffusion's, with larger betas: only one part in ten thousand
    of the signal's power is left at the last timestep, so that plain backgrounds follow the prompt.
    """
    return scaled_linear(start=0.0015, end=0.0195)


def path_of(name: str) -> Path:
    """The included file of a part, e.g. ``"prediction"``."""
    return included.path_of(name)


def beside(path: Path, part: str) -> Path:
    """The file of a part that the model in ``path`` does not hold itself: "MODEL.PART" next to it,
    for folders with several models, else "PART", e.g. ``"autoencoder.safetensors"``.

    Raises CheckpointError if neither exists.
    """
    names = (f"{path.stem}.{part}", part)
    # Parts may be next to the target of a symbolic link.
    for folder in dict.fromkeys((path.parent, path.resolve().parent)):
        for name in names:
            if (folder / name).exists():
                return folder / name
    raise CheckpointError(
        f"{path.name} needs the file {names[1]} or {names[0]} in the same folder, {path.parent}"
    )


def read(path: Path, kind: str) -> tuple[Header, dict]:
    """(header, tensors) of a file of this family; CheckpointError unless it is of ``kind``."""
    wanted = kind.replace("_", " ")
    header = header_of(path)
    if header is None:
        raise CheckpointError(f"{path.name} holds no {wanted}{what_it_is(read_weights(path))}")
    if header.kind != kind:
        raise CheckpointError(f"{path.name} holds no {wanted}: it is of the kind {header.kind}")
    return header, read_state(path)


def tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON lists back to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def load_autoencoder(
    path: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> AutoencoderKL:
    """Load the image autoencoder."""
    path = path or path_of("autoencoder")
    header, state = read(path, "autoencoder")
    with broken_config(path.name):
        module = build_autoencoder(AutoencoderConfig(**tuples(header.config)))
    return load_into(module, state, path.name, dtype).to(device, memory_format=torch.channels_last)


def load_temporal_decoder(
    path: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TemporalDecoder | VideoDecoder:
    """Load a temporal decoder; its file holds no encoder."""
    path = path or path_of("temporal_decoder")
    header, state = read(path, "temporal_decoder")
    with broken_config(path.name):
        module = without_encoder(_build_decoder(header.config))
    return channels_last(load_into(module, state, path.name, dtype)).to(device)


def _build_decoder(config: Mapping[str, Any]) -> TemporalDecoder | VideoDecoder:
    """The family's own decoder, or another autoencoder's with temporal layers by site."""
    if "layers" not in config:
        return TemporalDecoder(
            build_autoencoder(AutoencoderConfig(**tuples(config["autoencoder"]))),
            kernel=config["kernel"],
            spatial=config.get("spatial"),  # older files have none: 1
        )
    layers = {site: layer_from_dict(one) for site, one in config["layers"].items()}
    with torch.device("meta"):
        return VideoDecoder(AutoencoderKL.from_config(dict(config["image"])), layers)


def save_video_decoder(path: Path, decoder: VideoDecoder, notes: Mapping[str, Any]) -> None:
    """Write a decoder with temporal layers by site, without its encoder."""
    image = decoder.autoencoder.config
    config = {
        "image": {name: image[name] for name in IMAGE_AUTOENCODER},
        "layers": {site: layer.as_dict() for site, layer in decoder.spec.items()},
    }
    header = Header(family=FAMILY, kind="temporal_decoder", config=config, notes=dict(notes))
    save(path, decoder.state_dict(), header)


def load_temporal_autoencoder(
    path: Path, **where: Any
) -> tuple[AutoencoderKL | None, TemporalDecoder | VideoDecoder]:
    """Load (encoder, decoder) for a decoder's file, which holds no encoder itself: the included
    decoder's encoder is included as well, any other's is None."""
    encoder = load_autoencoder(**where) if path == path_of("temporal_decoder") else None
    return encoder, load_temporal_decoder(path, **where)


def autoencoder_of(path: Path, kind: str) -> Path:
    """The autoencoder's file for an image model or an upsampler (`kind`)."""
    if kind == "upsampler":
        path = beside(path, IMAGE_MODEL)
    return beside(path, AUTOENCODER)


Decoder = TypeVar("Decoder", TemporalDecoder, VideoDecoder)


def without_encoder(decoder: Decoder) -> Decoder:
    """Drop the modules that decoding does not use, in place."""
    del decoder.autoencoder.encoder
    decoder.autoencoder.quant_conv = None
    return decoder


def load_image_model(
    path: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ImageModel:
    """Load the text-to-image model in ``path`` with the autoencoder and tokenizer beside it."""
    path = path or path_of("image_model")
    header, state = read(path, "image_model")
    with broken_config(path.name):
        unet = build_unet(ImageUNetConfig(**tuples(header.config["unet"])))
        text = TextConfig(**header.config["text"])
        encoder = build_text_encoder(text)
        boxes = BoxEncoder(text.width, text.vocabulary, **header.config["boxes"])
    for prefix, module in (("unet.", unet), ("text_encoder.", encoder), ("box_encoder.", boxes)):
        load_into(module, part(state, prefix), path.name, dtype).to(device)
    autoencoder = load_autoencoder(beside(path, AUTOENCODER), dtype=dtype, device=device)
    return ImageModel(
        model=diffusion_model(unet, autoencoder),
        text_encoder=encoder,
        tokenizer=load_tokenizer(beside(path, TOKENIZER)),
        text_length=text.length,
        box_encoder=boxes,
        autoencoder=autoencoder,
        known_words=known_words(header),
    )


def known_words(header: Header) -> KnownWords | None:
    """The vocabulary that an image model was trained with; None if unknown. Older files do not list
    it: there the recipe in their notes decides."""
    words = header.config.get("words")
    if words is None and header.notes.get("recipe") == "image_model":
        words = worlds.words()
    return None if words is None else KnownWords(frozenset(words))


def diffusion_model(unet: nn.Module, autoencoder: AutoencoderKL, **upsampler) -> DiffusionModel:
    """Combine a U-Net of this family with its noise schedule and latent scale."""
    network = unet if isinstance(unet, VideoUNet) else VideoUNet(unet, [])
    eject(network).to(memory_format=torch.channels_last)
    config = autoencoder.config
    return DiffusionModel(
        network=network,
        preconditioning=discrete("v", noise_schedule()),
        latent_channels=config.latent_channels,
        factor=2 ** (len(config.block_out_channels) - 1),
        latent_scale=config.scaling_factor,
        latent_shift=config.shift_factor or 0.0,
        **upsampler,
    )


def layers_spec(header: Header) -> TemporalLayersSpec:
    """The spec of the layers in a file. Older files do not state the task: there the recipe in
    their notes decides."""
    spec = spec_from_dict(header.config)
    recipe = str(header.notes.get("recipe", "")).replace("_", " ")
    return spec if spec.trained.task or recipe not in TASKS else with_task(spec, recipe)


def with_task(spec: TemporalLayersSpec, task: str) -> TemporalLayersSpec:
    return replace(spec, trained=replace(spec.trained, task=task))


def load_temporal_layers(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> TemporalLayers:
    """Load temporal layers by name (:data:`TEMPORAL_LAYERS`) or from a file of this project."""
    path = path_of(str(name)) if name in TEMPORAL_LAYERS else Path(name)
    header, state = read(path, "temporal_layers")
    with broken_config(path.name):
        layers = TemporalLayers(layers_spec(header))
    return load_into(layers, state, path.name, dtype).to(device)


def load_upsampler(
    path: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ImageModel:
    """Load the x4 upsampler in ``path``, temporal layers included; it shares the text encoder of
    the image model beside it."""
    path = path or path_of("upsampler")
    header, state = read(path, "upsampler")
    with broken_config(path.name):
        unet = build_unet(ImageUNetConfig(**tuples(header.config["unet"])))
        spec = with_task(spec_from_dict(header.config["layers"]), "upsampling")
        layers = TemporalLayers(spec)
    load_into(unet, part(state, "unet."), path.name, dtype).to(device)
    load_into(layers, part(state, "layers."), path.name, dtype).to(device)
    image = load_image_model(beside(path, IMAGE_MODEL), dtype=dtype, device=device)
    model = diffusion_model(
        unet,
        image.autoencoder,
        own_task="upsampling",
        noise_schedule_for_low_res=noise_schedule(),
        max_noise_level=MAX_NOISE_LEVEL,
    ).with_layers(layers)
    return ImageModel(**vars(image) | {"model": model})
