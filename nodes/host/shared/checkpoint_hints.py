"""What weights do not reveal, for the loaders' inputs."""

from __future__ import annotations

from ....core.families.checkpoint_hints import TASKS, WEIGHTS, CheckpointHints, latent_data

__all__ = ["TASKS", "WEIGHTS", "CheckpointHints", "latent_data"]
