"""Weight files <-> state dicts <-> modules."""
