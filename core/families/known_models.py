"""Names of well-known models, by the width of their text embeddings, the layout of their U-Net, or
their keys.

Only for messages that say what a file was made for; loading is each family's own business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..networks.sites import SD1, SDXL, X4_UPSCALER, UNetLayout

_BY_TEXT_WIDTH = {
    128: "the embedded model",
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    1280: "the refiner of Stable Diffusion XL",
    2048: "Stable Diffusion XL",
}
_BY_LATENTS = {4: "Stable Diffusion's", 8: "the embedded model's", 16: "those of Flux and its like"}
_BY_LAYOUT = {
    SD1: "Stable Diffusion 1.x and 2.x",
    X4_UPSCALER: "Stable Diffusion's x4 upscaler",
    SDXL: "Stable Diffusion XL",
    UNetLayout(channels=(64, 128, 160), layers=1, depths=(0, 1, 0)): "the embedded model",
    UNetLayout(channels=(64, 96, 128), layers=1, depths=(0, 0, 1)): "the embedded upsampler",
}
# The first pattern that any key matches wins. Keys are dotted, or flattened as in LoRA files.
_BY_KEYS = {
    name: re.compile(pattern)
    for name, pattern in {
        "the motion modules of AnimateDiff": r"motion_modules[._]\d",
        "Stable Diffusion 3": r"joint_(transformer_)?blocks[._]\d|^transformer\.transformer_blocks",
        "Flux": r"(^|[._])(double|single)(_transformer)?_blocks[._]\d",
        "Wan": r"(^|[._])blocks[._]\d+[._](cross|self)_attn[._]",
        "Stable Cascade": r"^lora_prior_|(^|\.)(down|up)_blocks\.\d+\.\d+\.channelwise",
        "PixArt": r"caption_projection",
    }.items()
}
IMAGE_MODELS = "Stable Diffusion 1.x, 2.x or XL, or the embedded one"
"""The image models that temporal layers can be injected into."""


def of_text_width(width: int) -> str:
    """The model with text embeddings of this width, e.g. ``"Stable Diffusion 1.x"``."""
    return _BY_TEXT_WIDTH.get(width, f"a model whose prompts have width {width}")


def of_layout(layout: UNetLayout) -> str:
    """The model whose U-Net has this layout, e.g. ``"Stable Diffusion 1.x and 2.x"``."""
    sizes = f"{layout.levels} levels of {layout.channels[0]} to {layout.channels[-1]} channels"
    return _BY_LAYOUT.get(layout, f"a U-Net with {sizes}")


def of_latents(channels: int) -> str:
    """Whose latents have this many channels, e.g. ``"Stable Diffusion's (4 channels)"``."""
    return f"{_BY_LATENTS.get(channels, 'those of another model')} ({channels} channels)"


def of_keys(keys: Iterable[str]) -> str | None:
    """The model of another architecture that has such keys; None if unknown."""
    keys = list(keys)
    for name, pattern in _BY_KEYS.items():
        if any(pattern.search(key) for key in keys):
            return name
    return None
