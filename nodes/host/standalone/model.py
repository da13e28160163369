"""The MODEL of the standalone host, and how its conditions become a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.clip_condition import ClipCondition, DenoiserFor
from ....core.controlnet import check_fits
from ....core.denoiser import Denoiser
from ....core.diffusion_model import DiffusionModel
from ....core.guidance import Branch, averaged, guided, rescaled
from ....core.sites import layout_of
from ....core.temporal_layers import Strength, TemporalLayers
from ....core.upsampling import UpsamplerCondition
from ..conditioning import branches, pooled_of, text_for
from ..interface import Guidance, ModelFacts
from ..shared.layer_facts import layer_facts
from ..shared.misfits import check_layers_fit, check_prompts_fit
from .control import Hint, hints_of, level_of, with_hints_of

PIXEL_CHANNELS = 3
"""Of the small frames that an upsampler is told; interpolators are told latents."""


@dataclass(frozen=True)
class StandaloneModel:
    """A diffusion model on a wire. It is never changed: every edit gives another one.

    `core` is the model; `family` is the name of what it was loaded as.
    """

    core: DiffusionModel
    family: str = "embedded"

    def clone(self) -> StandaloneModel:
        return replace(self)

    @property
    def facts(self) -> ModelFacts:
        sets = [one.spec for one in self.core.network.sets]
        return ModelFacts(
            latent_channels=self.core.latent_channels,
            factor=self.core.factor,
            schedule=self.core.schedule,
            device=self.core.device,
            channels=self.core.network.config.block_out_channels[0],
            precision=self.core.dtype.itemsize,
            shared_noise=self.core.shared_noise,
            is_upsampler=self.core.low_res_channels == PIXEL_CHANNELS,
            low_res_schedule=self.core.noise_schedule_for_low_res,
            max_noise_level=self.core.max_noise_level,
            low_res_channels=self.core.low_res_channels,
            **layer_facts(sets),
        )

    def injected(self, layers: TemporalLayers, strength: Strength) -> StandaloneModel:
        check_layers_fit(layers.spec.layout, layout_of(self.core.network.image_unet.config))
        layers = layers.to(device=self.core.device, dtype=self.core.dtype)
        return replace(self, core=self.core.with_layers(layers, strength))

    def ejected(self) -> StandaloneModel:
        return replace(self, core=self.core.ejected())


def denoiser_for(
    model: StandaloneModel, positive: Sequence, negative: Sequence, guidance: Guidance
) -> DenoiserFor:
    """See `Host.denoiser_for`. An upsampler's condition also brings its low-resolution frames."""
    core = model.core
    width = core.network.config.cross_attention_dim
    check_prompts_fit(positive, "positive", width)
    check_prompts_fit(negative, "negative", width)
    negative = with_hints_of(positive, negative)
    for hint in (one for entry in (*positive, *negative) for one in hints_of([entry], [0])):
        check_fits(hint.net.network, core.network.config)

    def for_clip(condition: ClipCondition | UpsamplerCondition) -> Denoiser:
        cond = _bound(core, positive, condition)
        if guidance.cfg == 1:
            return cond
        uncond = _bound(core, negative, condition)
        if guidance.rescale:
            return rescaled(
                cond, uncond, guidance.cfg, guidance.rescale, prediction=core.prediction
            )
        return guided(cond, uncond, guidance.cfg)

    return for_clip


def _bound(
    core: DiffusionModel, conditioning: Sequence, condition: ClipCondition | UpsamplerCondition
) -> Denoiser:
    """The mean over the prompts that are combined, each in its range of noise levels."""
    parts = []
    for branch in branches(conditioning):
        options = branch[0][1]
        first = level_of(core.schedule, options.get("start_percent", 0.0))
        last = level_of(core.schedule, options.get("end_percent", 1.0))
        parts.append(Branch(_branch_denoiser(core, branch, condition), first, last))
    return averaged(parts)


def _branch_denoiser(
    core: DiffusionModel, conditioning: Sequence, condition: ClipCondition | UpsamplerCondition
) -> Denoiser:
    text = text_for(conditioning, condition.frames)
    pooled = pooled_of(conditioning)
    hints = hints_of(conditioning, condition.frames)
    told: dict[str, Any] = {"rate": _rate(core, getattr(condition, "rate", None))}
    for name in ("context", "times", "low_res", "noise_level"):
        if getattr(condition, name, None) is not None:
            told[name] = getattr(condition, name)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        given = None if text is None else text.expand(len(x), *text.shape[1:])
        added = _added(core, pooled, x)
        model = _controlled(core, hints, x, sigma)
        return model.denoiser(given, **told, added=added)(x, sigma)

    return denoise


def _controlled(
    core: DiffusionModel, hints: Sequence[Hint], x: Tensor, sigma: Tensor
) -> DiffusionModel:
    """The model with the ControlNets that act at this noise level."""
    level = float(sigma.flatten()[0])
    acting = [one.control(x) for one in hints if one.acts(core.schedule, level)]
    return core.with_controls(acting) if acting else core


def _rate(core: DiffusionModel, rate: int | None) -> int | None:
    """Layers that know frame rates were always told one in training; 0 is the usual rate."""
    known = max((one.spec.rates for one in core.network.sets), default=0)
    if not known:
        return None
    rate = rate or 0
    if not 0 <= rate < known:
        raise ValueError(f"the frame-rate class {rate} must lie in 0 .. {known - 1}")
    return rate


def _added(core: DiffusionModel, pooled: Tensor | None, x: Tensor) -> dict[str, Tensor] | None:
    """SDXL's extra conditions: the pooled text, and sizes that say "not cropped"."""
    if core.network.config.addition_embed_type != "text_time":
        return None
    if pooled is None:
        raise ValueError("the model needs pooled text, but the prompts carry 0 pooled vectors")
    height, width = (core.factor * side for side in x.shape[-2:])
    ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
    return {"text_embeds": pooled.expand(len(x), -1), "time_ids": ids.expand(len(x), -1)}
