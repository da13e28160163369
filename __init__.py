"""ComfyUI-VideoLDM: image latent diffusion models become video models.

ComfyUI imports this folder and calls `comfy_entrypoint`; elsewhere it is the package `videoldm`,
whose parts are imported by name (`videoldm.core...`, `videoldm.nodes`).
"""

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension that lists the nodes (ComfyUI's V3 API)."""
    from .nodes import VideoLDMExtension

    return VideoLDMExtension()
