"""Image U-Nets with temporal layers in them, autoencoders, and what networks may be told."""
