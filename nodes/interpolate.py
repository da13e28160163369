"""Frame interpolation."""

from __future__ import annotations

from .checks import ABSENT, interpolation_faults, verdict
from .host import host, io
from .inputs import (
    cfg,
    context_guidance,
    integer,
    latent_wanted,
    number,
    prompts,
    sampler_name,
    schedule,
    seed,
    steps,
)

SETTINGS = ("steps", "sampler_name", "schedule", "seed", "denoise")


class InterpolateFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_InterpolateFrames",
            display_name="Interpolate Frames",
            category="VideoLDM/sample",
            description="Fills in three frames between every two: 16 frames become 61, and 241 "
            "after a second pass. The given frames are kept, or remade along with the new ones.",
            search_aliases=[
                "frame interpolation", "interpolate video", "rife", "film", "slow motion",
                "increase frame rate",
            ],
            inputs=[
                io.Model.Input(
                    "model", lazy=True,
                    tooltip="An image model with interpolation layers in it, or an interpolation "
                    "model from Load Video Model.",
                ),
                *prompts(lazy=True),
                io.Latent.Input("latent", tooltip="The frames to interpolate between."),
                integer("passes", 1, 1, 2, "Number of passes; each quadruples the frame count."),
                steps(8),
                cfg(1.0),
                sampler_name(),
                schedule(),
                seed(),
                context_guidance(),
                integer(
                    "window_keys", 0, 0, 64,
                    "Number of given frames per window; 0 takes as many as the layers were "
                    "trained on.", advanced=True,
                ),
                io.Boolean.Input(
                    "keep_keys", default=True, advanced=True,
                    tooltip="Keep the given frames exactly; otherwise the model remakes them, as "
                    "published interpolation models do.",
                ),
                io.Vae.Input(
                    "vae", optional=True, lazy=True,
                    tooltip="Only for interpolation models that take a mask: encodes the grey "
                    "frames that stand in for the missing ones.",
                ),
                _denoise(),
                _perturbation(),
            ],
            outputs=[io.Latent.Output(tooltip="The latents of the longer video.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, window_keys=ABSENT, schedule=ABSENT, denoise=ABSENT):
        given = {"window_keys": window_keys, "schedule": schedule, "denoise": denoise}
        return verdict(cls, interpolation_faults, **given)

    @classmethod
    def check_lazy_status(cls, **given):
        return latent_wanted(given)

    @classmethod
    def execute(cls, latent, model=None, positive=None, negative=None, **inputs) -> io.NodeOutput:
        from .host.shared.finished_stages import latent_if_finished

        wires = {"model": model, "positive": positive, "negative": negative}
        if finished := latent_if_finished(host, {**wires, **inputs}):
            return io.NodeOutput(finished[0])
        return io.NodeOutput(_interpolated(*wires.values(), latent, **inputs))


def _interpolated(model, positive, negative, latent, **inputs):
    from .stages.interpolating import InterpolationRequest, interpolate_frames
    from .stages.running import Settings

    settings = Settings(**{name: inputs.pop(name) for name in SETTINGS if name in inputs})
    request = InterpolationRequest(**inputs)
    return interpolate_frames(host, model, positive, negative, latent, request, settings)


def _denoise() -> io.Input:
    return number(
        "denoise", 1.0, 0.01, 1.0,
        "1 samples the frames between from noise alone. Below 1 they start as blends of the given "
        "frames, at this share of the noise levels: closer to them, but large motion may leave "
        "ghosts. Not from the papers; meant for this pack's own layers.",
        step=0.01, optional=True, advanced=True,
    )  # fmt: skip


def _perturbation() -> io.Input:
    return integer(
        "perturbation", 0, 0, 999,
        "Training timestep whose noise is added to the given frames, so that their errors are not "
        "copied; 0 is none. The model must have been trained with it.",
        optional=True, advanced=True,
    )  # fmt: skip
