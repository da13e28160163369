"""Schedules, preconditioning, noise, guidance and samplers; nothing here knows a network."""
