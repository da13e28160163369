"""Split single files of Stable Diffusion, whatever wrote them, into networks, and drop leftovers.

Module names vary as well: the latent diffusion code base's ("ldm"), diffusers', transformers' and
OpenCLIP's. They are converted to diffusers' and transformers'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ..weights.checkpoints import complain, part
from . import stable_diffusion_keys as keys
from .stable_diffusion_folders import build_unet
from .stable_diffusion_specs import ImageSpec

Part = Literal["unet", "autoencoder", "text", "second_text"]
TEXTS = ("text", "second_text")
Value = TypeVar("Value")

UNET, EMA = "model.diffusion_model.", "model_ema."
PREFIXES: dict[str, Part] = {
    UNET: "unet",
    "diffusion_model.": "unet",
    "unet.": "unet",
    "first_stage_model.": "autoencoder",
    "vae.": "autoencoder",
    "conditioner.embedders.0.": "text",
    "conditioner.embedders.1.": "second_text",
    "text_encoder_2.": "second_text",
    "text_encoders.clip_g.": "second_text",
    "cond_stage_model.": "text",
    "text_encoder.": "text",
    "text_encoders.": "text",
}
_TEXT_ROOTS = (
    *("encoder.layers.", "embeddings.", "final_layer_norm."),
    *("transformer.resblocks.", "token_embedding.", "positional_embedding", "ln_final."),
)
ROOTS: dict[Part, tuple[str, ...]] = {
    "unet": (
        *("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out."),
        *("conv_in.", "conv_out.", "conv_norm_out.", "down_blocks.", "mid_block.", "up_blocks."),
        *("time_embedding.", "class_embedding.", "add_embedding."),
    ),
    "autoencoder": (
        *(f"encoder.{end}" for end in ("conv_", "down", "mid", "norm_out.")),
        *("decoder.", "quant_conv.", "post_quant_conv."),
    ),
    "text": _TEXT_ROOTS,
    "second_text": (*_TEXT_ROOTS, "text_projection"),
}
"""How the paths inside a network begin."""

# Wrappers around the text encoder's own names, in any number.
_TEXT_WRAPPERS = re.compile(
    r"^((cond_stage_model|text_encoders?|clip_[lgh]|model|text_model|transformer(?!\.resblocks))\.)+"
)
# Training leftovers by how their keys begin: losses, averages, the second schedule of upscalers,
# temperatures, k-diffusion's table of noise levels, textual inversion's own table.
LEFTOVERS = re.compile(
    r"^((first_stage_model|cond_stage_model|model|vae)\.)?"
    r"(loss|model_ema|ema|ema_model|low_scale_model|logit_scale|denoiser|embedding_manager"
    r"|optimizers?|optimizer_states|lr_schedulers?|schedulers?|callbacks|loops|discriminator"
    r"|perceptual_loss|lpips|logvar|conditioner_ema)\."
)
# And by the last part of their keys: counters and tables that no network learns.
LEFTOVER_ENDS = frozenset(
    ("position_ids", "num_updates", "decay", "global_step", "epoch", "iteration", "step")
    + ("num_batches_tracked", "logit_scale", "attn_mask", "sigmas", "log_sigmas", "scale_input")
)


def place_of(key: str) -> tuple[Part | None, str]:
    """(network that a key belongs to, path there); (None, key) if it belongs to none.

    A key with a network's prefix is that network's, whatever follows. Keys without a prefix are
    assigned by how they begin.
    """
    for prefix, name in PREFIXES.items():
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            return name, _TEXT_WRAPPERS.sub("", rest) if name in TEXTS else rest
    bare = _TEXT_WRAPPERS.sub("", key)
    if bare.startswith(ROOTS["text"]):
        return "text", bare
    return next(
        (p for p, roots in ROOTS.items() if key.startswith(roots) and p not in TEXTS), None
    ), key


def is_leftover(key: str) -> bool:
    """Whether a key is a training leftover; no learned weight has such a name.

    Names without a dot are tables of the schedule and counters of the trainer.
    """
    return (
        key != "positional_embedding"
        and "." not in key
        or LEFTOVERS.match(key) is not None
        or key.rpartition(".")[2] in LEFTOVER_ENDS
    )


@dataclass(frozen=True)
class Parts:
    """The tensors of each network; empty if missing."""

    unet: dict[str, Tensor] = field(default_factory=dict)
    autoencoder: dict[str, Tensor] = field(default_factory=dict)
    text: dict[str, Tensor] = field(default_factory=dict)
    second_text: dict[str, Tensor] = field(default_factory=dict)


def take_apart(state: Mapping[str, Tensor], name: str = "the file") -> Parts:
    """Split a file into networks, under its own module names.

    CheckpointError names the first five keys that belong to no network and are no leftovers.
    """
    parts, unknown = Parts(), []
    for key, tensor in state.items():
        place, path = place_of(key)
        if is_leftover(key):
            continue
        if place is not None and (place == "unet" or path.startswith(ROOTS[place])):
            getattr(parts, place)[path] = tensor
        elif place not in TEXTS:
            # Text prefixes also hold CLIP's other tower, projections and tokenizers: all ignored.
            unknown.append(key)
    complain("has unknown", name, unknown)
    return Parts(**{k: dequantized(v) for k, v in vars(parts).items()})


def unet_of(values: Mapping[str, Value]) -> dict[str, Value]:
    """The U-Net's tensors or shapes in a file, by their paths in the U-Net."""
    placed = ((*place_of(key), key, value) for key, value in values.items())
    return {
        path: value
        for place, path, key, value in placed
        if place == "unet" and not is_leftover(key)
    }


def dequantized(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply 8-bit weights by their scales, which are dropped."""
    ends = (".scale_weight", ".weight_scale")
    scales = {f"{k.rpartition('.')[0]}.weight": v for k, v in state.items() if k.endswith(ends)}
    return {
        k: v.float() * scales[k].float() if k in scales else v
        for k, v in state.items()
        if not k.endswith(ends)
    }


# --------------------------------------------------------------------------------------------------
# Names of modules -> diffusers' and transformers'.


def is_ldm_unet(paths: Iterable[str]) -> bool:
    """Whether the paths are ldm's, not diffusers'."""
    return any(path.startswith(("input_blocks.", "output_blocks.")) for path in paths)


def unet_shapes(shapes: Mapping[str, Any], spec: ImageSpec) -> dict[str, Any] | None:
    """Rename shapes to ldm's names, from these or diffusers'; None if there are modules that a
    U-Net of this spec does not have, as in video models."""
    table = keys.unet_table(spec.layout)
    table = table if is_ldm_unet(shapes) else keys.inverse(table)
    names = {path: keys.rename(path, table) for path in shapes}
    if None in names.values():
        return None
    return dict(shapes) if is_ldm_unet(shapes) else {names[k]: v for k, v in shapes.items()}


def unet_state(state: Mapping[str, Tensor], spec: ImageSpec) -> dict[str, Tensor]:
    return keys.unet_from_ldm(state, spec.layout) if is_ldm_unet(state) else dict(state)


def text_state(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The first ``layers`` layers of a text encoder, under transformers' names."""
    if any(path.startswith(("transformer.", "token_embedding.")) for path in state):
        return keys.text_from_open_clip(state, layers)
    return keys.first_text_layers(keys.clip_names(state), layers)


def with_average(
    state: Mapping[str, Tensor], specs: Mapping[str, ImageSpec]
) -> Mapping[str, Tensor]:
    """Add the running average (EMA) of the U-Net's weights under the usual names, if a file holds
    no others.

    Keys of an average are the usual ones without their dots.
    """
    average = part(state, EMA)
    if not average or unet_of(state):
        return state
    for spec in specs.values():
        with torch.device("meta"):
            own = keys.unet_to_ldm(build_unet(spec.unet).state_dict(), spec.layout)
        names = {f"diffusion_model{key}".replace(".", ""): key for key in own}
        if names.keys() <= average.keys():
            unet = {UNET + key: average[flat] for flat, key in names.items()}
            return unet | dict(state)
    return state
