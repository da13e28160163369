"""Stand-ins for ComfyUI's samplers."""

from __future__ import annotations

from . import io
from .core_sampling import SAMPLER_NAMES, SCHEDULER_NAMES
from .host import host

SWITCH = ("enable", "disable")
MAX_STEPS = 10_000


def _seed(name: str) -> io.Input:
    return io.Int.Input(
        name, default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
        tooltip="The random seed of the noise.",
    )  # fmt: skip


def _settings() -> list[io.Input]:
    return [
        io.Int.Input("steps", default=20, min=1, max=MAX_STEPS, tooltip="Denoising steps."),
        io.Float.Input(
            "cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01,
            tooltip="Classifier-free guidance.",
        ),
        io.Combo.Input("sampler_name", options=list(SAMPLER_NAMES), tooltip="Sampler."),
        io.Combo.Input("scheduler", options=list(SCHEDULER_NAMES), tooltip="Schedule."),
        io.Conditioning.Input("positive", tooltip="Positive prompt."),
        io.Conditioning.Input("negative", tooltip="Negative prompt."),
        io.Latent.Input("latent_image", tooltip="The latents to denoise."),
    ]  # fmt: skip


class KSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KSampler",
            display_name="KSampler",
            category="model/sampling",
            description="Denoises latents; those of a model with temporal layers are one video.",
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                _seed("seed"),
                *_settings(),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="How much is changed; below 1 the given latents are kept in part.",
                ),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, positive, negative, latent_image, **settings) -> io.NodeOutput:
        from .core_sampling import SamplerSettings, ksample

        sampling = SamplerSettings(**settings)
        return io.NodeOutput(ksample(host, model, positive, negative, latent_image, sampling))


class KSamplerAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        step = {"min": 0, "max": MAX_STEPS, "advanced": True}
        return io.Schema(
            node_id="KSamplerAdvanced",
            display_name="KSampler (Advanced)",
            category="model/sampling",
            description="Runs some of the steps of denoising latents.",
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                io.Combo.Input(
                    "add_noise", options=list(SWITCH), advanced=True,
                    tooltip="Disable it for latents that have noise in them already.",
                ),
                _seed("noise_seed"),
                *_settings(),
                io.Int.Input("start_at_step", default=0, tooltip="The first step done.", **step),
                io.Int.Input(
                    "end_at_step", default=MAX_STEPS, tooltip="The step before which it ends.",
                    **step,
                ),
                io.Combo.Input(
                    "return_with_leftover_noise", options=list(SWITCH[::-1]), advanced=True,
                    tooltip="Leave the noise of the remaining steps in, for another sampler.",
                ),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, positive, negative, latent_image, add_noise, noise_seed, start_at_step,
                end_at_step, return_with_leftover_noise, **settings) -> io.NodeOutput:  # fmt: skip
        from .core_sampling import SamplerSettings, ksample

        sampling = SamplerSettings(
            seed=noise_seed, first=start_at_step, last=end_at_step,
            add_noise=add_noise == "enable", keep_noise=return_with_leftover_noise == "enable",
            **settings,
        )  # fmt: skip
        return io.NodeOutput(ksample(host, model, positive, negative, latent_image, sampling))
