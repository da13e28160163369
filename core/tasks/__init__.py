"""How videos of any length are made: generators of finished chunks."""
