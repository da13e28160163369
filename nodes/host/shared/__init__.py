"""What both hosts compute alike, told by plain values; nothing here knows which host runs."""
