"""How adapter files spell module paths and factor names.

A key consists of a prefix for the part of the model, a module path in diffusers' or latent
diffusion's ("ldm") names, dotted or flattened to underscores, and the name of a factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ...weights.checkpoints import CheckpointError, complain, listed

Kind = Literal["unet", "text", "first_text", "second_text"]
"""Parts of a model; the last two are for models with two text encoders."""
Part = Literal["unet", "text", "second_text", "other"]

# The longest prefix wins. A path without any is the text encoder's by its start, else the U-Net's.
PREFIXES: dict[str, Part] = {
    "lora_unet_": "unet",  # kohya
    "lycoris_": "unet",  # LyCORIS outside of kohya's trainer
    "unet.": "unet",  # diffusers
    "unet.base_model.model.": "unet",  # PEFT
    "base_model.model.": "unet",
    "base_model.model.unet.": "unet",
    "diffusion_model.": "unet",  # ComfyUI
    "model.diffusion_model.": "unet",
    "lora_te_": "text",
    "lora_te1_": "text",
    "text_encoder.": "text",
    "text_encoder.base_model.model.": "text",
    "text_encoders.clip_l.transformer.": "text",
    "text_encoders.clip_h.transformer.": "text",
    "clip_l.transformer.": "text",
    "clip_h.transformer.": "text",
    "cond_stage_model.transformer.": "text",
    "lora_te2_": "second_text",
    "text_encoder_2.": "second_text",
    "text_encoders.clip_g.transformer.": "second_text",
    "clip_g.transformer.": "second_text",
    "lora_te3_": "other",  # further encoders of larger models
    "text_encoder_3.": "other",
    "text_encoders.": "other",
    "clip_g.": "other",
    "t5xxl.": "other",
    "bundle_emb.": "other",  # bundled textual inversions
}
_TEXT_PATH = re.compile(r"(text_model[._])?(encoder[._]layers[._]|embeddings[._]|final_layer_norm)")

# Endings of keys -> names of factors.
ENDINGS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A": "down",
    ".lora_B": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_B.bias": "up_bias",
    ".lora_up.bias": "up_bias",
    **{f".{name}": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{f".{name}": name for name in ("hada_t1", "hada_t2")},
    **{f".{name}": name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b")},
    **{f".{name}": name for name in ("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
    ".bias.diff": "diff_b",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".w_norm": "diff",
    ".b_norm": "diff_b",
    ".set_weight": "set_weight",
    ".dora_scale": "magnitude",
    ".lora_magnitude_vector": "row_magnitude",
    ".lora_magnitude_vector.weight": "row_magnitude",
    ".reshape_weight": "reshape_weight",
    ".alpha": "alpha",
}
_ENDINGS = sorted(ENDINGS, key=len, reverse=True)
# PEFT inserts the adapter's name: lora_A.default.weight.
_ADAPTER_NAME = re.compile(r"\.(lora_(?:A|B|magnitude_vector))\.[^.]+\.(weight|bias)$")
# Kinds of adapters that are recognised, but not supported.
UNSUPPORTED = {
    "OFT": re.compile(r"\.(oft_blocks|oft_diag|oft_R(\..*)?|boft_R(\..*)?)$"),
    "GLoRA": re.compile(r"\.[ab][12]\.weight$"),
    "(IA)3": re.compile(r"\.(on_input|ia3_l(\..*)?)$"),
    "VeRA": re.compile(r"\.vera_lambda_[bd](\..*)?$"),
    "AdaLoRA": re.compile(r"\.lora_E(\..*)?$"),
}
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)$")
_TEXT_PROJECTION = re.compile(r"\.self_attn\.to_(q|k|v|out)$")
_TEXT_LAYER = re.compile(r"(?:^|[._])encoder[._]layers[._](\d+)[._]")
_TEXT_UNUSED = re.compile(r"(^|[._])text_projection$")  # of CLIP's contrastive loss


@dataclass
class Paths:
    """The factors of a file by part and path, in the file's spelling."""

    unet: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    text: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    second_text: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def of(self, kind: Kind) -> dict[str, dict[str, Tensor]]:
        return self.text if kind == "first_text" else getattr(self, kind)


def sort_keys(file: Mapping[str, Tensor], name: str) -> Paths:
    """Sort a file's tensors by part, path and factor.

    Raises CheckpointError for unsupported kinds of adapters and for unknown keys, of which it names
    the first five.
    """
    found, unknown = Paths(), []
    for key, tensor in file.items():
        prefix = max((p for p in PREFIXES if key.startswith(p)), key=len, default="")
        part = PREFIXES.get(prefix, "unet")
        if part == "other":
            continue
        path, factor = _split(key[len(prefix) :])
        if not factor:
            unknown.append(key)
            continue
        if part == "unet" and _TEXT_PATH.match(path):
            part = "text"
        getattr(found, part).setdefault(path, {})[factor] = tensor
    for kind, pattern in UNSUPPORTED.items():
        if any(pattern.search(key) for key in unknown):
            raise CheckpointError(
                f"{name} holds {kind} adapters, which are not supported; "
                "LoRA, LoHa, LoKr, DoRA and whole differences are"
            )
    if unknown and not (found.unet or found.text or found.second_text):
        raise CheckpointError(f"{name} is not a LoRA; its first keys are {listed(unknown)}")
    complain("has unknown", name, unknown)
    return found


def _split(key: str) -> tuple[str, str]:
    """A key without its prefix -> the module's path and the factor's name ("" for none)."""
    key = _ADAPTER_NAME.sub(r".\1.\2", key)
    for ending in _ENDINGS:
        if key.endswith(ending):
            path = _PROCESSOR.sub(r".\1", key.removesuffix(ending))
            path = _TEXT_PROJECTION.sub(r".self_attn.\1_proj", path)
            return (f"{path}.0" if path.endswith(".to_out") else path), ENDINGS[ending]
    return key, ""


# --------------------------------------------------------------------------------------------------
# Paths in a file -> module paths.


def module_names(
    state: Iterable[str], kind: Kind, table: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Every spelling, dotted or flattened, of the path of a weighted module -> its path in
    ``state``.

    table: other names of modules, such as ldm's -> their paths in ``state``; submodules have the
    same names in both.
    """
    paths = [k.removesuffix(".weight") for k in state if k.endswith(".weight")]
    names = {path: path for path in paths}
    if kind != "unet":
        # Whether CLIP's names start with text_model. depends on the version of transformers.
        bare = {path.removeprefix("text_model."): path for path in paths}
        names |= bare | {f"text_model.{short}": path for short, path in bare.items()}
    if table is not None:
        names |= {
            old + path[len(new) :]: path
            for old, new in table.items()
            for path in paths
            if path == new or path.startswith(f"{new}.")
        }
    return names | {name.replace(".", "_"): path for name, path in names.items()}


def is_left_out(path: str, kind: Kind, layers: int) -> bool:
    """Whether an unknown path may be ignored: a text encoder's layer above the first ``layers``, or
    its projection, which is in use only in the second of two encoders."""
    if kind == "unet":
        return False
    layer, unused = _TEXT_LAYER.search(path), kind != "second_text"
    return (unused and bool(_TEXT_UNUSED.search(path))) or (
        layer is not None and int(layer[1]) >= layers
    )


def text_layers(state: Iterable[str]) -> int:
    """The number of layers of a text encoder."""
    found = (_TEXT_LAYER.search(key) for key in state)
    return 1 + max((int(layer[1]) for layer in found if layer), default=-1)
