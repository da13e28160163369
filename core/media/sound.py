"""Decodes the sound of files, aligned with the frames and of their duration.

Only mono, stereo and 5.1 have encoders everywhere; other layouts are mixed into the next of these
that can hold them. In-memory sound with more than eight channels, whose layout is unknown, is
averaged to mono. Samples are interleaved here, because PyAV reads past its list of planes for eight
or more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
import numpy as np
import torch

from .info import AudioClip, VideoInfo, fault_reason, kind_of
from .reading import SEEKABLE, decoded_frames, open_container, open_video
from .selection import SelectedFrames, Selection, select_frames

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
USUAL_LAYOUTS = {3: "2.1", 4: "4.0", 5: "5.0", 7: "6.1", 8: "7.1"}  # assumed for in-memory sound
MAX_RATE = 768_000  # samples per second
MAX_SAMPLES = 2**30  # of one channel, 6 hours
LEAD = 2  # seconds decoded ahead of the requested start, since codecs need a run-up
GAP = Fraction(1, 20)  # seconds that time stamps may be off before silence is inserted
BLOCK = 65_536  # samples mixed at a time


def read_audio(
    path: str | PathLike[str], *, start: int = 0, count: int | None = None, stride: int = 1
) -> AudioClip | None:
    """Decode the sound of the frames that `read_frames` yields for the same arguments; None if the
    file has none.

    The waveform starts with the first of these frames and is exactly as long as they are shown:
    padded with silence where there is no sound, and cut before and after.
    """
    info = open_video(path)
    return sound_of(info, select_frames(info, Selection(start=start, count=count, stride=stride)))


def sound_of(info: VideoInfo, selected: SelectedFrames) -> AudioClip | None:
    """Decode the sound of the selected frames; None if the file has none."""
    path = info.path
    if kind_of(path) != "container":
        return None
    try:
        with open_container(path) as container:
            if not container.streams.audio:
                return None
            context = container.streams.audio[0].codec_context
            rate = 0 if context is None else context.rate
            if not rate:
                raise ValueError("its codec or its sampling rate is not known")
            length = round(selected.seconds * rate)
            if length > MAX_SAMPLES:
                raise ValueError(f"{length} samples are more than {MAX_SAMPLES}")
            begin = _first_picture(path) + selected.begin
            if container.format.name.startswith(SEEKABLE) and begin > LEAD:
                container.seek(int((begin - LEAD) * 1_000_000))  # FFmpeg's clock without a stream
            waveform = _aligned(container, rate, begin, length)
    except (av.error.FFmpegError, OSError, ValueError) as fault:
        raise ValueError(f"the sound of {path} cannot be decoded: {fault_reason(fault)}") from fault
    return None if waveform is None else mixed_down(AudioClip(torch.from_numpy(waveform), rate))


def _first_picture(path: Path) -> Fraction:
    """The time in seconds at which the first frame is shown."""
    with open_container(path) as container:
        picture = next(decoded_frames(container, container.streams.video[0]))
        return Fraction(0) if picture.pts is None else picture.pts * picture.time_base


def _aligned(
    container: av.container.InputContainer, rate: int, begin: Fraction, length: int
) -> np.ndarray | None:
    """`channels samples` of `length` from the time `begin` on; None if there are no samples."""
    parts: list[np.ndarray] = []
    done, channels = 0, 0
    for place, block in _blocks(container, rate):
        channels = block.shape[0]
        first = done if place is None else round((place - begin) * rate)
        if abs(first - done) > GAP * rate or not done:
            block = block[:, max(0, done - first) :]
            silence = max(0, min(first, length) - done)
            parts.append(np.zeros((channels, silence), np.float32))
            done += silence
        parts.append(block)
        done += block.shape[1]
        if done >= length:
            break
    if not channels:
        return None
    parts.append(np.zeros((channels, max(0, length - done)), np.float32))
    return _unclipped(np.concatenate(parts, axis=1)[:, :length])


def _unclipped(waveform: np.ndarray) -> np.ndarray:
    """Scale down sound beyond full scale, which mixing channels and lossy codecs produce."""
    peak = max(float(waveform.max(initial=0)), -float(waveform.min(initial=0)))
    return waveform / peak if peak > 1 else waveform


def _blocks(
    container: av.container.InputContainer, rate: int
) -> Iterator[tuple[Fraction | None, np.ndarray]]:
    """(time of the first sample in seconds or None, `channels samples`) of the first track."""
    mixer = None
    for frame in container.decode(audio=0):
        place = None if frame.pts is None else frame.pts * frame.time_base
        mixer = mixer or _Mixer(frame.layout.name, frame.layout.nb_channels, rate)
        for block in mixer.mixed(frame):
            yield place, block
            place = None


class _Mixer:
    """Mixes one layout into the next of LAYOUTS; channels without positions are kept unchanged."""

    def __init__(self, layout: str, channels: int, rate: int):
        self.channels, target = channels, None
        if not layout.endswith(" channels"):  # FFmpeg's name of layouts without positions
            if channels not in LAYOUTS:
                self.channels = 2 if channels < 5 else 6
            target = LAYOUTS[self.channels]
        self.resampler = av.AudioResampler(format="flt", layout=target, rate=rate)

    def mixed(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        for block in self.resampler.resample(frame):
            yield block.to_ndarray().reshape(-1, self.channels).T


def mixed_down(audio: AudioClip) -> AudioClip:
    """Mix sound to a number of channels in LAYOUTS; the same object if it has one already.

    Sound in memory has no layout: FFmpeg's usual one for its number of channels is assumed. Raises
    ValueError for a waveform without two axes or channels, and for a bad sampling rate.
    """
    waveform, rate = audio
    if waveform.ndim != 2 or not waveform.shape[0]:
        raise ValueError(f"waveform {tuple(waveform.shape)} must be (channels, samples)")
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"{rate} samples per second must be from 1 to {MAX_RATE}")
    channels = waveform.shape[0]
    if channels in LAYOUTS:
        return audio
    if channels not in USUAL_LAYOUTS:
        return AudioClip(waveform.float().mean(0, keepdim=True), rate)
    mixer = _Mixer(USUAL_LAYOUTS[channels], channels, rate)
    frames = (
        audio_frame(part.T.reshape(1, -1), USUAL_LAYOUTS[channels], rate)
        for part in waveform.split(BLOCK, dim=1)
    )
    blocks = [block for frame in frames for block in mixer.mixed(frame)]
    return AudioClip(torch.from_numpy(_unclipped(np.concatenate(blocks, axis=1))), rate)


def audio_frame(samples: torch.Tensor, layout: str, rate: int) -> av.AudioFrame:
    """A PyAV frame of interleaved samples `1 (samples channels)`."""
    values = samples.detach().to("cpu", torch.float32).contiguous().numpy()
    frame = av.AudioFrame.from_ndarray(values, format="flt", layout=layout)
    frame.sample_rate = rate
    return frame
