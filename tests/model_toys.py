"""Real classes at toy size, shared by tests of networks and tasks."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from videoldm.core.diffusion import schedules
from videoldm.core.diffusion.denoiser import Denoiser, broadcast
from videoldm.core.diffusion.preconditioning import discrete
from videoldm.core.diffusion.samplers import sample_dpmpp_2m_sde
from videoldm.core.families.embedded.specs import spec_from_table
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.sites import layout_of
from videoldm.core.networks.temporal_layers import TemporalLayers
from videoldm.core.networks.video_unet import VideoUNet
from videoldm.core.tasks.segment import Sampling, SegmentCondition

SCHEDULE = schedules.scaled_linear()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def fill(module: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """Add random values to all parameters, zero-initialised ones included, as if trained."""
    generator = seeded(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data + scale * noise.to(parameter)
    return module


def toy_unet(**changes) -> UNet2DConditionModel:
    """Two levels of 32 and 64 channels, attention on the finer one."""
    config = dict(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return UNet2DConditionModel(**config | changes).eval().requires_grad_(False)


def toy_layers(unet: UNet2DConditionModel, **changes) -> TemporalLayers:
    spec = spec_from_table(layout_of(unet.config), **{"norm_groups": 8} | changes)
    return TemporalLayers(spec).eval()


def toy_model(unet: UNet2DConditionModel | None = None, **changes) -> DiffusionModel:
    values = dict(
        network=VideoUNet(toy_unet() if unet is None else unet, []),
        preconditioning=discrete(changes.pop("prediction", "v"), SCHEDULE),
        factor=4,
        latent_scale=1.0,
    )
    return DiffusionModel(**values | changes)


def toy_sampling(steps: int = 3, seed: int = 5) -> Sampling:
    """A stochastic sampler, so that any dependence on the order of random draws shows."""
    return Sampling(
        sampler=sample_dpmpp_2m_sde,
        sigmas=schedules.get_sigmas("uniform", SCHEDULE, steps),
        seed=seed,
    )


class Denoisers:
    """`denoiser_for` of a mock model whose frames depend on each other and on context frames."""

    def __init__(self) -> None:
        self.conditions: list[SegmentCondition] = []

    def __call__(self, condition: SegmentCondition) -> Denoiser:
        self.conditions.append(condition)
        told = 0.0
        if condition.context is not None:
            told = condition.context.masked.sum(dim=(1, 2), keepdim=True).tanh()

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            shrunk = x / (1 + broadcast(sigma, x))
            return (shrunk + shrunk.mean(1, keepdim=True)).tanh() + 0.2 * told

        return denoise

    @property
    def frames(self) -> list[Sequence[int]]:
        return [condition.frames for condition in self.conditions]


def whole(chunks) -> Tensor:
    return torch.cat(list(chunks), dim=1)


def peak_tensors(chunks: Iterable[Tensor]) -> int:
    """The maximum number of tensor storages alive while a stream runs, sampled at every 4th chunk.

    Storages that exist before the start count throughout.
    """
    before = _live_tensors()
    gc.freeze()  # Later counts then only traverse objects that the stream creates.
    try:
        return before + max(_live_tensors() for k, _ in enumerate(chunks) if k % 4 == 3)
    finally:
        gc.unfreeze()


def _live_tensors() -> int:
    tensors = [o for o in gc.get_objects() if issubclass(type(o), Tensor)]
    return len({t.untyped_storage().data_ptr() for t in tensors})
