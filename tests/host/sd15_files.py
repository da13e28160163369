"""Stable Diffusion 1.5 with random weights: its published key names, and what goes with it."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from videoldm.core.checkpoints import Header, save
from videoldm.core.sites import SD1
from videoldm.core.temporal_layers import TemporalLayers, TemporalLayersConfig

MANIFEST = Path(__file__).resolve().parents[1] / "manifests" / "sd15_single_file.json.gz"


def write_checkpoint(path: Path) -> None:
    """Write a single file with every published key, in float16; about 2 GB."""
    generator = torch.Generator().manual_seed(0)
    with gzip.open(MANIFEST, "rt") as file:
        tensors = json.load(file)["tensors"]
    state = {key: _weight(key, shape, generator) for key, shape in tensors.items()}
    save_file(state, path)


def _weight(key: str, shape: list[int], generator: torch.Generator) -> Tensor:
    if key.endswith("position_ids"):
        return torch.arange(math.prod(shape)).reshape(shape)
    if len(shape) < 2:
        is_norm = key.endswith("weight")
        return torch.full(shape, float(is_norm)).half()
    spread = math.prod(shape[1:]) ** -0.5
    return (torch.randn(shape, generator=generator) * spread).half()


def write_layers(path: Path) -> None:
    """Write attention and convolution at every site, with weights that do something; 1 GB."""
    torch.manual_seed(1)
    config = TemporalLayersConfig(layout=SD1, trained_frames=8)
    layers = TemporalLayers(config)
    for name, parameter in layers.named_parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
        assert bool(parameter.isfinite().all()), name
    header = Header(family="stable diffusion", kind="temporal_layers", config=config.as_dict())
    save(path, layers.state_dict(), header, dtype=torch.float16)


def write_lora(path: Path, rank: int = 4) -> None:
    """Write a LoRA in kohya's spelling on attention of the U-Net and of the text encoder."""
    generator = torch.Generator().manual_seed(2)
    widths = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (1280, 768),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2": (320, 1280),
        "lora_te_text_model_encoder_layers_3_self_attn_q_proj": (768, 768),
    }
    state = {}
    for name, (out, into) in widths.items():
        state[f"{name}.lora_down.weight"] = torch.randn(rank, into, generator=generator) * 0.2
        state[f"{name}.lora_up.weight"] = torch.randn(out, rank, generator=generator) * 0.2
        state[f"{name}.alpha"] = torch.tensor(float(rank))
    save_file(state, path)
