"""A toy family: random weights in the embedded family's file format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from videoldm.core.families.embedded import loading as embedded
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.autoencoder import AutoencoderConfig, TemporalDecoder, build_autoencoder
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.text.encoders import (
    BoxEncoder,
    TextConfig,
    build_text_encoder,
    load_tokenizer,
    train_tokenizer,
)
from videoldm.core.weights.checkpoints import Header, save

CAPTIONS = [
    "a red circle moves right on a white background", "a blue square moves up",
    "a green triangle stands still on a black background", "a red car drives on the left lane",
]  # fmt: skip
TOY = {"channels": (32, 32), "attention": (False, True), "text_width": 32, "heads": 2,
       "latent_channels": 4}  # fmt: skip
UNET = embedded.ImageUNetConfig(**TOY)
VAE = AutoencoderConfig(channels=(8, 8, 16), latent_channels=4, norm_groups=4, scale=0.7, shift=0.1)


def write_toy_family(folder: Path) -> Path:
    """Write all files of the embedded family, tiny and random, and return the folder."""
    torch.manual_seed(0)
    train_tokenizer(CAPTIONS * 4, folder / "tokenizer", vocabulary=600)
    autoencoder = build_autoencoder(VAE)
    _write(folder, "autoencoder", autoencoder.state_dict(), asdict(VAE))
    _image_model(folder)
    for name in embedded.TEMPORAL_LAYERS:
        layers, config = _layers(UNET, context=4, rates=2 if name == "interpolation" else 0,
                                 shared_noise=float(name == "text_to_video"))  # fmt: skip
        _write(folder, name, layers, config, kind="temporal_layers")
    _upsampler(folder)
    decoder = embedded.without_encoder(TemporalDecoder(autoencoder))
    _randomize(decoder.temporal)
    _write(folder, "temporal_decoder", decoder.state_dict(),
           {"autoencoder": asdict(VAE), "kernel": 3})  # fmt: skip
    return folder


def _write(folder, name, state, config, kind=None):
    header = Header(family="embedded", kind=kind or name, config=config)
    save(folder / f"{name}.safetensors", state, header, dtype=None)


def _image_model(folder):
    text = TextConfig(vocabulary=_vocabulary(folder), width=32, layers=1, heads=2, length=16)
    parts = {
        "unet.": embedded.build_unet(UNET),
        "text_encoder.": build_text_encoder(text),
        "box_encoder.": BoxEncoder(32, text.vocabulary, slots=2),
    }
    state = {prefix + k: v for prefix, m in parts.items() for k, v in m.state_dict().items()}
    config = {"unet": asdict(UNET), "text": asdict(text), "boxes": {"slots": 2}}
    _write(folder, "image_model", state, config)


def _vocabulary(folder):
    return len(load_tokenizer(folder / "tokenizer"))


def _layers(unet, *, context, rates, shared_noise=0.0):
    layout = layout_of(embedded.build_unet(unet).config)
    spec = spec_from_table(layout, context_channels=context, rates=rates, trained_frames=5,
                           shared_noise=shared_noise)  # fmt: skip
    layers = TemporalLayers(spec)
    _randomize(layers)
    return layers.state_dict(), spec.as_dict()


def _randomize(module):
    """Add noise to all parameters, because untrained layers are the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def _upsampler(folder):
    unet = embedded.ImageUNetConfig(
        **TOY, extra_channels=3, noise_levels=embedded.MAX_NOISE_LEVEL + 1
    )
    layers, config = _layers(unet, context=0, rates=0)
    state = {f"unet.{k}": v for k, v in embedded.build_unet(unet).state_dict().items()}
    state |= {f"layers.{k}": v for k, v in layers.items()}
    _write(folder, "upsampler", state, {"unet": asdict(unet), "layers": config})


def randomize_zeros(path: Path) -> None:
    """Randomise zero-initialised weights of a file, so that prompts and layers have an effect."""
    with safe_open(path, framework="pt") as file:
        header, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    generator = torch.Generator().manual_seed(5)
    for key, weight in state.items():
        if weight.ndim > 1 and not bool(weight.any()):
            spread = weight[0].numel() ** -0.5
            state[key] = torch.randn(weight.shape, generator=generator) * spread
    save_file(state, path, metadata=header)
