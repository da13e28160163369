"""ComfyUI's KSampler in core's terms: names, noise and schedules as they are there.

The first noise is one draw for the whole batch on the CPU and the names below mean the same lists
of noise levels, so that samplers without fresh noise give ComfyUI's numbers for the same weights.
Those with fresh noise draw it here per frame, and differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ....core.schedules import NoiseSchedule
    from .host import StandaloneHost
    from .model import StandaloneModel

# ComfyUI's name -> core's.
SAMPLER_NAMES = {
    "euler": "euler",
    "euler_ancestral": "euler_ancestral",
    "heun": "heun",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde",
    "ddpm": "ddpm",
    "uni_pc_bh2": "unipc",
    "ddim": "ddim",
}
SCHEDULER_NAMES = {
    "simple": None,
    "sgm_uniform": "uniform",
    "karras": "karras",
    "exponential": "exponential",
    "ddim_uniform": "strided",
    "normal": "normal",
}


def empty_latent(device: torch.device, width: int, height: int, frames: int) -> dict[str, Any]:
    """Zeros [frames, 4, height / 8, width / 8]; a model of another factor reads the true size."""
    import torch

    samples = torch.zeros(frames, 4, height // 8, width // 8, device=device)
    return {"samples": samples, "downscale_ratio_spacial": 8}


def sigmas_for(schedule: NoiseSchedule, name: str, steps: int) -> Tensor:
    """The noise levels [steps + 1] that ComfyUI's scheduler of this name gives."""
    import torch

    from ....core.schedules import get_sigmas, get_sigmas_at

    if name != "simple":
        return get_sigmas(SCHEDULER_NAMES[name], schedule, steps)
    stride = schedule.steps / steps
    steps_down = [schedule.steps - 1 - int(k * stride) for k in range(steps)]
    return get_sigmas_at(schedule, torch.tensor(steps_down))


def ksample(
    host: StandaloneHost, model: StandaloneModel, positive: list, negative: list,
    latent: dict[str, Any], *, seed: int, steps: int, cfg: float, sampler_name: str,
    scheduler: str, denoise: float,
) -> dict[str, Any]:  # fmt: skip
    """Denoise a LATENT. Temporal layers in the model make its batch one video of frames."""
    import torch

    from ....core.clip_condition import ClipCondition
    from ....core.denoiser import to_ve
    from ....core.noise import NoiseSource
    from ....core.sampling import SAMPLERS
    from ..interface import Guidance

    x0 = _starting_point(host, model, latent)
    if denoise == 0:
        return host.from_core(model, x0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas = sigmas_for(model.core.schedule, scheduler, total)[-(steps + 1) :]
    drawn = torch.randn(x0.shape[1:], generator=torch.Generator().manual_seed(seed))
    noise = drawn[None].to(x0)
    first = sigmas[0]
    whole = float(first) >= model.core.schedule.sigma_max * (1 - 1e-5)
    x = x0 + (to_ve(noise, first) if whole else first.to(noise) * noise)
    denoiser_for = host.denoiser_for(model, positive, negative, Guidance(cfg=cfg))
    denoiser = denoiser_for(ClipCondition(frames=range(x.shape[1])))
    x = SAMPLERS[SAMPLER_NAMES[sampler_name]](
        denoiser, x, sigmas, noise=NoiseSource((seed,)),
        callback=lambda step: host.progress(step.index + 1, step.total),
    )  # fmt: skip
    return host.from_core(model, x)


def _starting_point(host: StandaloneHost, model: StandaloneModel, latent: dict[str, Any]) -> Tensor:
    """The latents [1, t, c, h, w] to start from; empty ones get the model's channels and size."""
    import torch

    raw = host.raw(latent)
    if bool(raw.any()):
        return host.to_core(model, latent)
    ratio = latent.get("downscale_ratio_spacial", model.core.factor)
    height, width = (side * ratio // model.core.factor for side in raw.shape[-2:])
    shape = *raw.shape[:2], model.core.latent_channels, height, width
    return torch.zeros(shape, device=raw.device)
