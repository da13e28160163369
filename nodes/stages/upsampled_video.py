"""What Upsample Video gives of a LATENT that is there: the VIDEO that is decoded from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..host.shared.finished_stages import LATENT, finished_latent, stage_output, wanted, wired
from .decoding import Decoding, decode_video, frames_output
from .media import frames_stream

if TYPE_CHECKING:
    from ...core.media.files import VideoStream
    from ..host.interface import Host, Wire

NOT_DECODED = (
    "model", "positive", "negative", "images", "steps", "cfg", "sampler_name", "schedule", "seed",
    "noise_level", "overlap", "tile_overlap", "borders", "same_noise",
)  # fmt: skip
"""Inputs on which decoded pixels depend by their latents alone."""
NO_VIDEO = (
    "Upsample Video gives a video where a video is connected to its input images, and a VAE to its "
    "input vae"
)


def upsampled_before(
    host: Host, images: Tensor | Wire, chunk: int, tile: int, vae: Wire | None
) -> tuple[dict[str, Any], Wire]:
    """What `upsample_video` returns, where the LATENT is finished. chunk, tile: of the node. vae:
    None where the frames of the VIDEO are finished as well, or where none is connected."""
    latent, known = finished_latent(host)
    if "vae" not in wired(host, ()) or isinstance(images, Tensor):
        return latent, host.blocked(NO_VIDEO)
    decoding = Decoding(chunk=chunk, tile=known["factor"] * tile)
    return latent, upsampled_video(host, latent, vae, frames_stream(host, images), decoding)


def upsampling_wanted(host: Host, given: Mapping[str, Any]) -> list[str]:
    """The inputs that Upsample Video waits for: all where its LATENT is not finished, the VAE alone
    where the frames of its VIDEO are not."""
    names = wanted(host, given, stage_output(host, LATENT))
    if not names and not isinstance(given.get("images"), Tensor):
        names = [one for one in wanted(host, given, frames_output(host)) if one == "vae"]
    return names


def upsampled_video(
    host: Host, latent: dict[str, Any], vae: Wire | None, given: VideoStream, decoding: Decoding
) -> Wire:
    """The VIDEO of a LATENT that was made of `given`, decoded while it is saved. vae: None where
    all of its chunks are finished."""
    return decode_video(
        host, latent, vae, given.frame_rate, decoding, audio=given.audio, without=NOT_DECODED
    )
