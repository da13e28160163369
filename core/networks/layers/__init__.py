"""The kinds of temporal layers, one file each."""
