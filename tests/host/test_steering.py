"""SparseCtrl, CameraCtrl and keyframe images by the same nodes in both hosts, on a toy model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from animatediff_toys import toy_config, toy_state
from diffusers import ControlNetModel
from model_toys import fill
from node_inputs import strategy
from safetensors.torch import save_file
from torch import nn
from toy_family import TOY
from toy_prompts import FRAMES, SIDE, distance, ksampler, nodes, sampler, saved
from videoldm.core.families import animatediff_sparse
from videoldm.core.networks.sites import UNetLayout, layout_of
from videoldm.core.networks.sparse_control import SparseControlNet
from videoldm.core.networks.temporal_layers import TemporalLayers

sys.path.append(str(Path(__file__).resolve().parents[1] / "families"))

from test_camera_control import toy_file  # noqa: E402
from test_core_numbers import compared  # noqa: E402
from test_sparse_control import motion_config  # noqa: E402

LAYOUT = UNetLayout(channels=(32, 32), layers=1, depths=(0, 1))
SAME = 1e-4
"""Of the spread of latents."""
WINDOWS = strategy("sliding windows", window=4, overlap=2)


def written(state: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, path)


def sparse_state(latents: bool, width: int) -> dict[str, torch.Tensor]:
    encoder = ControlNetModel(
        block_out_channels=(32, 32), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        layers_per_block=1, cross_attention_dim=width, attention_head_dim=8, norm_num_groups=32,
        conditioning_channels=4 + latents,
    )  # fmt: skip
    if latents:
        encoder.controlnet_cond_embedding = nn.Conv2d(5, 32, 3, padding=1)
    config = motion_config(layout_of(encoder.config))
    layers = TemporalLayers(config.layers_spec())
    network = SparseControlNet(fill(encoder, 3), fill(layers, 4), takes_latents=latents)
    return animatediff_sparse.to_original(network, config)


@pytest.fixture(scope="module")
def files(comfyui):
    models = comfyui.base / "models"
    for variant in ("v3", "pia", "animatelcm i2v"):
        config = toy_config(variant, layout=LAYOUT, heads=8, norm_groups=32)
        written(toy_state(config), models / "videoldm" / "steer" / f"{variant}.safetensors")
    written(toy_file((32, 32)), models / "videoldm" / "steer" / "camera.safetensors")
    for name, latents in (("rgb", True), ("scribble", False)):
        state = sparse_state(latents, TOY["text_width"])
        written(state, models / "controlnet" / "steer" / f"{name}.safetensors")
    comfyui.clear()


def with_layers(variant: str, **extra) -> dict:
    return nodes(
        n2=("VideoLDM_LoadTemporalLayers", {"layers": f"steer/{variant}.safetensors"}), **extra
    )


def clip(count: int) -> tuple[str, dict]:
    return "VideoLDM_LoadVideo", {
        "file": "rendered: shapes", "start": 0, "count": count, "stride": 9, "width": SIDE,
        "height": SIDE, "fit": "crop", "multiple_of": 1,
    }  # fmt: skip


def checked(comfyui, prompt: dict, plain: str) -> None:
    """Both hosts give the same, and something else than without."""
    pairs = compared(comfyui, prompt)
    far = {key: distance(*pair) for key, pair in pairs.items()}
    print(far)
    assert max(far.values()) < SAME
    others = [distance(pairs[plain][0], pairs[key][0]) for key in pairs if key != plain]
    assert min(others) > 0.003, "it does nothing"


@pytest.mark.parametrize("name", ["rgb", "scribble"])
def test_sparse_ctrl(comfyui, files, name):
    told = {"control_net": f"steer/{name}.safetensors", "frames": "0, 4"}
    applied = {
        "positive": ["4", 0], "negative": ["5", 0], "control_net": ["30", 0], "image": ["31", 0],
        "vae": ["1", 2], "strength": 0.7, "start_percent": 0.0, "end_percent": 0.9,
    }  # fmt: skip
    steered = {"positive": ["32", 0], "negative": ["32", 1]}
    checked(comfyui, with_layers(
        "v3", n30=("VideoLDM_LoadSparseControl", told), n31=clip(2),
        n32=("ControlNetApplyAdvanced", applied),
        n8=ksampler("3"), n40=ksampler("3", **steered),
        n41=sampler("3", **steered, **WINDOWS),
        n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8")  # fmt: skip


def test_camera_control(comfyui, files):
    told = {
        "model": ["3", 0], "weights": "steer/camera.safetensors", "frames": FRAMES,
        "moves": "0-3: pan left 30\n2-5: zoom in 2, roll clockwise 40", "strength": 1.0,
    }  # fmt: skip
    checked(comfyui, with_layers(
        "v3", n30=("VideoLDM_CameraControl", told), n8=ksampler("3"), n40=ksampler("30"),
        n41=sampler("30", **WINDOWS), n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8")  # fmt: skip


@pytest.mark.parametrize("variant", ["pia", "animatelcm i2v"])
def test_keyframe_images(comfyui, files, variant):
    told = {
        "model": ["3", 0], "images": ["32", 0], "frames": "0, 5", "motion": "large motion",
        "motion_scale": 0.5,
    }  # fmt: skip
    checked(comfyui, with_layers(
        variant, n31=clip(2), n32=("VAEEncode", {"pixels": ["31", 0], "vae": ["1", 2]}),
        n33=("VideoLDM_KeyframeImages", told), n8=ksampler("3"), n40=ksampler("33"),
        n41=sampler("33", **WINDOWS), n70=saved("8"), n71=saved("40"), n72=saved("41"),
    ), "8")  # fmt: skip
