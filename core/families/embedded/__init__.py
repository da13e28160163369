"""The small model family that comes with the project: weights, worlds, layers of its own."""
