"""The small family that comes with the project: weights, worlds, and what is only its own."""
