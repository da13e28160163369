"""Frames <-> files: images, video and sound, read and written chunk by chunk."""
