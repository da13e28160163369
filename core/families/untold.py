"""What the weights in a published file do not tell, and a user has to say; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("published", "raw", "average")
"""Which weights of a network that holds two sets: those that the original samples with, the trained
ones, or their running average."""

TASKS = ("prediction", "interpolation")
"""Of networks that are given frames."""


@dataclass(frozen=True)
class Untold:
    """weights: one of WEIGHTS. data: what the autoencoder of videos was trained on, one of
    `latent_data()`, task: one of TASKS; "" where it is not said."""

    weights: str = WEIGHTS[0]
    data: str = ""
    task: str = ""


def latent_data() -> tuple[str, ...]:
    """Names of what the published autoencoders of videos were trained on."""
    return ("sky", "taichi", "ucf")
