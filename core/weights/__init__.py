"""Files of weights <-> state dicts <-> modules."""
