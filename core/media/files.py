"""Frames <-> files: the one module to import for reading, writing and passing on video.

The parts: `reading` (files -> frames), `selection` (which of them), `sound` (their sound),
`writing` (frames -> files), `codecs` (which files), `info` (what a video is), `stream`
(videos that are made or decoded only when somebody asks for their frames).
"""

from __future__ import annotations

from .codecs import FORMATS
from .hardware import encoding_of
from .info import AudioClip, VideoInfo, exact_frame_rate
from .reading import open_video, read_frames, read_metadata
from .selection import Selection
from .sound import read_audio
from .stream import VideoStream
from .writing import begin_video, write_video

__all__ = [
    "FORMATS",
    "AudioClip",
    "Selection",
    "VideoInfo",
    "VideoStream",
    "begin_video",
    "encoding_of",
    "exact_frame_rate",
    "open_video",
    "read_audio",
    "read_frames",
    "read_metadata",
    "write_video",
]
