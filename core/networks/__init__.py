"""Image U-Nets with temporal layers in them, autoencoders, and the conditions of networks."""
