"""The public interface for reading and writing video files.

`reading` decodes files to frames, `selection` chooses which, `sound` decodes their sound, `writing`
encodes frames to files, `codecs` lists the formats, `info` describes videos, and `stream` has lazy
videos, generated or decoded on demand.
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
