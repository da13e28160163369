"""Upsample Video's second output: the VIDEO decoded from its LATENT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..host.shared.finished_stages import (
    LATENT,
    connected_inputs,
    finished_latent,
    requested_inputs,
    stage_output,
)
from .decoding import Decoding, decode_video, frames_output
from .media import frames_stream

if TYPE_CHECKING:
    from ...core.media.files import VideoStream
    from ..host.interface import Host, Wire

NOT_DECODED = (
    "model", "positive", "negative", "images", "steps", "cfg", "sampler_name", "schedule", "seed",
    "noise_level", "overlap", "tile_overlap", "borders", "same_noise",
)  # fmt: skip
"""Inputs that affect decoded pixels only through the latents."""
NO_VIDEO = (
    "Upsample Video gives a video where a video is connected to its input images, and a VAE to its "
    "input vae"
)


def cached_upsampling(
    host: Host, images: Tensor | Wire, chunk: int, tile: int, vae: Wire | None
) -> tuple[dict[str, Any], Wire]:
    """The results of `upsample_video` from a cached LATENT. chunk, tile: the node's inputs. vae:
    None if the frames of the VIDEO are cached as well, or if none is connected."""
    latent, known = finished_latent(host)
    if "vae" not in connected_inputs(host, ()) or isinstance(images, Tensor):
        return latent, host.blocked(NO_VIDEO)
    decoding = Decoding(chunk=chunk, tile=known["factor"] * tile)
    return latent, upsampled_video(host, latent, vae, frames_stream(host, images), decoding)


def upsampling_wanted(host: Host, given: Mapping[str, Any]) -> list[str]:
    """The lazy inputs that Upsample Video still needs: all if its LATENT is not cached, only the
    VAE if just the frames of its VIDEO are not."""
    names = requested_inputs(host, given, stage_output(host, LATENT))
    if not names and not isinstance(given.get("images"), Tensor):
        names = [one for one in requested_inputs(host, given, frames_output(host)) if one == "vae"]
    return names


def upsampled_video(
    host: Host, latent: dict[str, Any], vae: Wire | None, given: VideoStream, decoding: Decoding
) -> Wire:
    """The VIDEO of a LATENT upsampled from `given`, with its frame rate and sound, decoded while it
    is saved. vae: None if all chunks are cached."""
    return decode_video(
        host, latent, vae, given.frame_rate, decoding, audio=given.audio, without=NOT_DECODED
    )
