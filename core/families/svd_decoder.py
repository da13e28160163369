"""Stable Video Diffusion's temporal decoder: weight names and loading.

It is the decoder of Stable Diffusion's autoencoder with temporal layers, and decodes the latents of
any image model with this autoencoder. The original's files store it apart from the encoder of start
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..networks.layers.residual import TemporalResBlockSpec, channels_last
from ..networks.layers.specs import LayerSpec
from ..networks.layers.video_layers import VideoBlockSpec
from ..networks.temporal_decoder import ATTENTION, OUT, OutputConvolutionSpec, VideoDecoder
from ..networks.temporal_layers import key
from ..weights.checkpoints import CheckpointError, complain, load_into
from . import stable_diffusion_autoencoders as autoencoders
from .stable_diffusion_keys import autoencoder_to_ldm, inverse, rename
from .svd_keys import BLOCK, CONVOLUTION, Names
from .unet_layouts import Shapes

DecoderBlend = Literal["learned", "fixed"]

LATENT_SCALE = 0.18215
MIX_FACTOR = "blend.mix_factor"
MARKERS = {"ldm": "decoder.mid.block_1.mix_factor",
           "diffusers": "decoder.mid_block.resnets.0.time_mixer.mix_factor"}  # fmt: skip
"""A weight that no image decoder has, in both namings."""


@dataclass(frozen=True)
class Sites:
    """Foreign path of the spatial module at every site but the last."""

    levels: int
    layers: int  # residual blocks per level of the encoder, of which the decoder has one more

    def paths(self, names: Names) -> dict[str, str]:
        ldm = names == "ldm"
        found = {f"mid.res.{j}": f"decoder.mid.block_{j + 1}" if ldm
                 else f"decoder.mid_block.resnets.{j}" for j in range(2)}  # fmt: skip
        for i in range(self.levels):
            for j in range(self.layers + 1):
                found[f"up.{i}.res.{j}"] = (
                    f"decoder.up.{self.levels - 1 - i}.block.{j}" if ldm
                    else f"decoder.up_blocks.{i}.resnets.{j}"
                )  # fmt: skip
        return found


def names_in(shapes: Shapes) -> Names | None:
    """Which naming the weights of a temporal decoder have; None for other autoencoders."""
    return next((names for names, name in MARKERS.items() if name in shapes), None)


def temporal_table(sites: Sites, names: Names) -> dict[str, str]:
    """Foreign module path -> the path in :class:`..networks.temporal_decoder.VideoDecoder`."""
    ldm, found = names == "ldm", {}
    for site, path in sites.paths(names).items():
        inner = {a: b for a, b in CONVOLUTION[names].items() if b not in ("embed", "blend")}
        inner |= {"mix_factor": MIX_FACTOR} if ldm else {"time_mixer": "blend"}
        found |= {f"{path}.{a}": f"layers.{key(site)}.{b}" for a, b in inner.items()}
    if ldm:
        # The original's class has this attention; published files and diffusers do not.
        path, own = "decoder.mid.attn_1", f"layers.{key(ATTENTION)}"
        found |= {f"{path}.time_mix_block.{a}": f"{own}.block.{b}" for a, b in BLOCK.items()}
        found |= {f"{path}.video_time_embed.{i}": f"{own}.embed_times.{i}" for i in (0, 2)}
        found[f"{path}.mix_factor"] = f"{own}.{MIX_FACTOR}"
    found["decoder.conv_out.time_mix_conv" if ldm else "decoder.time_conv_out"] = (
        f"layers.{key(OUT)}.conv"
    )
    return found


def split(
    state: Mapping[str, Tensor], sites: Sites, names: Names
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights of the image autoencoder in the same naming, of the temporal layers in ours)."""
    known = temporal_table(sites, names)
    renamed = {old: rename(old, known) for old in state}
    image = {_image_name(old): state[old] for old, new in renamed.items() if new is None}
    return image, {new: state[old] for old, new in renamed.items() if new is not None}


def _image_name(path: str) -> str:
    return path.replace(".spatial_res_block.", ".")


def with_inverted_blends(layers: Mapping[str, Tensor], blend: DecoderBlend) -> dict[str, Tensor]:
    """Switch the convolutions' blend factors between the temporal share, which the original's
    decoder stores, and the spatial one: sigmoid(-x) = 1 - sigmoid(x)."""
    ours = f"layers.{key(ATTENTION)}.{MIX_FACTOR}"
    return {
        k: (-v if blend == "learned" else 1 - v) if k.endswith(MIX_FACTOR) and k != ours else v
        for k, v in layers.items()
    }


def layer_specs(
    temporal: Mapping[str, Tensor], groups: int, blend: DecoderBlend
) -> dict[str, LayerSpec]:
    """The layers, by site, of weights under our names."""
    sites = [k[len("layers.") : -len(".conv1.weight")] for k in temporal
             if k.endswith(".conv1.weight")]  # fmt: skip
    found: dict[str, LayerSpec] = {}
    for name in sites:
        kernel, side = temporal[f"layers.{name}.conv1.weight"].shape[2:4]
        found[name.replace("_", ".")] = TemporalResBlockSpec(
            kernel=kernel, spatial=side, norm_groups=groups, pooled_norm=True,
            fixed_blend=blend == "fixed",
        )  # fmt: skip
    if f"layers.{key(ATTENTION)}.block.norm1.weight" in temporal:
        found[ATTENTION] = VideoBlockSpec(heads=1, fixed_blend=blend == "fixed")
    if f"layers.{OUT}.conv.weight" in temporal:
        kernel, side = temporal[f"layers.{OUT}.conv.weight"].shape[2:4]
        found[OUT] = OutputConvolutionSpec(kernel=kernel, spatial=side)
    return found


def from_state(
    state: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype = torch.float32,
    blend: DecoderBlend = "learned",
) -> VideoDecoder:
    """Build the decoder from an autoencoder's weights without a prefix, in ldm's or diffusers'
    naming, with the encoder if it is there.

    blend: how its layers are blended, which weights do not reveal. Raises CheckpointError for
    missing or unknown weights.
    """
    names = names_in({k: v.shape for k, v in state.items()})
    if names is None:
        raise CheckpointError(f"{name} holds no temporal decoder")
    sites = Sites(*autoencoders.size_of(state))
    image, temporal = split(state, sites, names)
    autoencoder = image_autoencoder(image, name, dtype)
    specs = layer_specs(temporal, autoencoder.config.norm_num_groups, blend)
    missing = [site for site in (*sites.paths(names), OUT) if site not in specs]
    complain("lacks temporal layers at", name, missing)
    with torch.device("meta"):
        decoder = VideoDecoder(autoencoder, specs)
    layers = with_inverted_blends(temporal, blend)
    image_state = {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()}
    return channels_last(load_into(decoder, image_state | layers, f"the decoder of {name}", dtype))


def image_autoencoder(
    state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
) -> AutoencoderKL:
    """Build the image autoencoder; the latent scale does not depend on its number of levels."""
    autoencoder = autoencoders.from_state(state, name, dtype)
    autoencoder.register_to_config(scaling_factor=LATENT_SCALE)
    return autoencoder


def to_foreign(decoder: VideoDecoder, names: Names, blend: DecoderBlend = "learned") -> dict[
    str, Tensor
]:  # fmt: skip
    """Inverse of :func:`from_state`."""
    config = decoder.autoencoder.config
    sites = Sites(len(config.block_out_channels), config.layers_per_block)
    layers = {f"layers.{k}": v for k, v in decoder.layers.state_dict().items()}
    known = inverse(temporal_table(sites, names))
    found = {rename(k, known): v for k, v in with_inverted_blends(layers, blend).items()}
    image = decoder.autoencoder.state_dict()
    if names == "ldm":
        return found | autoencoder_to_ldm(image, sites.levels, sites.layers)
    blocks = tuple(f"{path}." for path in sites.paths(names).values())
    for old, value in image.items():
        block = next((one for one in blocks if old.startswith(one)), None)
        new = old if block is None else f"{block}spatial_res_block.{old[len(block) :]}"
        found[new] = value
    return found
