"""Speed of Stable Diffusion 1.5 with motion modules relative to diffusers' video U-Net with the
same weights, measured alternately on the same processor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from einops import rearrange
from torch import Tensor

from ..families import animatediff
from ..families.animatediff_config import detect
from ..families.stable_diffusion_specs import SPECS
from ..networks.conditions import Conditions
from ..networks.layers.residual import channels_last
from ..networks.video_unet import VideoUNet, inject
from .speed import randomize

VIDEOS = (2, 16, 4, 32, 32)
"""[b t c h w] of the two halves of guidance: 8.21 TFLOP per pass."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CONFIG = {**SPECS["stable diffusion 1"].unet}
ADAPTER = dict(block_out_channels=(320, 640, 1280, 1280), use_motion_mid_block=True)


@dataclass(frozen=True)
class Race:
    """Seconds of one pass, ours and diffusers'. (The outputs differ: diffusers' group norms are
    over all frames, those of the originals over each frame.)"""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


@torch.no_grad()
def race(dtype: torch.dtype, repeats: int = 2, videos: tuple[int, ...] = VIDEOS) -> Race:
    """Time both networks alternately, after a warm-up of each; the fastest of `repeats` counts."""
    ours, theirs = networks(dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(videos, generator=generator).to(dtype)
    width = ours.image_unet.config.cross_attention_dim
    text = torch.randn(videos[0], 77, width, generator=generator).to(dtype)
    step = torch.tensor(500)

    def diffusers() -> Tensor:
        rows = text.repeat_interleave(videos[1], dim=0)
        out = theirs(rearrange(x, "b t c h w -> b c t h w"), step, rows).sample
        return rearrange(out, "b c t h w -> b t c h w")

    def own() -> Tensor:
        return ours(x, step, Conditions(text=text))

    seconds: dict[Callable[[], Tensor], list[float]] = {own: [], diffusers: []}
    for one in seconds:
        one()
    for _ in range(repeats):
        for one, taken in seconds.items():
            start = time.perf_counter()
            one()
            taken.append(time.perf_counter() - start)
    return Race(min(seconds[own]), min(seconds[diffusers]))


def networks(dtype: torch.dtype) -> tuple[VideoUNet, UNetMotionModel]:
    """Our network and diffusers' with the same random weights."""
    with torch.device("meta"):
        unet, adapter = UNet2DConditionModel(**CONFIG), MotionAdapter(**ADAPTER)
    unet, adapter = (randomize(one.to_empty(device="cpu")).to(dtype) for one in (unet, adapter))
    state = {**unet.state_dict(), **adapter.state_dict()}
    with torch.device("meta"):
        theirs = UNetMotionModel.from_unet2d(unet, adapter, load_weights=False)
    fresh = {k: v for k, v in theirs.state_dict().items() if k not in state}
    theirs.load_state_dict(state, assign=True, strict=not fresh)
    modules = {k: v for k, v in adapter.state_dict().items() if "pos_embed" not in k}
    config = detect({k: tuple(v.shape) for k, v in modules.items()})
    layers = animatediff.assemble(modules, config, dtype=dtype)
    return inject(channels_last(unet), layers), theirs.eval()


def report() -> tuple[dict[str, float], list[str]]:
    """(ratios, lines) for every precision."""
    found, lines = {}, []
    for name, dtype in PRECISIONS.items():
        one = race(dtype)
        found[f"motion modules {name}"] = one.ratio
        lines.append(
            f"Stable Diffusion 1.5 with motion modules, {name}, 2 videos of 16 frames at 32x32: "
            f"{one.ours:.1f} s, {one.ratio:.3f} of diffusers' {one.theirs:.1f} s"
        )
    return found, lines
