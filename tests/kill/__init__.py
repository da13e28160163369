"""Runs that are killed at random moments and begun again: `python -m tests.kill --times N`."""
