"""Text encoders, CLIP's vocabulary, and weights of words."""
