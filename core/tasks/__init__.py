"""Videos of any length, as generators of finished chunks."""
