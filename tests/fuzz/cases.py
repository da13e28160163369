"""Makes a case: writes its files into a folder and returns its command lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from . import command_lines, media, prompts, weights, workflows

Command = list[str]
Maker = Callable[[Random, Path], list[Command]]
"""make(rng, folder) writes files into `folder` and returns the command lines to run there."""

KINDS: dict[str, Maker] = {
    "workflows": workflows.make,
    "media": media.make,
    "weights": weights.make,
    "prompts": prompts.make,
    "cli": command_lines.make,
}
MODELS = ("checkpoints", "loras", "vae", "videoldm", "text_encoders", "embeddings")


def make(kind: str, seed: int, number: int, folder: Path) -> list[Command]:
    """Write the files of one case and return its command lines; both depend on nothing else."""
    for name in ("input", "tmp", *(f"models/{model}" for model in MODELS)):
        (folder / name).mkdir(parents=True)
    return KINDS[kind](random_of(kind, seed, number), folder)


def random_of(kind: str, seed: int, number: int) -> Random:
    return Random(f"{kind} {seed} {number}")
