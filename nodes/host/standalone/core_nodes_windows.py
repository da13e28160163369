"""Stand-in for ComfyUI's context windows."""

from __future__ import annotations

from dataclasses import replace

from . import io

SCHEDULES = ["standard_static", "standard_uniform", "looped_uniform", "batched"]
FUSES = ["pyramid", "relative", "flat", "overlap-linear"]


def _switch(name: str, default: bool, tooltip: str) -> io.Input:
    return io.Boolean.Input(name, default=default, tooltip=tooltip)


def _indices(name: str) -> io.Input:
    return io.String.Input(
        name, default="", tooltip="Not supported outside of ComfyUI: leave it empty."
    )


class ContextWindowsManual(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ContextWindowsManual",
            display_name="Context Windows (Manual)",
            category="model/patch",
            description="Lets KSampler denoise a long video in overlapping windows.",
            inputs=[
                io.Model.Input("model", tooltip="A model with temporal layers."),
                io.Int.Input("context_length", default=16, min=1, tooltip="Frames of a window."),
                io.Int.Input("context_overlap", default=4, min=0,
                             tooltip="Frames that neighbouring windows share."),
                io.Combo.Input("context_schedule", options=SCHEDULES,
                               tooltip="Positions of the windows at each step."),
                io.Int.Input("context_stride", default=1, min=1,
                             tooltip="Number of strides of uniform and looped windows."),
                _switch("closed_loop", False, "Whether looped windows also cover the seam."),
                io.Combo.Input("fuse_method", options=FUSES,
                               tooltip="Weights where windows overlap."),
                io.Int.Input("dim", default=0, min=0, max=5, tooltip="The axis of frames: 0."),
                _switch("freenoise", False, "FreeNoise: shuffle the first window's noise."),
                _indices("cond_retain_index_list"),
                _switch("split_conds_to_windows", False, "Not supported outside of ComfyUI."),
                _indices("latent_retain_index_list"),
                _switch("causal_window_fix", True,
                        "Whether a window also sees the frame before it."),
            ],
            outputs=[io.Model.Output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, context_length, context_overlap, context_schedule, context_stride, closed_loop,
        fuse_method, dim, freenoise, causal_window_fix=True, **unknown,
    ) -> io.NodeOutput:  # fmt: skip
        from .context_windows import ContextWindows, check_known

        check_known(dim, **unknown)
        windows = ContextWindows(
            schedule=context_schedule, length=context_length, overlap=context_overlap,
            stride=context_stride, closed=closed_loop, fuse=fuse_method, free_noise=freenoise,
            anchored=causal_window_fix,
        )  # fmt: skip
        return io.NodeOutput(replace(model, windows=windows))
