"""Checks, and their messages, for inputs of one node that do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ....core.families.known_models import of_latents, of_layout, of_text_width
from ....core.networks.sites import UNetLayout

if TYPE_CHECKING:
    from ....core.networks.conditions import Network
    from ....core.networks.temporal_layers import Strength
    from ....core.networks.temporal_layers_spec import TemporalLayersSpec
    from ..interface import ModelFacts

NEEDS_OTHER_FRAMES = (
    "the model makes frames from other frames, which this sampler cannot give it: use Upsample "
    "Video for an upsampler, and Interpolate Frames for a model of interpolation"
)
REFERENCE_WITHOUT_WINDOWS = (
    "the model has a reference window, but is sampled without windows: use the strategy sliding "
    "windows, or context windows with KSampler"
)
NEEDS_PURE_NOISE = (
    "FreeInit makes videos from noise alone: start from empty latents with new noise, or remove "
    "FreeInit from the model"
)


def without_effect(facts: ModelFacts, node: str, on: str = "the model") -> list[str]:
    """Warnings about what was set on a model for samplers, for a node that ignores it.

    on: the input that the model is connected to.
    """
    given = {"FreeInit": facts.free_init, "Reference Window": facts.reference}
    return [
        f"{name} on {on} has no effect in {node}" for name, how in given.items() if how is not None
    ]


def check_takes_layers(network: Network, what: str = "temporal layers") -> None:
    """Raise ValueError for a network that is not an image U-Net; `what` only works with those."""
    from ....core.networks.video_unet import VideoUNet

    if not isinstance(network, VideoUNet):
        raise ValueError(
            f"{what} are for image models, but the model is a {network.spec.name}, which was made "
            "for video as a whole"
        )


def check_layers_fit(layers: TemporalLayersSpec, have: UNetLayout) -> None:
    """Raise ValueError for temporal layers of a different U-Net layout."""
    if not layers.fits(have):
        raise ValueError(
            f"these temporal layers are made for {of_layout(layers.layout)}, "
            f"but the model is {of_layout(have)}"
        )


def check_strength_fits(strength: Strength, layers: TemporalLayersSpec) -> None:
    """Raise ValueError for strengths of keys or queries if no layer has temporal attention, and for
    strengths at sites that no layer is at."""
    having = sum(one.scales_attention for one in layers.layers.values())
    if strength.scales_attention and not having:
        raise ValueError(
            f"keys and queries are those of temporal attention, which {having} of these "
            f"{len(layers.layers)} temporal layers have: leave both inputs open"
        )
    empty = strength.places_without(layers.sites)
    if empty:
        raise ValueError(
            f"a strength is for the site {empty[0]}, where 0 of the {len(layers.sites)} temporal "
            f"layers are: the first are at {', '.join(layers.sites[:5])}"
        )


def check_image_frames(frames: Sequence[range], layers: TemporalLayersSpec) -> None:
    """Raise ValueError for frames that are independent images if the layers cannot exclude
    them."""
    if frames and not layers.reads_image_only:
        raise ValueError(
            "these temporal layers were not trained with images among the frames, so that "
            "image_frames must be empty: a strength curve that is 0 at these frames switches any "
            "layers off there"
        )


def check_prompts_fit(positive: Sequence, negative: Sequence, wanted: int | None) -> None:
    """Raise ValueError for prompts encoded by another family's CLIP.

    wanted: the width of the tokens that the model reads, None for any.
    """
    both = [("positive", *one) for one in positive] + [("negative", *one) for one in negative]
    for which, tokens, _ in both:
        if tokens is None or wanted is None or tokens.shape[-1] == wanted:
            continue
        encoded_for = of_text_width(tokens.shape[-1])
        raise ValueError(
            f"the {which} prompt was encoded for {encoded_for}, but this is "
            f"{of_text_width(wanted)}; take the CLIP that was loaded with the model"
        )


def check_latents_fit(given: int, wanted: int, vae: bool = False) -> None:
    """Raise ValueError unless latents of `given` channels fit a model, or a VAE, of `wanted`."""
    if given == wanted:
        return
    if vae:
        raise ValueError(
            f"the latents are {of_latents(given)}, but the VAE decodes {of_latents(wanted)}: "
            "connect the VAE that was loaded with the model that made them"
        )
    raise ValueError(
        f"the latents are {of_latents(given)}, but the model works with {of_latents(wanted)}: make "
        "them by Temporal VAE Encode, with the VAE that was loaded with the model"
    )


def check_sparse_images(images: int, frames: Sequence[int]) -> None:
    """Raise ValueError unless there are as many images as frames for them."""
    if images != len(frames):
        raise ValueError(
            f"SparseCtrl was given {images} images for the {len(frames)} frames "
            f"{', '.join(map(str, frames))}: each needs its own"
        )


def check_same_latents(one: ModelFacts, other: ModelFacts) -> None:
    """Raise ValueError for two models of different latents."""
    if one.latents != other.latents:
        a, b = ((facts.latent_channels, facts.factor) for facts in (one, other))
        raise ValueError(
            f"the models do not belong together: the latents of one are {of_latents(a[0])} at "
            f"1/{a[1]} of the size, of the other {of_latents(b[0])} at 1/{b[1]}"
        )
