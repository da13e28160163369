"""Speed of full-size networks relative to a plain convolution on the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..families import lavie
from ..families.lavie_config import LavieConfig
from ..networks.conditions import Conditions
from ..networks.layers.residual import channels_last
from ..networks.sites import SD1

# One forward pass of the published text-to-video network on 16 frames of 20x32 latents.
LAVIE_BASE_FLOP = 1.94e12
LAVIE_BASE_CLIP = (1, 16, 4, 20, 32)

STRETCH = 20
"""Convolutions that are timed together."""

LAVIE_BASE = LavieConfig(kind="base", layout=SD1, heads=(8, 8, 8, 8), context_width=768)


@dataclass(frozen=True)
class Rate:
    """FLOP/s of a network, and of a plain 3x3 convolution in the same run."""

    network: float
    convolution: float

    @property
    def share(self) -> float:
        """The network's speed relative to the convolution's."""
        return self.network / self.convolution


@torch.no_grad()
def rate(call: Callable[[], Tensor], flop: float, repeats: int = 3) -> Rate:
    """Rate of a call of `flop` operations, float32 on the CPU.

    The call alternates with a series of convolutions; the best of each counts. The series takes
    seconds, as a network does: a single convolution would find moments without other load.
    """
    convolution, own = plain_convolution(torch.Generator().manual_seed(0))

    def stretch() -> None:
        for _ in range(STRETCH):
            convolution()

    taken = [(best(stretch, 1), best(call, 1)) for _ in range(repeats)]
    plain, network = (min(column) for column in zip(*taken, strict=True))
    return Rate(flop / network, STRETCH * own / plain)


def lavie_base() -> Callable[[], Tensor]:
    """One forward pass of LaVie's full-size text-to-video network, with random weights."""
    parts = lavie.build(LAVIE_BASE)
    unet, layers = (randomize(part.to_empty(device="cpu")) for part in (parts.unet, parts.layers))
    parts = lavie.Parts(channels_last(unet), channels_last(layers))
    network = lavie.diffusion_model(LAVIE_BASE, parts).network
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(LAVIE_BASE_CLIP, generator=generator)
    given = Conditions(text=torch.randn(1, 77, 768, generator=generator))
    return lambda: network(video, torch.tensor(500), given)


def randomize(module: nn.Module) -> nn.Module:
    """Fill all parameters with small random numbers, without slow denormals, and freeze them."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        bound = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
        parameter.requires_grad_(False)
    return module.eval()


def plain_convolution(
    generator: torch.Generator, *, channels: int = 320, side: int = 32, batch: int = 32
) -> tuple[Callable[[], Tensor], float]:
    """A 3x3 convolution in torch's default layout, and the FLOPs of one call."""
    layer = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)
    x = torch.randn(batch, channels, side, side, generator=generator)
    return lambda: layer(x), 2.0 * batch * side * side * channels * channels * 9


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one as a warm-up."""
    function()
    return min(elapsed(function) for _ in range(repeats))


def elapsed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report() -> tuple[dict[str, float], str]:
    """(values, text) of all networks."""
    lavies = rate(lavie_base(), LAVIE_BASE_FLOP)
    found = {"network": lavies.network, "convolution": lavies.convolution, "share": lavies.share}
    text = (
        f"LaVie's base network, fp32, 16 frames at 20x32: {lavies.network / 1e9:.1f} GFLOP/s, "
        f"{lavies.share:.3f} of a plain 3x3 convolution's {lavies.convolution / 1e9:.1f} GFLOP/s"
    )
    for more, lines in _others():
        found |= more
        text = "\n".join([text, *lines])
    return found, text


def _others() -> list[tuple[dict[str, float], list[str]]]:
    """The reports of the modules that build on this one, hence the late import."""
    from . import motion_speed, video_network_speed

    return [one.report() for one in (motion_speed, video_network_speed)]
