"""An image model with two text encoders gives the same prompts and videos in both hosts."""

from __future__ import annotations

import json

import pytest
import torch
from animatediff_toys import toy_layers
from inside_process import found_inside
from safetensors.torch import load_file, save_file
from videoldm.core.families import animatediff, controlnets
from videoldm.core.families import stable_diffusion as sd
from videoldm.core.networks.temporal_layers import Strength
from videoldm.nodes.host.standalone.control import (
    TO_NEGATIVE,
    StandaloneControlNet,
    hint,
    with_hint,
)
from videoldm.nodes.host.standalone.core_nodes_sdxl import CLIPTextEncodeSDXL
from videoldm.nodes.host.standalone.core_sampling import SamplerSettings, ksample
from videoldm.nodes.host.standalone.devices import Policy
from videoldm.nodes.host.standalone.host import host
from videoldm.nodes.host.standalone.loaders import Loaders, with_whole_steps
from xl_toys import LAYOUT, NAME, POOLED, SECOND, SIZES, SPEC, TEXT, layers_config, write_file

LATENT, SEED = (4, 4, 8, 12), 1
HOW = {"once": (1, 1.0), "guided": (4, 4.0)}
"""(steps, cfg); no noise level of these steps lies midway between two timesteps."""
APART = dict(width=640, height=480, crop_w=8, crop_h=16, target_width=96, target_height=64,
             text_g="a (red:1.2) circle", text_l=", ".join(["by night"] * 40))  # fmt: skip
"""Prompts of 1 and 2 chunks for the two encoders, and sizes."""
SAME = 1e-4
"""Relative to the standard deviation of the values."""
LONG = ", ".join(["a red circle moves to the right of a blue square"] * 14)
PROMPTS = [
    ("a red circle, (by night:1.3)", None),
    ("", None),
    (f"((foggy)) {LONG} (sunny:0.5)", None),
    ("a red circle", -1),
    ("a red circle", -3),
    ("a red circle", -40),
]


def comfyui_unet() -> dict:
    """The arguments of ComfyUI's U-Net for the toy."""
    depths = LAYOUT.depths
    return dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=LAYOUT.channels[0],
        num_res_blocks=[LAYOUT.layers] * LAYOUT.levels, channel_mult=[1, 2, 2],
        transformer_depth=[d for d in depths for _ in range(LAYOUT.layers)],
        transformer_depth_output=[d for d in depths for _ in range(LAYOUT.layers + 1)],
        transformer_depth_middle=LAYOUT.mid_depth, context_dim=40, use_spatial_transformer=True,
        use_linear_in_transformer=True, legacy=False, num_heads=-1, num_head_channels=16,
        num_classes="sequential", adm_in_channels=POOLED + 6 * SIZES,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["sdxl", "hotshot xl"])
def folder(request, tmp_path_factory):
    """A folder of the toy's files and of ComfyUI's results for them."""
    folder = tmp_path_factory.mktemp("two_encoders")
    write_file(folder / "toy.safetensors")
    config = layers_config(request.param)
    layers = animatediff.to_original(toy_layers(config), config)
    save_file({k: v.contiguous() for k, v in layers.items()}, folder / "layers.safetensors")
    told = dict(text=TEXT, second=SECOND, unet=comfyui_unet(), sizes=SIZES, prompts=PROMPTS,
                apart=APART, latent=LATENT, how=HOW, seed=SEED)  # fmt: skip
    save_file({"images": hints()}, folder / "hints.safetensors")
    (folder / "asked.json").write_text(json.dumps(told))
    found_inside("inside_two_encoders.py", folder)
    return folder


@pytest.fixture(scope="module")
def there(folder):
    return load_file(folder / "found.safetensors")


@pytest.fixture(scope="module")
def wires(folder):
    """MODEL and CLIP of the toy in the standalone host."""
    loaders = Loaders(host.folders, Policy("cpu", "fp32"))
    found = sd.load(folder / "toy.safetensors", specs={NAME: SPEC})
    model, clip, _ = loaders._wires(with_whole_steps(found), "toy.safetensors")
    return model, clip


def hints() -> torch.Tensor:
    """An IMAGE with one hint per frame."""
    return torch.rand(4, 64, 96, 3, generator=torch.Generator().manual_seed(3))


def apart(one, two) -> float:
    assert one.shape == two.shape
    return float((one - two).abs().max() / two.std())


def test_prompts_are_those_of_comfyui(wires, there):
    _, clip = wires
    for k, (text, layer) in enumerate(PROMPTS):
        ((tokens, more),) = (clip if layer is None else clip.stopping_at(layer)).encode(text)
        far = apart(tokens, there[f"tokens {k}"]), apart(more["pooled_output"], there[f"whole {k}"])
        print(k, far)
        assert max(far) < SAME, text
    assert len(there["tokens 2"][0]) == 3 * 77


def test_a_prompt_for_each_encoder_is_that_of_comfyui(wires, there):
    ((tokens, more),) = CLIPTextEncodeSDXL.execute(wires[1], **APART).args[0]
    assert apart(tokens, there["tokens apart"]) < SAME and tokens.shape[1] == 2 * 77
    assert apart(more["pooled_output"], there["whole apart"]) < SAME


def test_images_and_videos_are_those_of_comfyui(wires, there, folder):
    image, clip = wires
    layers = animatediff.load_layers(folder / "layers.safetensors")
    video = host.inject(image, layers, Strength())
    both = [clip.encode(text) for text, _ in PROMPTS[:2]]
    sized = CLIPTextEncodeSDXL.execute(clip, **APART).args[0]
    net = StandaloneControlNet(controlnets.load(folder / "control.safetensors"))
    one = hint(net, hints(), 0.7, 0.0, 0.8)
    followed = [with_hint(prompts, one, **{TO_NEGATIVE: False}) for prompts in both]
    for name, model, prompts in (
        ("image", image, both), ("video", video, both),
        ("apart", video, [sized, both[1]]), ("followed", video, followed),
    ):  # fmt: skip
        for kind, (steps, cfg) in HOW.items():
            how = SamplerSettings(
                seed=SEED, steps=steps, cfg=cfg, sampler_name="euler", scheduler="normal"
            )
            latent = {"samples": torch.zeros(LATENT)}
            found = ksample(host, model, *prompts, latent, how)
            far = apart(found["samples"], there[f"{name} {kind}"])
            print(name, kind, far)
            assert far < SAME
    for other in ("image", "apart", "followed"):
        assert apart(there[f"{other} once"], there["video once"]) > 0.02, other
