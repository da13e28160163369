"""Stable Diffusion image models at toy size, and names and shapes of the published weights."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.diffusion.schedules import scaled_linear
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.families.stable_diffusion_specs import autoencoder_config, unet_config
from videoldm.core.networks.conditions import Conditions
from videoldm.core.networks.sites import UNetLayout
from videoldm.core.text.clip_vocabulary import ClipTokenizer
from videoldm.core.text.encoders import encode_text

MANIFESTS = Path(__file__).parent / "manifests"


FULL = {
    "stable diffusion 1": "sd15_single_file",
    "stable diffusion 2": "sd21_single_file",
    "stable diffusion x4 upscaler": "sd_x4_upscaler_single_file",
}


def manifest(name: str) -> dict:
    with gzip.open(MANIFESTS / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def published(family: str) -> dict[str, torch.Tensor]:
    """A published single file's state dict on the meta device, including training leftovers."""
    found = manifest(FULL[family])
    shapes = found["tensors"] | found["meta"]["optional_extra_keys"]
    return {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}


def shapes_of(state) -> dict[str, tuple]:
    return {k: tuple(v.shape) for k, v in state.items()}


TOYS = {
    "plain": (UNetLayout(channels=(8, 16), layers=1, depths=(1, 0)), {}, {}),
    "linear": (
        UNetLayout(channels=(8, 16), layers=2, depths=(1, 1)),
        dict(use_linear_projection=True, attention_head_dim=(2, 4)),
        dict(open_clip=True, padding=0, prediction=None),
    ),
    "upscaler": (
        UNetLayout(channels=(8, 16), layers=1, depths=(0, 1)),
        dict(
            in_channels=7,
            num_class_embeds=30,
            use_linear_projection=True,
            only_cross_attention=(True, False),
        ),
        dict(open_clip=True, padding=0, prediction="v", betas=(1e-4, 2e-2), max_noise_level=20),
    ),
}


def toy_spec(name: str) -> sd.ImageSpec:
    layout, unet, more = TOYS[name]
    unet = dict(cross_attention_dim=12, norm_num_groups=4, attention_head_dim=2) | unet
    autoencoder = autoencoder_config((8, 16), 0.5) | dict(norm_num_groups=4)
    text = dict(
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=2,
        vocab_size=49408,
        hidden_act="gelu" if more else "quick_gelu",
        projection_dim=12,
    )
    return sd.ImageSpec(
        layout=layout, unet=unet_config(layout, **unet), autoencoder=autoencoder, text=text, **more
    )


def toy_model(spec: sd.ImageSpec) -> sd.ImageModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**spec.unet).eval()
    autoencoder = AutoencoderKL(**spec.autoencoder).eval()
    text = CLIPTextModel(CLIPTextConfig(**spec.text)).eval()
    model = sd.model_of(unet, spec.autoencoder, scaled_linear(), "eps", None, spec.max_noise_level)
    return sd.ImageModel(model, text, ClipTokenizer(spec.padding), 77, autoencoder)


def outputs(image_model: sd.ImageModel) -> list[torch.Tensor]:
    """The outputs of text encoder, U-Net and decoder for fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    network = image_model.model.network
    ids = torch.randint(0, 49408, (1, 77), generator=generator)
    channels = network.spec.latent_channels, network.spec.concatenated
    x, behind = torch.randn(1, 1, sum(channels), 8, 8, generator=generator).split(channels, dim=2)
    pixels = torch.randn(1, 3, 8, 8, generator=generator)
    numbers = {name: torch.tensor([3]) for name in network.spec.ids}
    with torch.no_grad():
        text = encode_text(image_model.text_encoder, ids)
        given = Conditions(text=text, concatenated=behind if channels[1] else None, ids=numbers)
        noise = network(x, torch.tensor([5]), given)
        latents = image_model.autoencoder.encode(pixels).latent_dist.mean
        return [text, noise, image_model.autoencoder.decode(latents).sample]


def assert_same(a: sd.ImageModel, b: sd.ImageModel) -> None:
    # Not exact: kernels depend on the alignment of weights, which differs in a mapped file.
    for x, y in zip(outputs(a), outputs(b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=2e-6)


def save_folder(model: sd.ImageModel, folder: Path, **scheduler) -> None:
    model.model.network.image_unet.save_pretrained(folder / "unet")
    model.autoencoder.save_pretrained(folder / "vae")
    model.text_encoder.save_pretrained(folder / "text_encoder")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(
            dict(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=0.012) | scheduler
        )
    )
