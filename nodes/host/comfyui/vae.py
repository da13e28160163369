"""This pack's autoencoders and decoders as a ComfyUI VAE, and any VAE as core's decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch
from comfy.ldm.modules.temporal_ae import VideoDecoder
from einops import rearrange
from torch import Tensor, nn

from ....core.tasks.decoding import decode
from ..shared.misfits import check_latents_fit
from ..shared.vae import VideoVAE
from ..shared.vae_3d import VideoVAE3D
from ..tensors import images_from, pixels_of

CHUNK = 16
"""Frames decoded at a time for ComfyUI's own nodes; ours choose their chunks."""


class FirstStage3D(nn.Module):
    """The module of a video VAE, with ComfyUI's methods on 5-D latents [b, c, t, h, w]."""

    def __init__(self, vae: VideoVAE3D):
        super().__init__()
        self.module, self.vae = vae.module, vae

    def encode(self, pixels: Tensor) -> Tensor:
        latents = self.vae.encode_video(rearrange(pixels, "b c t h w -> b t c h w"))
        return rearrange(latents, "b t c h w -> b c t h w")

    def decode(self, samples: Tensor) -> Tensor:
        pixels = self.vae(rearrange(samples, "b c t h w -> b t c h w"))
        return rearrange(pixels, "b t c h w -> b c t h w")


class FirstStage(nn.Module):
    """The modules of a VAE, with ComfyUI's methods on raw latents [n, c, h, w] and pixels
    [n, 3, H, W]."""

    def __init__(self, vae: VideoVAE):
        super().__init__()
        self.autoencoder, self.temporal = vae.autoencoder, vae.temporal
        self.vae = vae

    def encode(self, pixels: Tensor) -> Tensor:
        return self.vae.encode_video(pixels[None])[0]

    def decode(self, samples: Tensor) -> Tensor:
        return self.vae(samples[None])[0]


class VideoLDMVAE(comfy.sd.VAE):
    """A VAE of this pack; a temporal decoder takes a batch for the frames of one video.

    ComfyUI's VAE splits a batch by free memory, which would leave seams with a temporal decoder.
    This one decodes in chunks together with the neighbouring frames that they depend on.
    """

    def __init__(self, vae: VideoVAE | VideoVAE3D, *, disable_dynamic: bool = False):
        # The base class derives its attributes from weights that it recognises. It does not know
        # ours, so they are set here.
        factor, manager = vae.factor, comfy.model_management
        is_3d = isinstance(vae, VideoVAE3D)
        stage = FirstStage3D(vae) if is_3d else FirstStage(vae)
        self.first_stage_model = stage.eval().requires_grad_(False)
        self.device, self.output_device = manager.vae_device(), manager.intermediate_device()
        self.working_dtypes = [torch.float32]
        self.vae_dtype = manager.vae_dtype(self.device, self.working_dtypes)
        self.first_stage_model.to(self.vae_dtype)
        self.memory_used_encode = lambda shape, dtype: _memory(shape[2:], 1, dtype)
        self.memory_used_decode = lambda shape, dtype: _memory(shape[-2:], factor, dtype)
        self.downscale_ratio = self.upscale_ratio = factor
        self.latent_channels, self.output_channels = vae.latent_channels, 3
        self.latent_dim = 3 if is_3d else 2
        self.process_input = lambda image: image * 2.0 - 1.0
        self.process_output = lambda image: image.add_(1.0).div_(2.0).clamp_(0.0, 1.0)
        self.downscale_index_formula = self.upscale_index_formula = None
        self.pad_channel_value = self.extra_1d_channel = self.format_encoded = self.size = None
        self.disable_offload = self.not_video = self.handles_tiling = False
        self.crop_input, self.audio_sample_rate = True, 44100
        kind = "ModelPatcher" if disable_dynamic else "CoreModelPatcher"
        self.patcher = getattr(comfy.model_patcher, kind)(
            self.first_stage_model, load_device=self.device,
            offload_device=manager.vae_offload_device(),
        )  # fmt: skip
        self.model_size()

    @property
    def reach(self) -> int | None:
        return self.first_stage_model.vae.reach

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return self.first_stage_model.vae.temporal_factor

    def load(self, shape: torch.Size, frames: int) -> VideoVAE:
        """Load the weights, with memory for decoding `frames` frames of latents [..., h, w]."""
        memory = frames * self.memory_used_decode(shape, self.vae_dtype)
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory)
        return self.first_stage_model.vae

    def encode(self, pixel_samples: Tensor, *args: Any, **more: Any) -> Tensor:
        """Raw latents of an IMAGE: 4-D, frames as batch, or 5-D for a VAE that compresses time."""
        if self.latent_dim == 2:
            return super().encode(pixel_samples, *args, **more)
        latents = encode_pixels(self, pixels_of(pixel_samples))
        return rearrange(latents, "b t c h w -> b c t h w")

    def decode(self, samples_in: Tensor, vae_options: Any = None, **more: Any) -> Tensor:
        """An IMAGE of raw latents, frames as batch or 5-D."""
        return self._decoded(samples_in, tile=None)

    def decode_tiled(
        self, samples: Tensor, tile_x: int | None = None, tile_y: int | None = None,
        overlap: int | None = None, tile_t: int | None = None, overlap_t: int | None = None,
        **more: Any,
    ) -> Tensor:  # fmt: skip
        """As `decode`, in tiles of latent positions; tile_t and overlap_t are not needed."""
        tile = min(tile_x or 64, tile_y or 64)
        overlap = tile // 4 if overlap is None else overlap
        return self._decoded(samples, tile=tile, tile_overlap=min(overlap, tile - 1))

    def _decoded(self, samples: Tensor, **tiles: Any) -> Tensor:
        pattern = "t c h w -> 1 t c h w" if samples.ndim == 4 else "b c t h w -> b t c h w"
        raw = rearrange(samples, pattern)
        vae = self.load(raw.shape, CHUNK + 2 * (self.reach or 0))
        raw = raw.to(self.device)
        images = [self._images(vae, one, tiles) for one in raw.split(1)]
        return torch.cat(images)

    def _images(self, vae: VideoVAE, raw: Tensor, tiles: dict[str, Any]) -> Tensor:
        return torch.cat(list(_chunks(vae, raw, self.output_device, tiles)))


def _chunks(
    vae: VideoVAE, raw: Tensor, device: torch.device, tiles: dict[str, Any]
) -> Iterator[Tensor]:
    # Chunks of a decoder that is not local overlap by one latent frame and are blended there.
    blended = {} if vae.reach is not None else {"reach": 1}
    for pixels in decode(vae, raw, chunk=CHUNK // vae.temporal_factor, **blended, **tiles):
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield images_from(pixels).to(device)


def _memory(sides: Any, factor: int, dtype: torch.dtype) -> float:
    """Bytes for decoding one frame: its widest activations, about six of which exist at a time."""
    height, width = (factor * side for side in tuple(sides)[-2:])
    return 6 * 64 * height * width * comfy.model_management.dtype_size(dtype)


# --------------------------------------------------------------------------------------------------
# Any VAE on a wire, in core's layouts.


class WiredDecoder:
    """`interface.Decoder` for a ComfyUI VAE: image VAEs decode frame by frame."""

    def __init__(self, vae: comfy.sd.VAE):
        if vae.latent_dim != 2 and not isinstance(vae, VideoLDMVAE):
            raise ValueError(
                f"the VAE is one of a video or audio model (its latents have {vae.latent_dim} "
                "dimensions, not 2): connect the VAE that was loaded with the image model"
            )
        self.vae = vae
        own = isinstance(vae, VideoLDMVAE)
        self.reach, self.temporal_factor = (vae.reach, vae.temporal_factor) if own else (0, 1)
        if not own and decodes_together(vae):
            self.reach = None
        self.factor = int(vae.upscale_ratio if own else vae.spacial_compression_decode())

    def __call__(self, raw: Tensor) -> Tensor:
        check_latents_fit(raw.shape[2], self.vae.latent_channels, vae=True)
        if isinstance(self.vae, VideoLDMVAE):
            return self.vae.load(raw.shape, raw.shape[1])(raw.to(self.vae.device)).to(raw)
        if self.reach is None:
            return torch.stack([self._together(one) for one in raw]).to(raw)
        images = self.vae.decode(rearrange(raw, "b t c h w -> (b t) c h w"))
        pixels = pixels_of(images)[0]
        return rearrange(pixels, "(b t) c h w -> b t c h w", b=len(raw)).to(raw)

    @torch.no_grad()
    def _together(self, raw: Tensor) -> Tensor:
        """Pixels [t, 3, H, W] of the frames [t, c, h, w] of one video, decoded at once: ComfyUI's
        own method splits them, by free memory, into batches that are decoded separately."""
        vae = self.vae
        memory = len(raw) * vae.memory_used_decode(raw[:1].shape, vae.vae_dtype)
        comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory)
        return vae.first_stage_model.decode(raw.to(vae.device, vae.vae_dtype)).float()


def decodes_together(vae: comfy.sd.VAE) -> bool:
    """Whether ComfyUI's decoder has temporal layers, and so takes a batch for a video."""
    return isinstance(getattr(vae.first_stage_model, "decoder", None), VideoDecoder)


def encode_pixels(vae: comfy.sd.VAE, pixels: Tensor) -> Tensor:
    """Raw latents [b, t, c, h, w] of pixels [b, t, 3, H, W] in [-1, 1]."""
    if isinstance(vae, VideoLDMVAE):
        latents = vae.load(pixels.shape, 1).encode_video(pixels.to(vae.device))
        return latents.to(vae.output_device)
    # Not clamped to 0 .. 1: a noised image exceeds that.
    images = rearrange(pixels, "b t c h w -> (b t) h w c").float().add(1).div(2)
    latents = vae.encode(images)
    return rearrange(latents, "(b t) c h w -> b t c h w", b=len(pixels))
