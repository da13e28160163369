"""Facts that weights do not tell, as inputs of the loaders."""

from __future__ import annotations

from ....core.families.untold import TASKS, WEIGHTS, Untold, latent_data

__all__ = ["TASKS", "WEIGHTS", "Untold", "latent_data"]
