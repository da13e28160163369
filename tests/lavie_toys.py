"""LaVie and the image models it builds on at toy size: random weights under published names.

Their groups and heads are those that loading infers or assumes, so that they load as published
files do.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from videoldm.core.families import lavie
from videoldm.core.families.lavie_config import KINDS, LavieConfig
from videoldm.core.families.stable_diffusion_specs import autoencoder_config
from videoldm.core.networks.sites import UNetLayout

TEXT = 16
IN_CHANNELS = {"base": 4, "interpolation": 8, "vsr": 7}
FILES = {kind: f"lavie_{kind}.pt" for kind in KINDS}
SD, UPSCALER = "stable-diffusion-v1-4", "stable-diffusion-x4-upscaler"


def config_of(kind: str, **changes) -> LavieConfig:
    vsr = kind == "vsr"
    values = dict(
        kind=kind,
        layout=UNetLayout(channels=(32, 64), layers=1, depths=(0, 1) if vsr else (1, 0)),
        heads=(8, 8) if kind == "interpolation" else (1, 2),
        context_width=TEXT,
        in_channels=IN_CHANNELS[kind],
        only_cross_attention=(True, False) if vsr else (),
        noise_levels=400 if vsr else 0,
        modules=("down.0.out", "down.1.out", "mid.out", "up.0.out", "up.1.out") if vsr else (),
    )
    return LavieConfig(**values | changes)


def randomized(module: nn.Module, seed: int) -> nn.Module:
    """Random weights that keep activations near unit scale; norms near the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        ones = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        fans = parameter[0].numel() if parameter.ndim > 1 else 25
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.data = ones + drawn / fans**0.5
    return module.eval().requires_grad_(False)


def state_of(config: LavieConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """A published file's state dict."""
    parts = lavie.build(config)
    unet, layers = (
        randomized(part.to_empty(device="cpu"), seed + k)
        for k, part in enumerate((parts.unet, parts.layers))
    )
    return lavie.to_original(lavie.Parts(unet, layers), config)


def write_lavie(models: Path) -> None:
    """Write the three files into models/videoldm, under the published key "ema"."""
    folder = models / "videoldm"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (kind, name) in enumerate(FILES.items()):
        torch.save({"ema": state_of(config_of(kind), 10 * seed)}, folder / name)


def write_image_models(models: Path) -> None:
    """Write Stable Diffusion 1.4 and the x4 upscaler as diffusers folders in models/checkpoints."""
    folder = models / "checkpoints"
    _write_folder(folder / SD, config_of("base"), levels=4, gelu="quick_gelu", scale=0.18215,
                  betas=(8.5e-4, 1.2e-2), prediction="epsilon")  # fmt: skip
    _write_folder(folder / UPSCALER, config_of("vsr"), levels=3, gelu="gelu", scale=0.08333,
                  betas=(1e-4, 2e-2), prediction="v_prediction")  # fmt: skip
    low_res = folder / UPSCALER / "low_res_scheduler"
    _write_scheduler(low_res, (1e-4, 2e-2), "epsilon")


def _write_folder(folder, config, *, levels, gelu, scale, betas, prediction):
    unet = lavie.build(config).unet.to_empty(device="cpu")
    randomized(unet, 50).save_pretrained(folder / "unet")
    text = CLIPTextConfig(
        hidden_size=TEXT, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=49408, hidden_act=gelu, projection_dim=TEXT, eos_token_id=49407,
    )  # fmt: skip
    randomized(CLIPTextModel(text), 51).save_pretrained(folder / "text_encoder")
    vae = autoencoder_config((8,) * levels, scale) | dict(norm_num_groups=4, layers_per_block=1)
    randomized(AutoencoderKL(**vae), 52).save_pretrained(folder / "vae")
    _write_scheduler(folder / "scheduler", betas, prediction)


def _write_scheduler(folder: Path, betas: tuple[float, float], prediction: str) -> None:
    folder.mkdir()
    values = {"beta_schedule": "scaled_linear", "beta_start": betas[0], "beta_end": betas[1],
              "prediction_type": prediction, "num_train_timesteps": 1000}  # fmt: skip
    (folder / "scheduler_config.json").write_text(json.dumps(values))
