"""Time and memory of Stable Video Diffusion's decoder relative to diffusers' with the same weights,
and the visible seams between chunks of a decoder whose norms see the whole chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor

from ..families import svd_decoder
from ..families.stable_diffusion_specs import autoencoder_config
from ..networks.layers.residual import TemporalResBlockSpec, channels_last
from ..networks.temporal_decoder import (
    ATTENTION,
    OUT,
    OutputConvolutionSpec,
    VideoDecoder,
    decoder_sites,
)
from ..tasks.decoding import Decode, decode, shared_chunks
from .memory import peak_bytes
from .speed import elapsed, randomize

PUBLISHED = (128, 256, 512, 512)
"""Channels of the published decoder's levels."""
FRAMES, SIDE = 8, 32
SEAM_FRAMES, SEAM_SIDE = 28, 8
CHUNKS, OVERLAP = (4, 8, 14), 4
"""Frames per chunk, and the maximum overlap of neighbouring chunks."""


@dataclass(frozen=True)
class Cost:
    """Cost of decoding one video, (here, diffusers): seconds, and peak bytes. difference: largest
    difference of the pixels, relative to the largest value."""

    seconds: tuple[float, float]
    peak: tuple[int, int]
    difference: float

    @property
    def time_share(self) -> float:
        return self.seconds[0] / self.seconds[1]

    @property
    def memory_share(self) -> float:
        return self.peak[0] / self.peak[1]


def random_decoder(widths: Sequence[int] = PUBLISHED, layers: int = 2) -> VideoDecoder:
    """Stable Video Diffusion's decoder with random weights."""
    config = autoencoder_config(tuple(widths), svd_decoder.LATENT_SCALE)
    image = AutoencoderKL(**config | dict(layers_per_block=layers, use_post_quant_conv=False))
    specs: dict[str, Any] = {
        site: TemporalResBlockSpec(pooled_norm=True)
        for site, _ in decoder_sites(image)
        if site not in (ATTENTION, OUT)
    }
    return channels_last(randomize(VideoDecoder(image, specs | {OUT: OutputConvolutionSpec()})))


def as_diffusers(decoder: VideoDecoder) -> AutoencoderKLTemporalDecoder:
    """The same weights in diffusers' class."""
    config = decoder.autoencoder.config
    theirs = AutoencoderKLTemporalDecoder(
        block_out_channels=tuple(config.block_out_channels),
        down_block_types=tuple(config.down_block_types),
        layers_per_block=config.layers_per_block,
    )
    theirs.load_state_dict(svd_decoder.to_foreign(decoder, "diffusers"))
    return theirs.eval().requires_grad_(False)


@torch.no_grad()
def cost(
    decoder: VideoDecoder,
    frames: int = FRAMES,
    side: int = SIDE,
    repeats: int = 2,
    say: Callable[[str], object] = lambda text: None,
) -> Cost:
    """Measure both decoders on the CPU in float32: memory in a first pass, then the fastest of
    `repeats` alternating ones. side: of the latents. say: called with a line for every pass."""
    theirs = as_diffusers(decoder)
    latents = torch.randn(1, frames, 4, side, side, generator=torch.Generator().manual_seed(0))
    raw = latents[0] / svd_decoder.LATENT_SCALE
    decoders: dict[str, Callable[[], Tensor]] = {
        "here": lambda: decoder(latents)[0],
        "diffusers": lambda: theirs.decode(raw, num_frames=frames).sample,
    }
    pixels, peaks = {}, []
    for name, run in decoders.items():
        say(f"memory, {name}")
        pixels[name], peak = with_peak(run)
        peaks.append(peak)
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for i in range(repeats):
        for name, run in decoders.items():
            seconds[name].append(elapsed(run))
            say(f"pass {i + 1} of {repeats}, {name}: {seconds[name][-1]:.1f} s")
    expected = pixels["diffusers"]
    return Cost(
        seconds=(min(seconds["here"]), min(seconds["diffusers"])),
        peak=(peaks[0], peaks[1]),
        difference=float((pixels["here"] - expected).abs().max() / expected.abs().max()),
    )


def with_peak(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The result of `run`, and its peak memory in bytes."""
    kept: list[Tensor] = []
    peak = peak_bytes(lambda: kept.append(run()))
    return kept[0], peak


@torch.no_grad()
def seam(
    decoder: Decode, latents: Tensor, chunk: int, overlap: int, whole: Tensor | None = None
) -> dict[str, float]:
    """Difference of a video decoded in chunks from one decoded as a whole.

    "all": root mean square of the pixels' difference. "step": that of the difference of frame-to-
    frame changes where chunks meet. Both relative to the standard deviation of the whole video's
    pixels. whole: these pixels, if already decoded.
    """
    whole = decoder(latents) if whole is None else whole
    size, reach = shared_chunks(latents.shape[1], chunk, overlap)
    parts = torch.cat(list(decode(decoder, latents, chunk=size, reach=reach)), dim=1)
    borders = [at for at in range(size, whole.shape[1], size)] or [1]
    steps = parts.diff(dim=1) - whole.diff(dim=1)
    at_borders = torch.stack([steps[:, at - 1] for at in borders])
    scale = whole.std()
    return {"all": float((parts - whole).square().mean().sqrt() / scale),
            "step": float(at_borders.square().mean().sqrt() / scale)}  # fmt: skip


@torch.no_grad()
def seams(
    decoder: Decode,
    frames: int = SEAM_FRAMES,
    side: int = SEAM_SIDE,
    say: Callable[[str], object] = lambda text: None,
) -> dict[int, dict[str, float]]:
    """`seam` for each of CHUNKS and for one chunk of all frames, by the length of the chunk."""
    generator = torch.Generator().manual_seed(0)
    first, more = (torch.randn(1, n, 4, side, side, generator=generator) for n in (1, frames))
    latents = (first + 0.3 * more) / 1.09**0.5  # neighbours are similar, as in videos
    whole, found = decoder(latents), {}
    for chunk in (*CHUNKS, frames):
        say(f"seams of chunks of {chunk} frames")
        found[chunk] = seam(decoder, latents, chunk, min(OVERLAP, chunk // 2), whole)
    return found


def seam_table(found: Mapping[int, dict[str, float]]) -> str:
    """One line for each length of chunks."""
    lines = [f"Seams of {max(found)} frames, random weights, over the deviation of the pixels:"]
    for chunk, one in found.items():
        lines.append(
            f"  chunk {chunk:2}: {one['step']:.4f} where chunks meet, {one['all']:.4f} all"
        )
    return "\n".join(lines)


def report(say: Callable[[str], object] = print) -> tuple[dict[str, Any], str]:
    """(values, text) of all measurements."""
    decoder = random_decoder()
    found, seen = cost(decoder, say=say), seams(decoder, say=say)
    values = {
        "seconds": list(found.seconds), "time_share": found.time_share, "peak": list(found.peak),
        "memory_share": found.memory_share, "difference": found.difference,
        "seams": {str(chunk): one for chunk, one in seen.items()},
    }  # fmt: skip
    text = (
        f"Stable Video Diffusion's decoder, fp32, {FRAMES} frames of {8 * SIDE}x{8 * SIDE}: "
        f"{found.seconds[0]:.1f} s are {found.time_share:.3f} of diffusers' "
        f"{found.seconds[1]:.1f} s, {found.peak[0] / 1e9:.2f} GB are {found.memory_share:.3f} of "
        f"its {found.peak[1] / 1e9:.2f} GB; pixels differ by {found.difference:.1e}"
    )
    return values, f"{text}\n{seam_table(seen)}"
