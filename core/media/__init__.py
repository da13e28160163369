"""Frames <-> files: images, video and sound, read and written in chunks."""
