"""Networks made for video as a whole as a ComfyUI MODEL with 5-D latents.

ComfyUI's own samplers call them with [b, c, t, h, w] and a prompt; ours fold the frames into the
batch, as for image models, and pass other conditions in the options (see `layers.FrameBatch`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.utils
from einops import rearrange
from torch import Tensor

from ....core.networks.conditions import Conditions
from ....core.networks.diffusion_model import DiffusionModel
from ....core.networks.factorised_unet import FactorisedConfig, FactorisedUNet
from ..shared.image_tokens import IMAGE_TOKENS, RATE, beside, rate_ids
from ..shared.model_facts import trained_network
from .layers import CALC_COND_BATCH, FRAME_BATCH, KEY, FrameBatch, fold_frames
from .model import PREDICTIONS, VideoLDMConfig, VideoLDMLatents


class VideoLatents(VideoLDMLatents):
    """Latents with a time axis; their preview colours are ComfyUI's for SD 1.5."""

    latent_dimensions = 3

    def __init__(self, model: DiffusionModel):
        super().__init__(model, None)
        self.temporal_downscale_ratio = model.temporal_factor


class HostedUNet(FactorisedUNet):
    """The network with ComfyUI's signature; x is [(b t), c, h, w] or [b, c, t, h, w]."""

    def __init__(self, network: FactorisedConfig, dtype: Any = None, device: Any = None,
                 operations: Any = None, **more: Any):  # fmt: skip
        super().__init__(network, ops=operations)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None,
                transformer_options: Any = None, **extra: Any) -> Tensor:  # fmt: skip
        batch = (transformer_options or {}).get(FRAME_BATCH)
        folded = x.ndim == 4
        if folded:
            frames = 1 if batch is None else batch.frames
            x = rearrange(x, "(b t) c h w -> b t c h w", t=frames)
            timesteps = rearrange(timesteps, "(b t) -> b t", t=frames)
        else:
            x = rearrange(x, "b c t h w -> b t c h w")
        given = self._given(len(x), batch, context, extra)
        out = super().forward(x, _per_video(timesteps), given)
        pattern = "b t c h w -> (b t) c h w" if folded else "b t c h w -> b c t h w"
        return rearrange(out, pattern)

    def _given(self, videos: int, batch: FrameBatch | None, text: Tensor | None, extra: Any
               ) -> Conditions:  # fmt: skip
        given = Conditions() if batch is None else batch.conditions
        context = given.context
        if context is not None:
            context = context.repeated(videos // len(context.latents))
        prompt = None if self.spec.text is None else _prompt(text, videos)
        image = None if self.spec.image is None else _each(extra.get(IMAGE_TOKENS), videos)
        return replace(
            given,
            context=context,
            text=prompt,
            image=beside(image, prompt),
            ids=dict(given.ids) | rate_ids(self.spec, _each(extra.get(RATE), videos)),
            frames=None,
        )


def _per_video(timesteps: Tensor) -> Tensor:
    """[b] if all frames of a video are at the same step, else [b t] as it is."""
    if timesteps.ndim == 2 and bool((timesteps == timesteps[:, :1]).all()):
        return timesteps[:, 0]
    return timesteps


def _prompt(text: Tensor | None, videos: int) -> Tensor | None:
    """Tokens [b n d] from those of a batch of frames, or [b t n d] if the frames of a video have
    different prompts."""
    if text is None or len(text) <= videos:
        return text
    rows = rearrange(text, "(b t) n d -> b t n d", b=videos)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else rows


def _each(value: Tensor | None, videos: int) -> Tensor | None:
    """One value per video, from one per frame."""
    if value is None:
        return None
    return value[:: max(1, len(value) // videos)] if len(value) > videos else value


class VideoNetworkModel(comfy.model_base.BaseModel):
    """A network made for video as one of ComfyUI's model classes."""

    def __init__(self, config: VideoLDMConfig, model: DiffusionModel):
        kind, sampling = PREDICTIONS[model.prediction]
        super().__init__(config, kind, unet_model=HostedUNet)
        self.model_sampling = sampling(model.schedule)
        self.image_spec, self.trained = model.network.spec, trained_network(model)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        found = super().extra_conds(**kwargs)
        for name in (IMAGE_TOKENS, RATE):
            if kwargs.get(name) is not None:
                found[name] = comfy.conds.CONDRegular(kwargs[name])
        return found


def build_video_patcher(model: DiffusionModel, *, disable_dynamic: bool = False) -> Any:
    """A ModelPatcher around a network made for video."""
    state = model.network.state_dict()
    manager = comfy.model_management
    device, offload = manager.get_torch_device(), manager.unet_offload_device()
    settings = {"network": model.network.config, "model_channels": model.network.spec.width}
    config = VideoLDMConfig(settings, VideoLatents(model))
    dtypes = config.supported_inference_dtypes
    dtype = manager.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state), supported_dtypes=dtypes
    )
    config.set_inference_dtype(dtype, manager.unet_manual_cast(dtype, device, dtypes))
    built = VideoNetworkModel(config, model)
    kind = "ModelPatcher" if disable_dynamic else "CoreModelPatcher"
    patcher = getattr(comfy.model_patcher, kind)(built, load_device=device, offload_device=offload)
    state = {key: tensor.to(dtype) for key, tensor in state.items()}
    built.load_model_weights(state, "", assign=patcher.is_dynamic())
    patcher.add_wrapper_with_key(CALC_COND_BATCH, KEY, fold_frames)
    return patcher
