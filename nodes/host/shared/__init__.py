"""Rules that both hosts compute alike, on plain values; nothing here knows which host runs."""
