"""Full-size models with random weights under their published key names, and layers and LoRAs for
them."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel
from videoldm.core.families import stable_diffusion
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.sites import SD1
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.weights.checkpoints import Header, save

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


def require_memory(gigabytes: float) -> None:
    """Skip the test if it needs more memory than is free."""
    free = psutil.virtual_memory().available / 2**30
    if free < gigabytes:
        pytest.skip(f"full size needs {gigabytes} GB of memory for two models, {free:.1f} are free")


def write_published(
    name: str, path: Path, *, within: str | None = None, without: str | None = None
) -> None:
    """Write random float16 weights for every key of a manifest, except keys that end with
    ``without``: to a safetensors file, or to a pickle of a dict with them under the key
    ``within``."""
    generator = torch.Generator().manual_seed(0)
    with gzip.open(MANIFESTS / f"{name}.json.gz", "rt") as file:
        tensors = json.load(file)["tensors"]
    kept = {key: one for key, one in tensors.items() if not (without and key.endswith(without))}
    state = {key: random_weight(key, shape, generator) for key, shape in kept.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({within: state}, path) if within else save_file(state, path)


def write_folder(file: Path, folder: Path) -> None:
    """Write the image model of a single file as a diffusers folder."""
    found = stable_diffusion.load(file, dtype=torch.float16)
    found.model.network.image_unet.save_pretrained(folder / "unet")
    found.autoencoder.save_pretrained(folder / "vae")
    _write_text_encoder(found.text_encoder, folder / "text_encoder")
    upsampler = found.model.task == "upsampling"
    betas = {"beta_start": 1e-4, "beta_end": 2e-2} if upsampler else {}
    values = {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 1.2e-2} | betas
    parts = {"scheduler": {"prediction_type": "v_prediction" if upsampler else "epsilon"}}
    parts |= {"low_res_scheduler": {"prediction_type": "epsilon"}} if upsampler else {}
    for part, own in parts.items():
        (folder / part).mkdir()
        (folder / part / "scheduler_config.json").write_text(json.dumps(values | own))


def _write_text_encoder(encoder: CLIPTextModel, folder: Path) -> None:
    """Under the key names of published folders, whatever this version of transformers writes."""
    encoder.config.save_pretrained(folder)
    state = {f"text_model.{k.removeprefix('text_model.')}": v.contiguous()
             for k, v in encoder.state_dict().items()}  # fmt: skip
    save_file(state, folder / "model.safetensors")


def random_weight(key: str, shape: list[int], generator: torch.Generator) -> Tensor:
    if key.endswith("position_ids"):
        return torch.arange(math.prod(shape)).reshape(shape)
    if len(shape) < 2:
        is_norm = key.endswith("weight")
        return torch.full(shape, float(is_norm)).half()
    spread = math.prod(shape[1:]) ** -0.5
    return (torch.randn(shape, generator=generator) * spread).half()


def write_layers(path: Path) -> None:
    """Write attention and convolution at every site, with no weight left at zero; 1 GB."""
    torch.manual_seed(1)
    layers = TemporalLayers(spec_from_table(SD1, trained_frames=8))
    for name, parameter in layers.named_parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
        assert bool(parameter.isfinite().all()), name
    header = Header(family="stable diffusion", kind="temporal_layers", config=layers.spec.as_dict())
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
