"""SparseCtrl as a ComfyUI CONTROL_NET, which ComfyUI's nodes apply to prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.controlnet
import comfy.model_management as manager
import comfy.model_patcher
import comfy.utils
from torch import Tensor, nn

from ....core.networks.sparse_control import SparseControl, SparseControlNet, sparse_condition
from ..shared.misfits import check_sparse_images
from .layers import frame_batch


class NetworkHolder(nn.Module):
    """Holds a network for ComfyUI's memory management, which sets attributes such as `device` on
    the module that it moves."""

    def __init__(self, network: SparseControlNet):
        super().__init__()
        self.network = network


class SparseControlObject(comfy.controlnet.ControlNet):
    """A SparseCtrl with the absolute frames of its condition images, whatever the window."""

    images_by_frame = True

    def __init__(self, network: SparseControlNet | None, frames: Sequence[int]):
        super().__init__(None)
        self.control_model, self.frames = network, tuple(frames)
        self.size: tuple[int, int] | None = None
        if network is not None:
            # A plain patcher, as the network's modules do not use ComfyUI's operations.
            self.control_model_wrapped = comfy.model_patcher.ModelPatcher(
                NetworkHolder(network), load_device=manager.get_torch_device(),
                offload_device=manager.unet_offload_device(),
            )  # fmt: skip

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int,
                    transformer_options: dict, **more: Any) -> dict | None:  # fmt: skip
        """The U-Net's residuals in ComfyUI's form, merged with those of ControlNets before."""
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(
                x_noisy, t, cond, batched_number, transformer_options, **more
            )
        if self.timestep_range is not None:
            first, last = self.timestep_range
            if not last <= t[0] <= first:
                return before
        batch = frame_batch(x_noisy, transformer_options)
        numbers = batch.conditions.numbers(batch.frames)
        images = self._images(x_noisy)
        control = SparseControl(
            network=self.control_model, condition=sparse_condition(images, self.frames, numbers)
        )
        sampling, shape = self.model_sampling_current, (-1, batch.frames)
        text = cond.get("crossattn_controlnet", cond["c_crossattn"])
        text = text.expand(len(x_noisy), -1, -1)
        skips, middle = control(
            sampling.calculate_input(t, x_noisy).unflatten(0, shape),
            sampling.timestep(t).unflatten(0, shape),
            text.unflatten(0, shape),
        )
        return self.control_merge({"middle": [middle], "output": skips}, before, None)

    def _images(self, x: Tensor) -> Tensor:
        """The condition images, pixels or latents, for latents of x's size."""
        reduction = 8 if self.vae is None else self.vae.spacial_compression_encode()
        height, width = (reduction * side for side in x.shape[-2:])
        if self.cond_hint is None or self.size != (height, width):
            check_sparse_images(len(self.cond_hint_original), self.frames)
            images = comfy.utils.common_upscale(
                self.cond_hint_original[:, :3], width, height, self.upscale_algorithm, "center"
            )
            self.cond_hint, self.size = self._encoded(images).to(x), (height, width)
        return self.cond_hint

    def _encoded(self, images: Tensor) -> Tensor:
        if not self.control_model.takes_latents:
            return images
        loaded = manager.loaded_models(only_currently_used=True)
        latents = self.vae.encode(images.movedim(1, -1)) * self.control_model.latent_scale
        manager.load_models_gpu(loaded)
        return latents

    def set_cond_hint(self, cond_hint: Tensor, *args: Any, vae: Any = None, **more: Any
                      ) -> SparseControlObject:  # fmt: skip
        check_sparse_images(len(cond_hint), self.frames)
        if self.control_model.takes_latents and vae is None:
            raise ValueError(
                "this SparseCtrl follows encoded images: connect a VAE to Apply ControlNet"
            )
        super().set_cond_hint(cond_hint, *args, **more)
        self.vae = vae if self.control_model.takes_latents else None
        return self

    def copy(self) -> SparseControlObject:
        c = SparseControlObject(None, self.frames)
        c.control_model, c.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(c)
        return c
