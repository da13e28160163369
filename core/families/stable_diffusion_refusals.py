"""Describe files that no family here can load, in terms that users know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..weights.checkpoints import listed
from .known_models import of_keys, of_text_width
from .stable_diffusion_parts import place_of, unet_of

# By the U-Net's input channels: 4 of the latents, and further inputs.
_BY_CHANNELS = {
    5: "a depth-to-image model of {}, which also takes a depth map",
    8: "an image editing model of {} (InstructPix2Pix), which also takes an image",
    9: "an inpainting model of {}, which also takes a mask and an image",
}
_BY_KEYS = {
    what: re.compile(pattern)
    for what, pattern in {
        "a ControlNet": r"^control_model\.|^zero_convs\.|^controlnet_",
        "a LoRA, for Load LoRA and the folder models/loras": r"lora_(up|down|[AB])\b|\.hada_w1_a"
        r"|\.lokr_w[12]",
        "a textual inversion, for the folder models/embeddings": r"^emb_params$"
        r"|^string_to_param$|^<.*>$",
        "Stable Video Diffusion": r"\.time_stack\.",
        "a video model (VideoCrafter)": r"(^|\.)init_attn\.0\.",
        "a video model (LVDM)": r"\.(attn1_tmp|qkv_t)\.|(^|\.)decoder\.conv_blocks\.",
        "a video model (ModelScope)": r"\.temopral_conv\.|temp_convs\.",
        "an image enlarger (ESRGAN)": r"(^|\.)RRDB|^conv_first\.|^model\.1\.sub\.",
        "a small autoencoder for previews (TAESD)": r"^(taesd_)?(decoder|encoder)\.\d+\.",
    }.items()
}


def what_it_is(values: Mapping[str, Any]) -> str:
    """The end of a sentence about an unusable file: ``": it is ..."`` if its keys and shapes are
    recognised, else its first five keys."""
    found = named(values)
    return f": it is {found}" if found else f"; its first keys are {listed(values)}"


def named(values: Mapping[str, Any]) -> str | None:
    """What a file is, by its keys and shapes; None if not recognised."""
    shapes = {k: tuple(getattr(v, "shape", v)) for k, v in values.items()}
    for what, pattern in _BY_KEYS.items():
        if any(pattern.search(key) for key in shapes):
            return what
    return of_keys(shapes) or _unet(unet_of(shapes)) or _part(shapes)


def of_channels(channels: int, text_width: int) -> str | None:
    """The kind of model whose U-Net takes this many channels; None if it is not a special kind."""
    if channels not in _BY_CHANNELS:
        return None
    kind = _BY_CHANNELS[channels].format(of_text_width(text_width))
    return f"{kind} ({channels} channels instead of 4)"


def _unet(shapes: Mapping[str, Sequence[int]]) -> str | None:
    widths = [v[1] for k, v in shapes.items() if k.endswith("attn2.to_k.weight") and len(v) > 1]
    if not widths:
        return None
    base = of_text_width(max(widths))
    first = shapes.get("input_blocks.0.0.weight") or shapes.get("conv_in.weight") or (0, 0)
    other = of_channels(first[1], max(widths))
    if other is not None:
        return other
    if any(key.startswith(("label_emb.0.", "add_embedding.")) for key in shapes) and (
        max(widths) <= 1024
    ):
        return f"an image variation model (unCLIP) of {base}" if max(widths) == 1024 else base
    return f"{base} with unknown changes" if max(widths) in (768, 1024, 2048) else base


def _part(shapes: Mapping[str, Sequence[int]]) -> str | None:
    places = {place_of(key)[0] for key in shapes}
    if "autoencoder" in places:
        return "an autoencoder alone, for Load VAE and the folder models/vae"
    if "text" in places:
        return "a text encoder alone, for the folder models/text_encoders"
    return None
