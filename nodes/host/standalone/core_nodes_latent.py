"""Stand-ins for ComfyUI's nodes that save and load latents."""

from __future__ import annotations

from . import io, ui
from .host import host


class SaveLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveLatent",
            display_name="Save Latent",
            category="model/latent",
            description="Saves latents into the output folder; they carry the workflow.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latents to save."),
                io.String.Input(
                    "filename_prefix", default="latents/ComfyUI",
                    tooltip="Beginning of the file name inside the output folder.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            outputs=[io.Latent.Output("samples", display_name="samples")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix) -> bool | str:
        return host.folders.prefix_fault(filename_prefix) or True

    @classmethod
    def execute(cls, samples, filename_prefix: str) -> io.NodeOutput:
        from ..shared.latent_files import save_latent

        path = save_latent(host.folders, samples, filename_prefix, host.metadata(cls.hidden))
        result = ui.SavedResult(*host.folders.relative(path), io.FolderType.output)
        return io.NodeOutput(samples, ui={"latents": [result]})


class LoadLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadLatent",
            display_name="Load Latent",
            category="model/latent",
            description="Loads latents from a file of the input folder.",
            inputs=[
                io.Combo.Input(
                    "latent", options=host.folders.input_names("latent"),
                    tooltip="A .latent file of the input folder.",
                ),
            ],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, latent) -> bool | str:
        return host.folders.input_fault(latent) or True

    @classmethod
    def fingerprint_inputs(cls, latent: str) -> float:
        return host.folders.input_changed(latent)

    @classmethod
    def execute(cls, latent: str) -> io.NodeOutput:
        from ..shared.latent_files import load_latent

        return io.NodeOutput(load_latent(host.folders.input_path(latent)))
