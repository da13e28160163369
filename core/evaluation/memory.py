"""Peak memory of tensors during a computation, independent of the device's allocator.

A tensor counts from the operation that creates it until its storage is freed; the workspace inside
an operation is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..diffusion.samplers import SAMPLERS
from ..diffusion.schedules import scaled_linear
from ..families import lavie
from ..families import stable_diffusion as published
from ..families.embedded.specs import spec_from_table
from ..families.lavie_config import LavieConfig
from ..families.lavie_sampling import Prompts
from ..families.lavie_upsampling import Chunks, upsample_blended
from ..families.stable_diffusion_specs import SPECS, unet_config
from ..networks.diffusion_model import DiffusionModel
from ..networks.sites import UNetLayout
from ..networks.temporal_layers import TemporalLayers
from ..tasks.segment import Sampling
from ..tasks.upsampling import Prompt, settings_of, upsample
from .speed import randomize

LATENTS = 7
"""Channels that a video upsampler holds for every frame: latents and low-resolution pixels."""


class Allocations(TorchDispatchMode):
    """Tracks the bytes of storages created in its context; `peak` is the maximum alive at a time.

    aside(tensor): whether a new tensor is excluded.
    """

    def __init__(self, aside: Callable[[Tensor], bool] = lambda tensor: False):
        super().__init__()
        self.aside = aside
        self.live = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = {_key(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and _key(one) not in given:
                self._made(one)
        self.peak = max(self.peak, self.live)
        return out

    def _made(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, 0 if self.aside(tensor) else storage.nbytes()
        if key not in self._known:
            self.live += size
            self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def _gone(self, key: int, size: int) -> None:
        self.live -= size
        self._known.pop(key, None)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def peak_bytes(
    function: Callable[[], Any], aside: Callable[[Tensor], bool] = lambda tensor: False
) -> int:
    """Peak bytes of the tensors created by `function`; see `Allocations`."""
    with Allocations(aside) as found:
        function()
    return found.peak


@dataclass(frozen=True)
class Peak:
    """Peak bytes of one super-resolution. working: without the tensors set aside."""

    frames: int
    total: int
    working: int


def upsampling_peaks(
    model: DiffusionModel,
    frames: Sequence[int] = (16, 61),
    *,
    height: int = 8,
    width: int = 8,
    chunk: int = 8,
    overlap: int = 4,
) -> list[Peak]:
    """Peaks of LaVie's super-resolution in blended windows, one sampling step, for each length.

    Latents, noise and low-resolution frames of the whole video are set aside.
    """
    text = torch.zeros(1, 77, model.network.spec.text)
    prompts = Prompts(text=text, negative=text, scale=5.0)

    def peaks(count: int) -> Peak:
        low_res = torch.zeros(1, count, 3, height, width)
        chunks = Chunks(chunk=chunk, overlap=overlap)

        def whole(x: Tensor) -> bool:
            return x.ndim == 5 and x.shape[1] == count and x.shape[2] <= LATENTS

        with Allocations() as total, Allocations(whole) as working:
            upsample_blended(model, low_res, prompts, 0, steps=1, chunks=chunks)
        return Peak(count, total.peak, working.peak)

    return [peaks(count) for count in frames]


def small_vsr() -> DiffusionModel:
    """LaVie's super-resolution network with few channels and random weights."""
    config = LavieConfig(
        kind="vsr",
        layout=UNetLayout(channels=(32, 64), layers=1, depths=(0, 1)),
        heads=(1, 2),
        context_width=32,
        in_channels=7,
        only_cross_attention=(True, False),
        noise_levels=1000,
        modules=("down.0.out", "down.1.out", "mid.out", "up.0.out", "up.1.out"),
    )
    parts = lavie.build(config)
    unet, layers = (randomize(part.to_empty(device="cpu")) for part in (parts.unet, parts.layers))
    return lavie.diffusion_model(config, lavie.Parts(unet, layers))


SMALL_FRAMES = 320, 512
"""Height and width of the frames that are upsampled to 1280x2048."""


def small_upsampler() -> DiffusionModel:
    """The x4 upscaler's network with few channels and random weights, with temporal layers."""
    layout = UNetLayout(channels=(8, 8, 16), layers=1, depths=(0, 0, 1))
    spec = replace(SPECS["stable diffusion x4 upscaler"], layout=layout)
    config = dict(block_out_channels=layout.channels, layers_per_block=1, norm_num_groups=4)
    config |= dict(cross_attention_dim=16, attention_head_dim=2)
    config |= unet_config(layout) | dict(only_cross_attention=(True, True, False))
    unet = UNet2DConditionModel(**spec.unet | config)
    schedule = scaled_linear(start=spec.betas[0], end=spec.betas[1])
    model = published.model_of(
        randomize(unet), spec.autoencoder, schedule, "v", schedule, spec.max_noise_level
    )
    layers = spec_from_table(layout, task="upsampling", norm_groups=4, expansion=1)
    return model.with_layers(randomize(TemporalLayers(layers)))


@torch.no_grad()
def chunked_upsampling_peak(
    model: DiffusionModel, frames: int, *, size: tuple[int, int], tile: int = 128
) -> Peak:
    """Peaks of upsampling `frames` frames of `size` in chunks of 16, each continuing the previous
    one, in tiles of `tile`, one sampling step.

    Small frames come one by one, and latents are released as soon as they are made. Latents, noise
    and small frames of a whole chunk are set aside: a continuing chunk has more of them.
    """
    settings = replace(settings_of(model), tile=tile)
    prompt = Prompt(torch.zeros(1, 77, model.network.spec.text))
    sampling = Sampling(
        sampler=SAMPLERS["euler"], sigmas=torch.tensor([10.0, 0.0]), seed=0, device=model.device
    )
    small = (torch.zeros(1, 1, 3, *size) for _ in range(frames))

    def whole(x: Tensor) -> bool:
        return x.ndim == 5 and x.shape[-2:] == size and x.shape[2] <= LATENTS

    with Allocations() as total, Allocations(whole) as working:
        for _ in upsample(model, small, prompt, sampling, settings=settings):
            pass
    return Peak(frames, total.peak, working.peak)


def report() -> tuple[dict[str, Any], str]:
    """(values, text) of both measurements."""
    short, long = upsampling_peaks(small_vsr())
    found: dict[str, Any] = {
        "frames": [short.frames, long.frames],
        "working": [short.working, long.working],
        "total": [short.total, long.total],
        "ratio": long.working / short.working,
    }
    model = small_upsampler()
    few, many = (chunked_upsampling_peak(model, n, size=SMALL_FRAMES) for n in (16, 61))
    found["x4"] = {
        "frames": [few.frames, many.frames],
        "working": [few.working, many.working],
        "total": [few.total, many.total],
        "ratio": many.working / few.working,
    }
    lines = (
        f"LaVie's super-resolution, small network: {long.working:,} bytes for {long.frames} frames "
        f"are {found['ratio']:.3f} of {short.working:,} for {short.frames}, latents aside",
        f"x4 upsampler to {4 * SMALL_FRAMES[0]}x{4 * SMALL_FRAMES[1]} in tiles of 128, small "
        f"network: {many.working:,} bytes for {many.frames} frames are "
        f"{many.working / few.working:.3f} of {few.working:,} for {few.frames}, latents of a chunk "
        f"aside; {many.total:,} and {few.total:,} with them",
    )
    return found, "\n".join(lines)
