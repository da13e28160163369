"""Noise schedules, and the lists of noise levels that samplers step through.

Two forms of the same forward process are used side by side:

    variance preserving (VP)    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n    networks see this
    variance exploding  (VE)    x   = x_0 + sigma n                            samplers see this

with sigma = sqrt((1 - abar) / abar) and x_t = x / sqrt(1 + sigma^2). A `NoiseSchedule` is the table
abar_0 ... abar_{N-1}; every `get_sigmas_*` returns a decreasing float32 tensor [steps + 1], ending
in 0 by default. It stays on the CPU: 0-dim sigmas taken from it mix with tensors on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Replaces abar = 0 under zero terminal SNR, so that sigma is 4518.76 instead of infinite. The
# signal is then 0.02 % of the noise, below float16's resolution.
SMALLEST_ALPHA_CUMPROD = 4.8973451890853435e-08


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete-time, variance preserving forward process (DDPM, Ho et al. 2020, eq. 4).

    alphas_cumprod: [N] float64 on the CPU, strictly decreasing in [0, 1); the last may be 0.
    whole_steps: round timesteps to the nearest integer for the network.
    """

    alphas_cumprod: Tensor
    whole_steps: bool = False

    def __post_init__(self) -> None:
        abar = torch.as_tensor(self.alphas_cumprod).detach().to("cpu", torch.float64)
        if abar.ndim != 1 or len(abar) < 2:
            raise ValueError(
                f"alphas_cumprod must be 2 numbers or more, got shape {tuple(abar.shape)}."
            )
        if not (abar[0] < 1 and abar[-1] >= 0 and bool((abar.diff() < 0).all())):
            raise ValueError(
                "alphas_cumprod must decrease strictly inside [0, 1), "
                f"got {abar[0]:.6g} ... {abar[-1]:.6g} over {len(abar)} steps."
            )
        object.__setattr__(self, "alphas_cumprod", abar)

    @property
    def steps(self) -> int:
        """N, the number of discrete noise levels."""
        return len(self.alphas_cumprod)

    @cached_property
    def betas(self) -> Tensor:
        """[N] beta_t = 1 - abar_t / abar_{t-1}, with abar_{-1} = 1."""
        previous = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        return 1 - self.alphas_cumprod / previous

    @cached_property
    def sigmas(self) -> Tensor:
        """[N] float64, ascending: sqrt((1 - abar) / abar), finite even at zero terminal SNR."""
        abar = self.alphas_cumprod
        abar = torch.where(abar > 0, abar, torch.full_like(abar, SMALLEST_ALPHA_CUMPROD))
        return ((1 - abar) / abar).sqrt()

    @cached_property
    def _log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0].item()

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1].item()

    def timestep(self, sigma: Tensor) -> Tensor:
        """sigma of any shape -> real timestep in [0, N-1], linear in log sigma between entries.

        Float32, on the CPU. A float32 copy of a table entry maps to exactly its integer, so that a
        network trained on integers gets integers; with `whole_steps`, all are integers.
        """
        table = self._log_sigmas
        log_sigma = sigma.detach().cpu().double().log().clamp(table[0], table[-1])
        low = (torch.searchsorted(table, log_sigma, right=True) - 1).clamp(0, self.steps - 2)
        t = low + (log_sigma - table[low]) / (table[low + 1] - table[low])
        within = 0.5 if self.whole_steps else 1e-3
        return torch.where((t - t.round()).abs() <= within, t.round(), t).float()

    def sigma(self, timestep: Tensor) -> Tensor:
        """Real timestep of any shape -> float64 sigma on the CPU; the inverse of `timestep`."""
        t = timestep.detach().cpu().double().clamp(0, self.steps - 1)
        low = t.floor().long().clamp(max=self.steps - 2)
        return torch.lerp(self._log_sigmas[low], self._log_sigmas[low + 1], t - low).exp()

    def input_scale(self, sigma: Tensor) -> Tensor:
        """The factor from x = x_0 + sigma n to x_t, for sigma of any shape."""
        return (sigma**2 + 1).rsqrt()

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(abar_t) x_0 + sqrt(1 - abar_t) n for integer timesteps [b], or [b t] per frame."""
        signal, spread = self.signal_and_spread(timesteps, x0)
        return signal * x0 + spread * noise

    def velocity(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = sqrt(abar_t) n - sqrt(1 - abar_t) x_0 (Salimans & Ho 2022, appendix D)."""
        signal, spread = self.signal_and_spread(timesteps, x0)
        return signal * noise - spread * x0

    def signal_and_spread(self, timesteps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t) of timesteps [b] or [b t], shaped to multiply x."""
        abar = self._looked_up(timesteps)
        abar = abar.reshape(abar.shape + (1,) * (x.ndim - abar.ndim))
        return abar.sqrt().to(x), (1 - abar).sqrt().to(x)

    def _looked_up(self, timesteps: Tensor) -> Tensor:
        """abar at integer timesteps, in float64: on CUDA from a table cached there, which avoids a
        synchronisation; else on the CPU, since not every device has float64."""
        if not timesteps.is_cuda:
            return self.alphas_cumprod[timesteps.cpu()]
        if timesteps.device not in self._tables:
            self._tables[timesteps.device] = self.alphas_cumprod.to(timesteps.device)
        return self._tables[timesteps.device][timesteps]

    @cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        return {}


@dataclass(frozen=True, kw_only=True)
class NoiseRange:
    """Continuous noise levels (Karras et al. 2022): networks take sigma instead of a timestep."""

    sigma_min: float
    sigma_max: float

    def at(self, percent: float) -> float:
        """Log-linear interpolation from sigma_max at percent 0 to sigma_min at 1."""
        return self.sigma_max * (self.sigma_min / self.sigma_max) ** percent


# --------------------------------------------------------------------------------------------------
# Schedules.


def from_betas(betas: Tensor) -> NoiseSchedule:
    """abar_t = prod_{s <= t} (1 - beta_s), in float64."""
    return NoiseSchedule(torch.cumprod(1 - betas.double(), dim=0))


def linear(steps: int = 1000, *, start: float = 1e-4, end: float = 2e-2) -> NoiseSchedule:
    """beta linear in t (Ho et al. 2020, section 4)."""
    return from_betas(torch.linspace(start, end, steps, dtype=torch.float64))


def scaled_linear(
    steps: int = 1000, *, start: float = 8.5e-4, end: float = 1.2e-2
) -> NoiseSchedule:
    """sqrt(beta) linear in t: latent diffusion, and what LVDM's configurations call "linear"."""
    return from_betas(torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2)


def cosine(steps: int = 1000, *, offset: float = 8e-3) -> NoiseSchedule:
    """abar(t) = cos^2((t/N + s) / (1 + s) pi/2), betas <= 0.999 (Nichol & Dhariwal 2021)."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    abar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return from_betas((1 - abar[1:] / abar[:-1]).clamp(max=0.999))


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """Shift and scale sqrt(abar) so that the last level is pure noise (Lin et al. 2023, alg. 1)."""
    signal = schedule.alphas_cumprod.sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return NoiseSchedule(signal**2)


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
}


# --------------------------------------------------------------------------------------------------
# Lists of integer timesteps, descending, int64. Published results are reproduced only with exactly
# these integers.


def timesteps_leading(total: int, steps: int, *, offset: int = 0) -> Tensor:
    """[steps] multiples of total // steps, plus offset.

    50 of 1000 gives 980, 960, ..., 0 at offset 0 (LaVie's DDPM), 981, ..., 1 at offset 1 (DDIM).
    """
    _check_steps(steps, total)
    t = torch.arange(steps - 1, -1, -1) * (total // steps) + offset
    if t[0] >= total:
        raise ValueError(
            f"{steps} steps with offset {offset} begin at {int(t[0])}, beyond {total - 1}."
        )
    return t


def timesteps_trailing(total: int, steps: int) -> Tensor:
    """[steps] round(total * k / steps) - 1; the first is total - 1 (Lin et al. 2023)."""
    _check_steps(steps, total)
    return torch.tensor([round(total * k / steps) - 1 for k in range(steps, 0, -1)])


def timesteps_linspace(total: int, steps: int) -> Tensor:
    """[steps] evenly spaced from total - 1 to 0, rounded: OpenAI respacing, LaVie interpolation."""
    _check_steps(steps, total)
    if steps == 1:
        return torch.tensor([total - 1])
    return torch.tensor([round(k * (total - 1) / (steps - 1)) for k in range(steps - 1, -1, -1)])


def timesteps_strided(total: int, steps: int) -> Tensor:
    """1, 1 + c, 1 + 2c, ... below total, c = total // steps: LVDM and ldm's DDIM.

    If `steps` does not divide `total`, the list is longer than `steps` (30 of 1000 gives 31), as in
    the originals; where they index past the table, this stops. It has at most total - 1 entries.
    """
    _check_count(steps)
    return torch.arange(1, total, max(total // steps, 1)).flip(0)


def _check_steps(steps: int, total: int) -> None:
    if not 1 <= steps <= total:
        raise ValueError(f"The number of steps must be between 1 and {total}, got {steps}.")


# --------------------------------------------------------------------------------------------------
# Lists of sigmas, descending, float32 [steps + 1].


def get_sigmas_at(
    schedule: NoiseSchedule, timesteps: Tensor, *, end_on_first: bool = False
) -> Tensor:
    """Sigmas at descending timesteps [steps], then 0.

    end_on_first: end on sigma_0 instead, so that the last step goes to abar_0 rather than to 1
    (diffusers' `set_alpha_to_one=False`; LaVie's base and upsampler, LVDM); the final sample is
    then `to_vp(x, sigmas[-1])`.
    """
    last = schedule.sigmas[:1] if end_on_first else torch.zeros(1, dtype=torch.float64)
    return torch.cat([schedule.sigma(timesteps), last]).float()


def get_sigmas_normal(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Real timesteps evenly spaced from N-1 to 0; there may be more than N of them."""
    _check_count(steps)
    return get_sigmas_at(
        schedule, torch.linspace(schedule.steps - 1, 0, steps, dtype=torch.float64)
    )


def get_sigmas_uniform(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Real timesteps evenly spaced from N-1 to 0, excluding 0: spends no step near zero noise."""
    _check_count(steps)
    return get_sigmas_at(
        schedule, torch.linspace(schedule.steps - 1, 0, steps + 1, dtype=torch.float64)[:-1]
    )


def get_sigmas_leading(
    schedule: NoiseSchedule, steps: int, *, offset: int = 1, end_on_first: bool = False
) -> Tensor:
    timesteps = timesteps_leading(schedule.steps, steps, offset=offset)
    return get_sigmas_at(schedule, timesteps, end_on_first=end_on_first)


def get_sigmas_trailing(schedule: NoiseSchedule, steps: int) -> Tensor:
    return get_sigmas_at(schedule, timesteps_trailing(schedule.steps, steps))


def get_sigmas_linspace(schedule: NoiseSchedule, steps: int) -> Tensor:
    return get_sigmas_at(schedule, timesteps_linspace(schedule.steps, steps))


def get_sigmas_strided(
    schedule: NoiseSchedule, steps: int, *, end_on_first: bool = False
) -> Tensor:
    """May be longer than steps + 1, see `timesteps_strided`."""
    return get_sigmas_at(
        schedule, timesteps_strided(schedule.steps, steps), end_on_first=end_on_first
    )


def get_sigmas_karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022, eq. 5."""
    _check_range(steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ending_in_zero((high + ramp * (low - high)) ** rho)


def get_sigmas_exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly spaced in log sigma."""
    _check_range(steps, sigma_min, sigma_max)
    ramp = torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64)
    return _ending_in_zero(ramp.exp())


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    _check_count(steps)
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"Expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}.")


def _check_count(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"The number of sampling steps must be at least 1, got {steps}.")


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


SIGMA_LISTS: dict[str, Callable[[NoiseSchedule, int], Tensor]] = {
    "normal": get_sigmas_normal,
    "uniform": get_sigmas_uniform,
    "leading": get_sigmas_leading,
    "trailing": get_sigmas_trailing,
    "linspace": get_sigmas_linspace,
    "strided": get_sigmas_strided,
    "karras": lambda s, steps: get_sigmas_karras(steps, s.sigma_min, s.sigma_max),
    "exponential": lambda s, steps: get_sigmas_exponential(steps, s.sigma_min, s.sigma_max),
}

INTEGER_LISTS = ("leading", "trailing", "linspace")
"""Lists of distinct integer timesteps, limited to the schedule's N."""
CONTINUOUS_LISTS = ("karras", "exponential")
"""Lists that need only a range of noise levels."""


def get_sigmas(
    name: str, schedule: NoiseSchedule | NoiseRange, steps: int, *, strength: float = 1.0
) -> Tensor:
    """[steps + 1] sigmas of the named list, or the end of a longer one if strength < 1.

    Image-to-image at strength 0.5 thus costs as many network calls as at 1, with steps half as
    large. Raises ValueError if an integer list would be longer than the schedule, and for a list of
    timesteps if the noise levels are continuous.
    """
    if name not in SIGMA_LISTS:
        raise ValueError(f"Unknown sigma list {name!r}; known are {', '.join(SIGMA_LISTS)}.")
    _check_strength(strength)
    longer = int(steps / strength)
    continuous = isinstance(schedule, NoiseRange)
    if continuous and name not in CONTINUOUS_LISTS:
        raise ValueError(
            f"the model's noise levels are continuous from {schedule.sigma_max:g} to "
            f"{schedule.sigma_min:g}, but the schedule {name} counts timesteps: choose "
            f"{' or '.join(CONTINUOUS_LISTS)}, or as published"
        )
    if not continuous and name in INTEGER_LISTS and longer > schedule.steps:
        raise ValueError(
            f"{steps} steps at denoising strength {strength:g} are the last of {longer}, but the "
            f"schedule {name} has at most {schedule.steps}; normal, uniform, karras and "
            "exponential have no limit."
        )
    sigmas = SIGMA_LISTS[name](schedule, longer)
    return sigmas if strength == 1 else sigmas[-(steps + 1) :]


def _check_strength(strength: float) -> None:
    if not 0 < strength <= 1:
        raise ValueError(f"Denoising strength must be above 0 and at most 1, got {strength}.")
