"""ComfyUI's KSampler with core's samplers: the same names, noise and schedules.

Noise is drawn as in ComfyUI, from one generator for the whole batch, and schedulers give the same
noise levels, so that equal weights give ComfyUI's results. The exception are samplers with "sde" in
their name, for which ComfyUI draws noise from a Brownian tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ....core.diffusion.denoiser import Denoiser
    from ....core.diffusion.schedules import NoiseRange, NoiseSchedule
    from ....core.tasks.segment import DenoiserFor
    from .host import StandaloneHost
    from .model import StandaloneModel

# ComfyUI's name -> the function of core.diffusion.samplers, and its options.
SAMPLER_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("sample_euler", {}),
    "euler_ancestral": ("sample_euler_ancestral", {}),
    "heun": ("sample_heun", {}),
    "dpmpp_2m": ("sample_dpmpp_2m", {}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {}),
    "ddpm": ("sample_ddpm", {}),
    "uni_pc_bh2": ("sample_unipc", {"order": 3, "variant": "bh2"}),
    "ddim": ("sample_euler", {}),
    "uni_pc": ("sample_unipc", {"order": 3, "variant": "bh1"}),
    "lcm": ("sample_lcm", {}),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
    # They only differ in the device on which ComfyUI draws noise.
    "dpmpp_2m_sde_gpu": ("sample_dpmpp_2m_sde", {}),
    "dpmpp_3m_sde_gpu": ("sample_dpmpp_3m_sde", {}),
}
SCHEDULER_NAMES = {
    "simple": None,
    "sgm_uniform": "uniform",
    "karras": "karras",
    "exponential": "exponential",
    "ddim_uniform": "strided",
    "normal": "normal",
}
UNI_PC = ("uni_pc", "uni_pc_bh2")
UNI_PC_END = 2**-10
"""ComfyUI's UniPC ends at this level instead of 0, and skips the last level before it. 0.001 is
meant, but computing sqrt(1 - alpha^2) in float32 gives this."""


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """The settings of KSampler and KSamplerAdvanced.

    Of all `steps`, first .. last - 1 are done. add_noise: False for latents that are noised
    already. keep_noise: a run that ends before the last step returns noisy latents.
    """

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0
    first: int = 0
    last: int = 10_000
    add_noise: bool = True
    keep_noise: bool = True


def empty_latent(host: StandaloneHost, width: int, height: int, frames: int) -> dict[str, Any]:
    """Zeros [frames, 4, height / 8, width / 8]; their factor is noted for models with another."""
    import torch

    shape = frames, 4, height // 8, width // 8
    host.require_memory(4 * math.prod(shape), f"{frames} empty latents of {width}x{height}")
    samples = torch.zeros(shape, device=host.policy.device)
    return {"samples": samples, "downscale_ratio_spacial": 8}


# --------------------------------------------------------------------------------------------------
# Noise levels.


def sigmas_for(schedule: NoiseSchedule | NoiseRange, name: str, steps: int) -> Tensor:
    """The noise levels [steps + 1] of ComfyUI's scheduler of this name."""
    import torch

    from ....core.diffusion.schedules import NoiseRange, get_sigmas, get_sigmas_at

    if isinstance(schedule, NoiseRange):
        return _continuous_sigmas(schedule, name, steps)
    if name != "simple":
        return get_sigmas(SCHEDULER_NAMES[name], schedule, steps)
    stride = schedule.steps / steps
    steps_down = [schedule.steps - 1 - int(k * stride) for k in range(steps)]
    return get_sigmas_at(schedule, torch.tensor(steps_down))


def _continuous_sigmas(levels: NoiseRange, name: str, steps: int) -> Tensor:
    """ComfyUI's schedules for continuous levels, evenly spaced in log sigma."""
    import torch

    from ....core.diffusion.schedules import get_sigmas, get_sigmas_exponential

    if name == "normal":
        name = "exponential"
    if name == "sgm_uniform":
        longer = get_sigmas_exponential(steps + 1, levels.sigma_min, levels.sigma_max)
        return torch.cat([longer[:-2], longer[-1:]])
    if name != "simple":
        return get_sigmas(SCHEDULER_NAMES[name], levels, steps)
    table = get_sigmas_exponential(1000, levels.sigma_min, levels.sigma_max)
    picked = table[[int(k * 1000 / steps) for k in range(steps)]]
    return torch.cat([picked, picked.new_zeros(1)])


def run_sigmas(schedule: NoiseSchedule | NoiseRange, settings: SamplerSettings) -> Tensor:
    """The noise levels of a run; fewer than two if it has no steps."""
    import torch

    total = settings.steps if settings.denoise > 0.9999 else int(settings.steps / settings.denoise)
    if settings.sampler_name in UNI_PC:
        sigmas = sigmas_for(schedule, settings.scheduler, total + 1)
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    else:
        sigmas = sigmas_for(schedule, settings.scheduler, total)
    if settings.denoise <= 0.9999:
        sigmas = sigmas[-(settings.steps + 1) :]
    if settings.last < len(sigmas) - 1:
        sigmas = sigmas[: settings.last + 1]
        if not settings.keep_noise:
            sigmas = torch.cat([sigmas[:-1], sigmas.new_zeros(1)])
    return sigmas[settings.first :]


# --------------------------------------------------------------------------------------------------
# Sampling.


def ksample(
    host: StandaloneHost, model: StandaloneModel, positive: list, negative: list,
    latent: dict[str, Any], settings: SamplerSettings,
) -> dict[str, Any]:  # fmt: skip
    """Denoise a LATENT, whose batch is one video for temporal layers in the model."""
    from ..interface import Guidance
    from .control import repeated_hints

    kept = {name: one for name, one in latent.items() if not name.startswith("downscale_ratio")}
    x0 = _starting_point(host, model, latent)
    sigmas = run_sigmas(model.core.levels, settings) if settings.denoise > 0 else ()
    if len(sigmas) < 2:
        return kept | host.from_core(model, x0)
    _check_setup(host, model, x0, settings, len(sigmas) - 1)
    frames = x0.shape[1]
    prompts = (repeated_hints(one, frames) for one in (positive, negative))
    denoiser_for = host.denoiser_for(model, *prompts, Guidance(cfg=settings.cfg))
    if settings.sampler_name in UNI_PC and sigmas[-1] == 0:
        sigmas[-1] = UNI_PC_END
    x = _with_free_init(model, _sampler(settings.sampler_name), x0, settings)(
        _denoiser(model, denoiser_for, frames, sigmas),
        _noised(model, x0, sigmas[0], settings),
        sigmas,
        noise=_fresh_noise(settings.seed, x0),
        callback=lambda step: host.progress(step.index + 1, step.total),
    )
    return kept | host.from_core(model, x)


def _check_setup(
    host: StandaloneHost, model: StandaloneModel, x0: Tensor, settings: SamplerSettings, steps: int
) -> None:
    """Warn about doubtful settings; ValueError for what does not fit the model or into memory."""
    from ...stages.running import require_room
    from ..shared.layer_facts import warnings_of_core_sampler
    from ..shared.misfits import NEEDS_OTHER_FRAMES, REFERENCE_WITHOUT_WINDOWS
    from ..shared.setup_warnings import CoreRun

    frames, height, width = x0.shape[1], *(model.core.factor * side for side in x0.shape[-2:])
    if model.facts.low_res_channels:
        raise ValueError(NEEDS_OTHER_FRAMES)
    together = frames if model.windows is None else min(frames, model.windows.length)
    moves = model.facts.begins_with_image
    sampler = SAMPLER_NAMES[settings.sampler_name][0].removeprefix("sample_")
    run = CoreRun(sampler=sampler, steps=steps, cfg=settings.cfg)
    sets = model.core.sets
    for sentence in warnings_of_core_sampler(sets, together, run, begins_with_image=moves):
        host.warn(sentence)
    if model.reference is not None and model.windows is None:
        host.warn(REFERENCE_WITHOUT_WINDOWS)
    require_room(host, model.facts, together, (width, height), settings.cfg)


def _with_free_init(
    model: StandaloneModel, sampler: Callable[..., Tensor], x0: Tensor, settings: SamplerSettings
) -> Callable[..., Tensor]:
    """The sampler with FreeInit, if the model has it; new noise is drawn as in ComfyUI, from the
    next seeds."""
    from ....core.diffusion.free_init import FreshNoise, free_init
    from ..shared.misfits import NEEDS_PURE_NOISE

    if model.free_init is None:
        return sampler
    if bool(x0.any()) or not settings.add_noise:
        raise ValueError(NEEDS_PURE_NOISE)
    fresh = FreshNoise(
        noise=lambda k, x: _initial_noise(settings.seed + k, x),
        steps=lambda k: _fresh_noise(settings.seed + k, x0),
    )
    return free_init(sampler, model.free_init, fresh)


def _initial_noise(seed: int, x: Tensor) -> Tensor:
    """Noise like x [1 t c h w], drawn on the CPU from one generator for all frames."""
    import torch

    generator = torch.Generator().manual_seed(seed % 2**64)
    return torch.randn(x.shape[1:], generator=generator)[None].to(x)


def _sampler(name: str) -> Callable[..., Tensor]:
    from functools import partial

    from ....core.diffusion import samplers as sampling

    function, options = SAMPLER_NAMES[name]
    return partial(getattr(sampling, function), **options)


def _denoiser(
    model: StandaloneModel, denoiser_for: DenoiserFor, frames: int, sigmas: Tensor
) -> Denoiser:
    """The denoiser of all frames together, or in the model's context windows."""
    from ....core.tasks.segment import SegmentCondition

    if model.windows is not None:
        return model.windows.denoiser(denoiser_for, frames, sigmas, model.reference)
    return denoiser_for(SegmentCondition(frames=range(frames)))


def _noised(model: StandaloneModel, x0: Tensor, first: Tensor, settings: SamplerSettings) -> Tensor:
    """x0 noised to the first level; at the model's highest one as ComfyUI does, by `to_ve`."""
    from ....core.diffusion.denoiser import to_ve

    if not settings.add_noise:
        return x0
    noise = _initial_noise(settings.seed, x0)
    if model.windows is not None:
        noise = model.windows.shuffled(noise, settings.seed)
    whole = float(first) >= model.core.levels.sigma_max * (1 - 1e-5)
    return x0 + (to_ve(noise, first) if whole else first.to(noise) * noise)


def _fresh_noise(seed: int, x: Tensor) -> Callable[[int, Tensor], Tensor]:
    """The noise of stochastic samplers, one tensor per step, drawn on the device of x."""
    import torch

    # On the CPU the initial noise came from this seed's generator, so ComfyUI uses the next seed.
    seed = (seed + (x.device.type == "cpu")) % 2**64
    generator = torch.Generator(x.device).manual_seed(seed)
    drawn = 0

    def noise(step: int, x: Tensor) -> Tensor:
        nonlocal drawn
        # Steps between equal levels request no noise here, but draw some in ComfyUI.
        while drawn <= step:
            fresh = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            drawn += 1
        return fresh

    return noise


def _starting_point(host: StandaloneHost, model: StandaloneModel, latent: dict[str, Any]) -> Tensor:
    """The initial latents [1, t, c, h, w]; empty ones get the model's channels and factor."""
    import torch

    raw = host.raw(latent)
    if bool(raw.any()):
        return host.to_core(model, latent)
    ratio = latent.get("downscale_ratio_spacial", model.core.factor)
    height, width = (side * ratio // model.core.factor for side in raw.shape[-2:])
    shape = *raw.shape[:2], model.core.latent_channels, height, width
    return torch.zeros(shape, device=raw.device)
