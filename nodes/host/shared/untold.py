"""Facts that weights do not tell, for the loaders' inputs."""

from __future__ import annotations

from ....core.families.untold import TASKS, WEIGHTS, Untold, latent_data

__all__ = ["TASKS", "WEIGHTS", "Untold", "latent_data"]
