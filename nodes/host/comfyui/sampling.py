"""A MODEL of ComfyUI's as core's denoiser.

Each evaluation goes through ComfyUI's own guider, so that its memory management, its hooks, its
ControlNets and the patches of other nodes act in our samplers as they do in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import torch
from einops import rearrange
from torch import Tensor

from ....core.clip_condition import ClipCondition, DenoiserFor, conditions_of
from ....core.denoiser import Denoiser, Prediction
from ....core.guidance import rescaled
from ..conditioning import FRAMES, branches, hint_indices, text_for
from ..interface import Guidance, ModelFacts
from ..shared.layer_facts import layer_facts
from ..shared.misfits import IMAGE_MODELS, check_prompts_fit
from .embedded_model import LOW_RES, NOISE_LEVEL, EmbeddedModel, schedule_of
from .layers import FRAME_BATCH, FrameBatch, core_sets, sets_of


def facts_of(model: Any) -> ModelFacts:
    """What stages must know of a MODEL."""
    latents = model.model.latent_format
    if latents.latent_dimensions != 2:
        raise ValueError(
            f"the model is one of videos or audio already (its latents have "
            f"{latents.latent_dimensions} dimensions, not 2): this node takes {IMAGE_MODELS}"
        )
    sets = core_sets(sets_of(model))
    own = model.model if isinstance(model.model, EmbeddedModel) else None
    return ModelFacts(
        latent_channels=latents.latent_channels,
        factor=getattr(latents, "spacial_downscale_ratio", 8),
        schedule=schedule_of(model),
        device=model.load_device,
        channels=model.model.model_config.unet_config.get("model_channels", 320),
        precision=(model.model.manual_cast_dtype or model.model.get_dtype()).itemsize,
        shared_noise=sets.shared_noise,
        task=(own and own.own_task) or sets.task,
        low_res_schedule=own.low_res_schedule if own else None,
        max_noise_level=own.max_noise_level if own else 0,
        low_res_channels=own.low_res_channels if own else 0,
        **layer_facts(sets.specs),
    )


def denoiser_for(
    model: Any, positive: Sequence, negative: Sequence, guidance: Guidance,
    offer: Callable[[Any, Tensor], None] = lambda *_: None,
) -> DenoiserFor:  # fmt: skip
    """See `Host.denoiser_for`. `offer(model, denoised)` gets every result, for previews."""
    width = model.model.model_config.unet_config.get("context_dim")
    for which, conditioning in (("positive", positive), ("negative", negative)):
        check_prompts_fit(conditioning, which, width)

    def for_clip(condition: ClipCondition) -> Denoiser:
        return _ClipDenoiser(model, positive, negative, guidance, condition, offer)

    return for_clip


class _ClipDenoiser:
    """denoiser(x [b t c h w], sigma) of one clip."""

    def __init__(self, model: Any, positive: Sequence, negative: Sequence, guidance: Guidance,
                 condition: ClipCondition,
                 offer: Callable[[Any, Tensor], None]):  # fmt: skip
        self.offer = offer
        self.model, self.guidance, self.condition = model, guidance, condition
        self.positive, self.negative = (
            [(text_for(one, condition.frames), _options(one, condition.frames))
             for one in branches(prompt)]
            for prompt in (positive, negative)
        )  # fmt: skip

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        frames = x.shape[1]
        guider = VideoGuider(self.model, self.guidance)
        prompts = {"positive": [self._entry(*one, x) for one in self.positive]}
        if self.guidance.cfg != 1:
            prompts["negative"] = [self._entry(*one, x) for one in self.negative]
        guider.inner_set_conds(prompts)
        guider.hold(self._batch(frames))
        folded = rearrange(x, "b t c h w -> (b t) c h w").float()
        once, nothing = OneEvaluation(folded, _per_frame(sigma, x)), torch.zeros_like(folded)
        # What ComfyUI gives back are raw latents; the denoised ones are those the network saw.
        guider.sample(nothing, nothing, once, torch.zeros(2), disable_pbar=True, seed=0)
        self.offer(self.model, once.denoised)
        return rearrange(once.denoised, "(b t) c h w -> b t c h w", t=frames).to(x)

    def _batch(self, frames: int) -> FrameBatch:
        # What is concatenated, and its noise level, go ComfyUI's own way: in the prompts' entries.
        condition = replace(self.condition, concatenated=None, noise_level=None)
        ids = core_sets(sets_of(self.model)).ids
        return FrameBatch(frames=frames, conditions=conditions_of(condition, ids))

    def _entry(self, text: Tensor | None, options: dict[str, Any], x: Tensor) -> list:
        """A CONDITIONING's entry of one prompt, per frame where frames have their own."""
        videos, frames = x.shape[:2]
        if text is not None and text.ndim == 4:
            text = rearrange(text.expand(videos, -1, -1, -1), "b t n d -> (b t) n d")
        low_res, level = self.condition.concatenated, self.condition.noise_level
        if low_res is not None:
            options = options | {LOW_RES: rearrange(low_res, "b t c h w -> (b t) c h w").to(x)}
        if level is not None:
            options = options | {NOISE_LEVEL: torch.full((videos * frames,), level).to(x.device)}
        return [text, dict(options)]


def _options(conditioning: Sequence, frames: Sequence[int]) -> dict[str, Any]:
    """What else the prompt carries (ControlNets, areas, pooled text, ...), of its first entry."""
    given = {key: value for key, value in conditioning[0][1].items() if key != FRAMES}
    if given.get("control") is not None:
        given["control"] = _control_for(given["control"], frames)
    return given


def _control_for(control: Any, frames: Sequence[int]) -> Any:
    """A ControlNet, and those before it, with the hints of a clip's frames in the whole video."""
    control, before = control.copy(), control.previous_controlnet
    hints = control.cond_hint_original
    if hints is not None and len(hints) > 1:
        control.cond_hint_original = hints[hint_indices(len(hints), frames)]
    return (
        control if before is None else control.set_previous_controlnet(_control_for(before, frames))
    )


def _per_frame(sigma: Tensor, x: Tensor) -> Tensor:
    """Noise levels [(b t)] of [], [b] or [b t]."""
    videos, frames = x.shape[:2]
    if sigma.ndim == 1:
        sigma = sigma[:, None]
    return sigma.to(x).expand(videos, frames).reshape(-1)


class OneEvaluation(comfy.samplers.Sampler):
    """A sampler of one evaluation, whose answer is kept: core has samplers of its own.

    Its x is not what ComfyUI takes for the first noise: other nodes' wrappers shuffle that.
    """

    def __init__(self, x: Tensor, sigma: Tensor):
        self.x, self.sigma = x, sigma
        self.denoised: Tensor | None = None

    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any,
               noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
        self.denoised = model_wrap(self.x.to(noise), self.sigma.to(noise), **extra_args)
        return self.denoised


class VideoGuider(comfy.samplers.CFGGuider):
    """ComfyUI's guidance, with guidance rescale where it is asked for."""

    def __init__(self, model: Any, guidance: Guidance):
        super().__init__(model)
        self.rescale, self.frames = guidance.rescale, 1
        self.set_cfg(guidance.cfg)

    def hold(self, batch: FrameBatch) -> None:
        """Say which frames the batch holds."""
        self.frames = batch.frames
        self.model_options = comfy.model_patcher.create_model_options_clone(self.model_options)
        self.model_options["transformer_options"][FRAME_BATCH] = batch

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        if not self.rescale or self.cfg == 1:
            return super().predict_noise(x, timestep, model_options or {}, seed)
        both = [self.conds["positive"], self.conds["negative"]]
        cond, uncond = comfy.samplers.calc_cond_batch(
            self.inner_model, both, x, timestep, model_options or {}
        )
        # Contrast is a property of the video, not of each of its frames.
        x, timestep, cond, uncond = (
            one.unflatten(0, (-1, self.frames)) for one in (x, timestep, cond, uncond)
        )
        denoiser = rescaled(
            lambda *_: cond, lambda *_: uncond, self.cfg, self.rescale,
            prediction=prediction_of(self.inner_model),
        )  # fmt: skip
        return denoiser(x, timestep).flatten(0, 1)


def prediction_of(model: Any) -> Prediction:
    """What the network of ComfyUI's model predicts; ValueError for what core does not know."""
    sampling = model.model_sampling
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v"
    if isinstance(sampling, comfy.model_sampling.X0):
        return "x0"
    if type(sampling).calculate_denoised is comfy.model_sampling.EPS.calculate_denoised:
        return "eps"
    raise ValueError(
        f"guidance_rescale needs a model that predicts noise, velocity or the image, got "
        f"{type(sampling).__bases__[-1].__name__}"
    )
