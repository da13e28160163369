"""Faster forms of what :mod:`..networks.layer_calls` says plainly. Without this folder everything
works, and gives the same but for rounding."""
