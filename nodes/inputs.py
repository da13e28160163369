"""Inputs shared by several nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .choices import (
    AS_PUBLISHED,
    SAMPLERS,
    SCHEDULES,
    USUAL_CFG,
    USUAL_SAMPLER,
    USUAL_STEPS,
    VIDEO_FORMATS,
)
from .host import host, io

MAX_SIZE, MAX_FRAMES = 8192, 100_000


def integer(name: str, default: int, low: int, high: int, tooltip: str, **more) -> io.Input:
    return io.Int.Input(name, default=default, min=low, max=high, tooltip=tooltip, **more)


def number(name: str, default: float, low: float, high: float, tooltip: str, **more) -> io.Input:
    more = {"step": 0.05, **more}
    return io.Float.Input(name, default=default, min=low, max=high, tooltip=tooltip, **more)


def boolean(name: str, tooltip: str) -> io.Input:
    """An optional advanced switch, off by default."""
    return io.Boolean.Input(name, default=False, tooltip=tooltip, optional=True, advanced=True)


def combo(name: str, options: Sequence[str], tooltip: str) -> io.Input:
    """An optional advanced choice; the first option is the default."""
    return io.Combo.Input(
        name,
        options=list(options),
        default=options[0],
        tooltip=tooltip,
        optional=True,
        advanced=True,
    )


def seconds(name: str, tooltip: str) -> io.Input:
    """An optional advanced time in seconds, 0 by default."""
    return number(name, 0.0, 0.0, 100_000.0, tooltip, step=0.01, optional=True, advanced=True)


def prompts(*, lazy: bool = False) -> list[io.Input]:
    return [
        io.Conditioning.Input(
            "positive", lazy=lazy,
            tooltip="Positive prompt. Prompts of Long-Horizon Segments apply to their own frames.",
        ),
        io.Conditioning.Input(
            "negative", lazy=lazy, tooltip="Negative prompt, often empty. Unused at cfg 1."
        ),
    ]  # fmt: skip


def latent_wanted(given: Mapping[str, Any]) -> list[str]:
    """The lazy inputs that a node with a LATENT output still needs: none if that is cached."""
    from .host.shared.finished_stages import LATENT, requested_inputs, stage_output

    return requested_inputs(host, given, stage_output(host, LATENT))


STEPS = "Number of denoising steps."
CFG = (
    "Classifier-free guidance scale: higher follows the prompt more closely. 1 ignores the "
    "negative prompt and takes half the time."
)
SAMPLER = (
    "Sampling algorithm. dpmpp_2m and unipc need the fewest steps; ancestral and sde samplers add "
    "noise at every step. lcm is for models distilled to a few steps."
)


def steps(default: int) -> io.Input:
    return integer("steps", default, 1, 1000, STEPS)


def cfg(default: float) -> io.Input:
    return number("cfg", default, 1.0, 30.0, CFG)


def sampler_name() -> io.Input:
    return io.Combo.Input(
        "sampler_name", options=list(SAMPLERS), default=USUAL_SAMPLER, tooltip=SAMPLER
    )


def steps_as_published() -> io.Input:
    return integer(
        "steps", 0, 0, 1000, f"{STEPS} 0: the number published with the temporal layers (4 for "
        f"layers distilled to 4 steps), or {USUAL_STEPS}.",
    )  # fmt: skip


def cfg_as_published() -> io.Input:
    return number(
        "cfg", 0.0, 0.0, 30.0, f"{CFG} 0: the value published with the temporal layers, or "
        f"{USUAL_CFG:g}.",
    )  # fmt: skip


def sampler_as_published() -> io.Input:
    return io.Combo.Input(
        "sampler_name",
        options=[AS_PUBLISHED, *SAMPLERS],
        default=AS_PUBLISHED,
        tooltip=f"{SAMPLER} As published: the one the temporal layers were published with, or "
        f"{USUAL_SAMPLER}.",
    )


def schedule(default: str = "trailing") -> io.Input:
    return io.Combo.Input(
        "schedule",
        options=[*SCHEDULES, AS_PUBLISHED],
        default=default,
        tooltip="Noise schedule: the noise levels of the steps. As published: those of the "
        "original script of the model's family, for a sampler that it was published with.",
    )


def seed() -> io.Input:
    return integer(
        "seed", 0, 0, 2**53 - 1,
        "Seed of the noise. Each frame's noise depends on the seed and the frame's number.",
        control_after_generate=True,
    )  # fmt: skip


def context_guidance() -> io.Input:
    return number(
        "context_guidance", 1.0, 0.0, 10.0,
        "Guidance scale of the given frames: higher stays closer to them. Any value but 1 doubles "
        "the time.", advanced=True,
    )  # fmt: skip


def chunk(default: int = 16, what: str = "decoded") -> io.Input:
    return integer(
        "chunk", default, 1, 1024, f"Number of frames {what} at a time; limits memory use."
    )


def tile() -> io.Input:
    return integer(
        "tile", 0, 0, MAX_SIZE, "Side of the tiles in pixels, for frames that do not fit into "
        "memory; 0 takes whole frames.", step=8, advanced=True,
    )  # fmt: skip


def chunk_overlap() -> io.Input:
    return integer(
        "overlap", 4, 0, 64,
        "Number of frames that neighbouring chunks share and are blended over, for decoders in "
        "which every frame depends on its whole chunk. Other decoders need none.",
        step=2, optional=True, advanced=True,
    )  # fmt: skip


def frames_or_video(name: str, tooltip: str, **more) -> io.Input:
    """An input that takes an IMAGE, or a VIDEO whose frames are read on demand."""
    return io.MultiType.Input(name, types=[io.Image, io.Video], tooltip=tooltip, **more)


def frame_rate() -> io.Input:
    return number("frame_rate", 15.0, 0.1, 240.0, "Frames per second.", step=0.01)


def saving_rate() -> io.Input:
    return number(
        "frame_rate", 15.0, 0.1, 240.0,
        "Frames per second, for images. A video keeps its own rate; another number here only gives "
        "a warning.", step=0.01,
    )  # fmt: skip


def filename_prefix(default: str) -> io.Input:
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Start of the file name inside the output folder; may contain folders and "
        "%date:yyyy-MM-dd%, %width%, %height%, %Node.widget%.",
    )


def video_format() -> io.Input:
    from ..core.media.hardware import hardware_encodings

    return io.Combo.Input(
        "format",
        options=[*VIDEO_FORMATS, *hardware_encodings()],
        default="mp4",
        tooltip="mp4 (H.264) plays anywhere, webm is VP9, gif has 256 colours, png is a folder of "
        "lossless images. H.265 and AV1 files are smaller, ProRes 4444 is for editing. Hardware "
        "encoders are listed where they work.",
    )
