"""What weights in a published file do not reveal and the user has to specify; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("published", "raw", "average")
"""Which weights of a file with two sets: those that the original samples with, the raw ones, or
their running average (EMA)."""

TASKS = ("prediction", "interpolation")
"""Of networks conditioned on frames."""


@dataclass(frozen=True)
class CheckpointHints:
    """weights: one of WEIGHTS. data: the video autoencoder's training data, one of `latent_data()`.
    task: one of TASKS. "": not specified."""

    weights: str = WEIGHTS[0]
    data: str = ""
    task: str = ""


def latent_data() -> tuple[str, ...]:
    """Names of the training data of the published video autoencoders."""
    return ("sky", "taichi", "ucf")
