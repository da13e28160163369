"""This pack's diffusion models as a ComfyUI MODEL.

ComfyUI's own U-Net takes on their layout and runs them: LoRA loaders, ControlNet, patches, casting
and offloading work as on any other model. Noise levels and the latents' scale are the family's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep
from torch import Tensor

from ....core.diffusion.schedules import NoiseRange, NoiseSchedule
from ....core.families.image_models import latent_colours, unet_to_ldm
from ....core.families.known_models import IMAGE_MODELS
from ....core.networks.conditions import VIDEO_IDS, NetworkSpec
from ....core.networks.diffusion_model import DiffusionModel
from ....core.networks.sites import UNetLayout, layout_of
from ....core.networks.video_unet import eject
from ..shared.misfits import NEEDS_OTHER_FRAMES
from ..shared.model_facts import trained_network
from .noise_levels import RangeSampling, ScheduleSampling

LOW_RES, NOISE_LEVEL = "videoldm_low_res", "videoldm_noise_level"
"""Conditions: frames [(b t), c, h, w] and, for upsamplers, their noise step [(b t)]."""


class ChannelMultiplier(float):
    """A level's width over the first level's. ComfyUI's U-Net multiplies by it to get channels,
    which must be integers: 64 * 2.5 is 160, not 160.0."""

    def __mul__(self, other: Any) -> int:
        return round(float(self) * other)

    __rmul__ = __mul__


class VideoLDMLatents(comfy.latent_formats.LatentFormat):
    """Scale and shift of a model's latents, and their colours for previews, computed lazily.

    autoencoder: the file that the colours are fitted to; None uses ComfyUI's for SD 1.5.
    """

    def __init__(self, model: DiffusionModel, autoencoder: Path | None):
        self.latent_channels = model.latent_channels
        self.spacial_downscale_ratio = model.factor
        self.scale = model.latents
        self.scale_factor, self.shift_factor = self.scale
        self.autoencoder = autoencoder

    @cached_property
    def _colours(self) -> tuple[list[list[float]], list[float] | None]:
        if self.autoencoder is None:
            known = comfy.latent_formats.SD15()
            return known.latent_rgb_factors, known.latent_rgb_factors_bias
        return latent_colours(self.autoencoder)

    @property
    def latent_rgb_factors(self) -> list[list[float]]:
        return self._colours[0]

    @property
    def latent_rgb_factors_bias(self) -> list[float] | None:
        return self._colours[1]

    def process_in(self, latent: Tensor) -> Tensor:
        return self.scale.scaled(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return self.scale.unscaled(latent)


def levels_of(model: Any) -> NoiseSchedule | NoiseRange:
    """The model's noise levels, or those that a node of ComfyUI's has set instead."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.ModelSamplingContinuousEDM):
        low, high = float(sampling.sigma_min), float(sampling.sigma_max)
        return NoiseRange(sigma_min=low, sigma_max=high)
    return schedule_of(model)


def schedule_of(model: Any) -> NoiseSchedule:
    """The model's discrete noise levels; ValueError for other kinds."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, ScheduleSampling):
        return sampling.schedule
    if not isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        raise ValueError(
            f"the model is of another kind (its noise levels are "
            f"{type(sampling).__bases__[0].__name__}): this node takes {IMAGE_MODELS}"
        )
    return NoiseSchedule(1 / (1 + sampling.sigmas.cpu().double() ** 2))


class EpsSampling(ScheduleSampling, comfy.model_sampling.EPS):
    pass


class VSampling(ScheduleSampling, comfy.model_sampling.V_PREDICTION):
    pass


PREDICTIONS = {
    "eps": (comfy.model_base.ModelType.EPS, EpsSampling),
    "v": (comfy.model_base.ModelType.V_PREDICTION, VSampling),
}


class VideoLDMConfig(comfy.supported_models_base.BASE):
    """The configuration that ComfyUI's model classes read; unet_config: arguments of its U-Net."""

    unet_extra_config: dict[str, Any] = {}

    def __init__(self, unet_config: dict[str, Any], latents: VideoLDMLatents):
        super().__init__(unet_config)
        self.latent_format = latents
        # Activations per latent position: 1.0 for a width of 320.
        self.memory_usage_factor = max(0.5, unet_config["model_channels"] / 320)

    def inpaint_model(self) -> bool:
        return False


class OwnNetwork:
    """A mixin for ComfyUI's models of our networks: the spec, and what it was trained for."""

    def set_facts(self, model: DiffusionModel) -> None:
        self.image_spec, self.trained = model.network.image_spec, trained_network(model)


class VideoLDMModel(OwnNetwork, comfy.model_base.BaseModel):
    """A diffusion model of this pack: for images, upsampling or interpolation."""

    def __init__(self, config: VideoLDMConfig, model: DiffusionModel):
        kind, sampling = PREDICTIONS[model.prediction]
        super().__init__(config, kind)
        self.model_sampling = sampling(model.schedule)
        self.set_facts(model)

    def concat_cond(self, **kwargs: Any) -> Tensor | None:
        """What is concatenated to the latents [(b t), c, h, w]: an upsampler's low-resolution
        frames, noised, or the key frames of an interpolation."""
        low_res = kwargs.get(LOW_RES)
        if self.image_spec.concatenated and low_res is None:
            raise ValueError(NEEDS_OTHER_FRAMES)
        return low_res

    def encode_adm(self, **kwargs: Any) -> Tensor | None:
        return kwargs.get(NOISE_LEVEL)


class StartImageModel(OwnNetwork, comfy.model_base.SVD_img2vid):
    """A model that animates a start image. ComfyUI's own class reads the conditions; the temporal
    layers are not in it, but injected by this pack."""

    def __init__(self, config: VideoLDMConfig, model: DiffusionModel):
        super().__init__(config)
        self.model_sampling = RangeSampling(model.levels)
        self.embedder = Timestep(config.unet_config["adm_in_channels"] // len(VIDEO_IDS))
        self.set_facts(model)


def image_spec(model: Any) -> NetworkSpec:
    """The spec of a MODEL's image network; for models that are not ours, only the inputs that our
    stages give, as ComfyUI handles the rest."""
    if isinstance(model.model, OwnNetwork):
        return model.model.image_spec
    config = model.model.model_config.unet_config
    if moves_start_image(model.model):
        return NetworkSpec(
            name="video U-Net",
            latent_channels=model.model.latent_format.latent_channels,
            concatenated=config["in_channels"] - config["out_channels"],
            image=config["context_dim"],
            ids=dict.fromkeys(VIDEO_IDS),
            made_for_video=True,
            width=config["model_channels"],
        )
    return NetworkSpec(
        name="image U-Net",
        latent_channels=model.model.latent_format.latent_channels,
        text=config.get("context_dim"),
        reference=True,
        width=config.get("model_channels", 320),
    )


def moves_start_image(model: Any) -> bool:
    """Whether a model is ComfyUI's own that animates a start image, and not a subclass that reads
    other ids."""
    own = comfy.model_base.SVD_img2vid
    return isinstance(model, own) and type(model).encode_adm is own.encode_adm


def build_patcher(
    model: DiffusionModel, autoencoder: Path | None, *, disable_dynamic: bool = False
) -> Any:
    """A ModelPatcher around the model's image network, without its temporal layers.

    autoencoder: see `VideoLDMLatents`. Raises ValueError for a U-Net that ComfyUI's cannot
    represent.
    """
    unet = eject(model.network)
    state = unet_to_ldm(unet.state_dict(), layout_of(unet.config))
    manager = comfy.model_management
    device, offload = manager.get_torch_device(), manager.unet_offload_device()
    config = VideoLDMConfig(_unet_config(unet.config), VideoLDMLatents(model, autoencoder))
    dtypes = config.supported_inference_dtypes
    size = comfy.utils.calculate_parameters(state)
    dtype = manager.unet_dtype(model_params=size, supported_dtypes=dtypes)
    config.set_inference_dtype(dtype, manager.unet_manual_cast(dtype, device, dtypes))
    moves = model.network.image_spec.begins_with_image
    built = (StartImageModel if moves else VideoLDMModel)(config, model)
    kind = "ModelPatcher" if disable_dynamic else "CoreModelPatcher"
    patcher = getattr(comfy.model_patcher, kind)(built, load_device=device, offload_device=offload)
    _check_keys(built.diffusion_model.state_dict(), state)
    state = {key: tensor.to(dtype) for key, tensor in state.items()}
    built.load_model_weights(state, "", assign=patcher.is_dynamic())
    return patcher


def _unet_config(config: Any) -> dict[str, Any]:
    """The arguments of ComfyUI's U-Net for a diffusers U-Net's config."""
    layout = layout_of(config)
    widths = layout.channels
    if config.norm_num_groups != 32 or config.norm_eps != 1e-5:
        raise ValueError(
            f"ComfyUI's U-Net has norms of 32 groups and an epsilon of 1e-05, this one "
            f"{config.norm_num_groups} and {config.norm_eps}"
        )
    only_text, reads_ids = config.only_cross_attention, config.class_embed_type == "projection"
    levels = [only_text] * layout.levels if isinstance(only_text, bool) else list(only_text)
    return {
        "image_size": 32,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "model_channels": widths[0],
        "channel_mult": tuple(ChannelMultiplier(width / widths[0]) for width in widths),
        "num_res_blocks": [layout.layers] * layout.levels,
        **_heads(config.attention_head_dim, layout),
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.use_linear_projection,
        "disable_self_attentions": levels if any(levels) else None,
        "disable_middle_self_attn": only_text is True,
        "context_dim": config.cross_attention_dim,
        "transformer_depth": [depth for depth in layout.depths for _ in range(layout.layers)],
        "transformer_depth_middle": layout.mid_depth,
        "transformer_depth_output": [
            depth for depth in layout.depths for _ in range(layout.layers + 1)
        ],
        "num_classes": "sequential" if reads_ids else config.num_class_embeds,
        "adm_in_channels": config.projection_class_embeddings_input_dim,
    }


def _heads(heads: int | Sequence[int], layout: UNetLayout) -> dict[str, int]:
    """ComfyUI's arguments for heads: of equal number, or of equal width, at all levels that have
    attention; else ValueError."""
    if isinstance(heads, int):
        return {"num_heads": heads, "num_head_channels": -1}
    used = [level for level in range(layout.levels) if layout.depths[level]]
    if layout.mid_depth and layout.levels - 1 not in used:
        used.append(layout.levels - 1)
    numbers = {heads[level] for level in used}
    if len(numbers) == 1:
        return {"num_heads": numbers.pop(), "num_head_channels": -1}
    sizes = {layout.channels[level] / heads[level] for level in used}
    if len(sizes) != 1:
        raise ValueError(f"ComfyUI's U-Net cannot have {tuple(heads)} heads at its levels")
    return {"num_heads": -1, "num_head_channels": int(sizes.pop())}


def unet_layout(unet_config: Mapping[str, Any]) -> UNetLayout:
    """The layout of ComfyUI's U-Net; ValueError if its levels differ in number of layers."""
    multipliers = unet_config["channel_mult"]
    layers = set(unet_config["num_res_blocks"])
    depths = unet_config["transformer_depth"]
    if len(layers) != 1:
        raise ValueError(
            f"levels with different numbers of layers {tuple(unet_config['num_res_blocks'])} are "
            "not known"
        )
    count = layers.pop()
    return UNetLayout(
        channels=tuple(int(unet_config["model_channels"] * factor) for factor in multipliers),
        layers=count,
        depths=tuple(depths[count * level] for level in range(len(multipliers))),
        mid_depth=max(unet_config["transformer_depth_middle"], 0),
    )


def _check_keys(built: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    odd = sorted(built.keys() ^ given.keys())
    if odd:
        raise ValueError(
            f"this ComfyUI's U-Net and the model's differ in {len(odd)} weights, the first "
            f"is {odd[0]}"
        )
