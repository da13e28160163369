"""ComfyUI-VideoLDM: image latent diffusion models become video models."""

__version__ = "0.1.0"
