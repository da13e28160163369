"""LaVie's networks at toy size, and prompts for them."""

import torch
from model_toys import normal, seeded
from videoldm.core.families import lavie
from videoldm.core.families.lavie_config import LavieConfig
from videoldm.core.networks.diffusion_model import DiffusionModel
from videoldm.core.networks.sites import UNetLayout

TEXT, NEGATIVE = normal(1, 5, 16, seed=1), normal(1, 5, 16, seed=2)


def config_of(kind: str, **changes) -> LavieConfig:
    depths = (0, 1) if kind == "vsr" else (1, 0)
    values = dict(
        kind=kind,
        layout=UNetLayout(channels=(32, 64), layers=1, depths=depths),
        heads=(1, 2),
        context_width=16,
        in_channels={"base": 4, "interpolation": 8, "vsr": 7}[kind],
        norm_groups=8,
        only_cross_attention=(True, False) if kind == "vsr" else (),
        noise_levels=400 if kind == "vsr" else 0,
        modules=("down.0.out", "mid.out", "up.1.out") if kind == "vsr" else (),
    )
    return LavieConfig(**values | changes)


def parts_of(config: LavieConfig, seed: int = 0) -> lavie.Parts:
    parts = lavie.build(config)
    unet, layers = (part.to_empty(device="cpu") for part in (parts.unet, parts.layers))
    for part in (unet, layers):
        for name, parameter in part.named_parameters():
            fans = parameter[0].numel() if parameter.ndim > 1 else 25
            ones = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            drawn = torch.randn(parameter.shape, generator=seeded(seed + len(name)))
            parameter.data = ones + drawn / fans**0.5
    return lavie.Parts(unet.eval(), layers.eval())


def model_of(kind: str, **changes) -> DiffusionModel:
    config = config_of(kind, **changes)
    return lavie.diffusion_model(config, parts_of(config))
