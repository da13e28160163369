"""The losses of LVDM's 3D autoencoder. All but the KL term look at single frames [n 3 h w].

    nll = sum(|x - y| + w_p LPIPS(x, y)) / n,   the sum is over all elements
    ae  = nll + w_kl KL + f w_d a mean(-D(y)),  a: see discriminator.adaptive_weight
    d   = f (hinge or vanilla loss of the discriminator)

with f = 0 before step `disc_start`, then 1. The original divides nll by a learned variance that it
never trains, so that it stays 1; it is left out here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from einops import rearrange
from torch import Tensor, nn

from ..networks.autoencoder_3d import Autoencoder3D, Posterior
from .discriminator import LOSSES, PatchDiscriminator, adaptive_weight
from .perceptual import PerceptualDistance


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Weights of the terms, by default as published; disc_loss: a key of `discriminator.LOSSES`."""

    perceptual_weight: float = 1.0
    kl_weight: float = 0.0
    disc_weight: float = 0.5
    disc_start: int = 50001
    disc_loss: str = "hinge"

    def __post_init__(self) -> None:
        if self.disc_loss not in LOSSES:
            raise ValueError(
                f"disc_loss must be one of {', '.join(LOSSES)}, not {self.disc_loss!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A video [b t 3 h w] and its reconstruction.

    selected: indices of the b * t frames that the perceptual distance and the discriminator, the
    most expensive terms, look at; None for all. A subset gives estimates of the means.
    """

    video: Tensor
    reconstruction: Tensor
    selected: Tensor | None = None

    @property
    def selected_frames(self) -> tuple[Tensor, Tensor]:
        """The selected frames of both, [n 3 h w] each."""
        both = (rearrange(v, "b t c h w -> (b t) c h w") for v in (self.video, self.reconstruction))
        x, y = both if self.selected is None else (v[self.selected] for v in both)
        return x, y


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The losses of one batch and their terms."""

    autoencoder: Tensor
    discriminator: Tensor
    reconstruction: Tensor
    nll: Tensor
    kl: Tensor
    generator: Tensor
    adaptive: Tensor
    real: Tensor
    fake: Tensor


class AutoencoderLoss(nn.Module):
    """Computes the losses; holds the frozen perceptual distance and the discriminator."""

    def __init__(
        self,
        distance: PerceptualDistance,
        discriminator: PatchDiscriminator,
        settings: LossSettings,
    ):
        super().__init__()
        self.distance, self.discriminator, self.settings = distance, discriminator, settings

    def forward(self, pair: Pair, posterior: Posterior, last: Tensor, step: int) -> LossTerms:
        """All losses; `last`: weight of the decoder's last layer, for the adaptive weight.

        The autoencoder's loss has no gradient in the discriminator, nor the discriminator's in the
        autoencoder.
        """
        settings, factor = self.settings, float(step >= self.settings.disc_start)
        found, (x, y) = self.without_discriminator(pair, posterior), pair.selected_frames
        real, fake = self.discriminator(x.detach()), self.discriminator(y.detach())
        generator = -self.discriminator.frozen(y).mean()
        weight = settings.disc_weight * adaptive_weight(found.nll, generator, last)
        return replace(
            found,
            autoencoder=found.autoencoder + factor * weight * generator,
            discriminator=factor * LOSSES[settings.disc_loss](real, fake),
            generator=generator,
            adaptive=weight,
            real=real.mean(),
            fake=fake.mean(),
        )

    def without_discriminator(self, pair: Pair, posterior: Posterior) -> LossTerms:
        """The losses before `disc_start`, without the discriminator."""
        error, (x, y) = (pair.video - pair.reconstruction).abs().mean(), pair.selected_frames
        error = error + self.settings.perceptual_weight * self.distance(x, y).mean()
        nll, kl = error * x[0].numel(), kl_divergence(posterior)
        zero = nll.new_zeros(())
        return LossTerms(
            autoencoder=nll + self.settings.kl_weight * kl,
            reconstruction=error,
            nll=nll,
            kl=kl,
            discriminator=zero,
            generator=zero,
            adaptive=zero,
            real=zero,
            fake=zero,
        )


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL divergence of the posterior from a standard normal: summed per video, mean of videos."""
    mean, logvar = posterior
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / len(mean)


def last_weight(module: Autoencoder3D) -> Tensor:
    """The weight of the decoder's last layer, at which `adaptive_weight` compares gradients."""
    return module.decoder.conv_out.conv.weight
