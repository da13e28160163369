"""Image U-Nets with temporal layers, video U-Nets, autoencoders, and the conditions of networks."""
