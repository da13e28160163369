"""Optional faster implementations of :mod:`..networks.layer_calls`. Without this folder everything
still works, with the same results up to rounding."""
