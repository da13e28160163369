"""Patch discriminators (Isola et al. 2017) of single frames, as LVDM's autoencoder uses, and of
videos."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class Discriminator(nn.Module):
    """A network that tells real from generated."""

    def frozen(self, x: Tensor) -> Tensor:
        """The output for training a generator: gradients reach x but not the own weights."""
        own = {name: tensor.detach() for name, tensor in self.named_parameters()}
        return functional_call(self, own, (x,))


class PatchDiscriminator(Discriminator):
    """Images [n 3 h w] in [-1, 1] to one logit for every patch [n 1 h' w'], high = real.

    width: channels of the first layer; each of the next `depth` layers doubles them, up to 8 times.
    """

    def __init__(self, width: int = 64, depth: int = 3):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(depth):
            channels, out = width * min(2**i, 8), width * min(2 ** (i + 1), 8)
            stride = 1 if i == depth - 1 else 2
            layers += [
                nn.Conv2d(channels, out, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(out, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class VideoDiscriminator(Discriminator):
    """Videos [b t 3 h w] in [-1, 1] to one logit for every patch of every frame [b 1 t h' w'],
    high = real, by 3D convolutions (Video LDM, section 3.1.1).

    width: channels of the first layer; each of the next `depth` layers doubles them, up to 8 times.
    Time is not downsampled. Group norms instead of batch norms, as batches are small.
    """

    def __init__(self, width: int = 64, depth: int = 3):
        super().__init__()
        size = dict(kernel_size=(3, 4, 4), padding=1)
        layers: list[nn.Module] = [nn.Conv3d(3, width, stride=(1, 2, 2), **size)]
        out = width
        for i in range(depth):
            channels, out = out, width * min(2 ** (i + 1), 8)
            stride = 1 if i == depth - 1 else (1, 2, 2)
            conv = nn.Conv3d(channels, out, stride=stride, bias=False, **size)
            layers += [nn.LeakyReLU(0.2), conv, nn.GroupNorm(8, out)]
        layers += [nn.LeakyReLU(0.2), nn.Conv3d(out, 1, **size)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv3d):
                nn.init.normal_(layer.weight, 0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2))


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean max(0, 1 - D(x)) + mean max(0, 1 + D(y)), halved."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla(real: Tensor, fake: Tensor) -> Tensor:
    """mean log(1 + exp(-D(x))) + mean log(1 + exp(D(y))), halved."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hinge": hinge, "vanilla": vanilla}


def adaptive_weight(quality: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Weight of the adversarial loss that makes its gradient at the `last` layer's weight as large
    as that of the `quality` loss (Esser et al. 2021, equation 7), in [0, 1e4]."""
    norms = [
        torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
        for loss in (quality, adversarial)
    ]
    return (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
