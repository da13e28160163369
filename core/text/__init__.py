"""Text encoders, CLIP's vocabulary, and words that a model knows."""
