"""What both hosts compute alike, on plain values; nothing here depends on which host runs."""
