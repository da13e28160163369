"""FreeInit: repeated sampling from refined initial noise."""

from __future__ import annotations

from .choices import FREQUENCY_FILTERS
from .host import host, io
from .inputs import integer, number


class FreeInitNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_FreeInit",
            display_name="FreeInit",
            category="VideoLDM/model",
            description="Makes samplers sample a video several times, each time from noise whose "
            "low frequencies come from the previous result, so that frames agree better. For the "
            "Video Sampler and ComfyUI's own samplers.",
            search_aliases=["free init", "noise reinitialization", "iterative sampling"],
            inputs=[
                io.Model.Input("model", tooltip="A model with temporal layers."),
                integer(
                    "iterations", 3, 1, 16,
                    "How many times the video is sampled; the time grows in proportion.",
                ),
                io.Combo.Input(
                    "filter", options=list(FREQUENCY_FILTERS), advanced=True,
                    tooltip="Low-pass filter that separates what is kept of the video from what is "
                    "drawn afresh.",
                ),
                number(
                    "spatial_cutoff", 0.25, 0.0, 1.0,
                    "Spatial frequencies of the video below this fraction of the highest are kept; "
                    "0 keeps nothing of the video.", step=0.01, advanced=True,
                ),
                number(
                    "temporal_cutoff", 0.25, 0.0, 1.0,
                    "Temporal frequencies of the video below this fraction of the highest are "
                    "kept; 0 keeps nothing of the video.", step=0.01, advanced=True,
                ),
                integer("order", 4, 1, 16, "Steepness of the Butterworth filter.", advanced=True),
            ],
            outputs=[io.Model.Output(tooltip="The model, which samplers now sample several "
            "times.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, iterations, filter, spatial_cutoff, temporal_cutoff, order
    ) -> io.NodeOutput:
        from ..core.diffusion.free_init import FreeInit

        cutoffs = {"spatial": spatial_cutoff, "temporal": temporal_cutoff}
        settings = FreeInit(iterations=iterations, filter=filter, order=order, **cutoffs)
        return io.NodeOutput(host.with_free_init(model, settings))
