"""The host inside ComfyUI; `interface.Host` documents its methods.

Models run where ComfyUI's memory management puts them. Node outputs are where ComfyUI keeps them:
on the CPU, or on the GPU if it was started with --gpu-only. Latents also stay on the GPU for the
next of our stages, as long as there is room (`device_cache`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management as manager
from comfy_execution.graph_utils import ExecutionBlocker

from ..shared.metadata import workflow_texts
from ..shared.misfits import check_latents_fit
from ..shared.missing_parts import check_clip, check_vae
from ..shared.working_memory import BY_FAR, shortage
from .folders import ComfyFolders

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ....core.diffusion.curves import Curve
    from ....core.diffusion.free_init import FreeInit
    from ....core.families.checkpoint_hints import CheckpointHints
    from ....core.media.files import VideoStream
    from ....core.networks.cameras import CameraUse
    from ....core.networks.image_conditions import KeyframeImages
    from ....core.networks.reference import ReferenceWindow
    from ....core.networks.temporal_layers import Strength
    from ....core.tasks.optical_flow import Flow
    from ....core.tasks.segment import DenoiserFor
    from ..interface import Decoder, Guidance, Latent, ModelFacts, RunningNode, StageProgress
    from ..shared.image_prompter import ImagePrompter
    from .layers import LoadedLayers
    from .loaders import Loaders
    from .previews import Previews
    from .progress import Reports
    from .sparse_control import SparseControlObject


class ComfyHost:
    """One per process."""

    name = "comfyui"
    shows_previews = True
    workers = None

    @cached_property
    def folders(self) -> ComfyFolders:
        return ComfyFolders()

    @cached_property
    def previews(self) -> Previews:
        """The previews of the running node; ComfyUI runs one at a time."""
        from .previews import Previews

        return Previews()

    @cached_property
    def reports(self) -> Reports:
        from .progress import Reports

        return Reports()

    @property
    def loaders(self) -> Loaders:
        from .loaders import Loaders

        return Loaders(self.folders)

    # Loading.

    def load_image_model(self, name: str) -> tuple[Any, Any, Any]:
        return self.loaders.image_model(name)

    def load_video_model(self, name: str, hints: CheckpointHints) -> tuple:
        return self.loaders.video_model(name, hints)

    def load_temporal_layers(self, name: str) -> LoadedLayers:
        return self.loaders.temporal_layers(name)

    def motion_lora(self, layers: LoadedLayers, name: str, strength: Curve) -> LoadedLayers:
        from .updates import with_motion_lora

        return with_motion_lora(layers, self.folders.model_path("loras", name), strength)

    def load_temporal_vae(self, name: str) -> Any:
        return self.loaders.temporal_vae(name)

    def load_upsampler(self, name: str) -> tuple[Any, Any, Any]:
        return self.loaders.upsampler(name)

    # Models.

    def facts(self, model: Any) -> ModelFacts:
        from .model_facts import facts_of

        return facts_of(model)

    def inject(self, model: Any, layers: LoadedLayers, strength: Strength, **options: Any) -> Any:
        from .layers import inject

        return inject(model, layers, strength, **options)

    def continue_images(
        self, model: Any, images: KeyframeImages, likeness: tuple[float, ...] | None, scale: float
    ) -> Any:
        from ..shared.steering import can_continue_images, with_motion
        from .layers import steered

        return steered(
            model, can_continue_images,
            lambda one: one.used(images=with_motion(one.use, images, likeness, scale)),
        )  # fmt: skip

    def follow_camera(self, model: Any, name: str, use: CameraUse) -> Any:
        return self.loaders.follow_camera(model, name, use)

    def load_sparse_control(self, name: str, frames: Sequence[int]) -> SparseControlObject:
        return self.loaders.sparse_control(name, frames)

    def scheduled_lora(self, model: Any, name: str, strength: Curve) -> Any:
        from .updates import with_lora

        return with_lora(model, self.folders.model_path("loras", name), strength)

    def guidance_curve(self, model: Any, curve: Curve) -> Any:
        from .guidance import with_guidance

        return with_guidance(model, curve)

    def control_strength(self, prompts: Sequence[list], curve: Curve) -> list[list]:
        from .control_strength import with_control_strength

        copies: dict[int, Any] = {}
        return [with_control_strength(one, curve, copies) for one in prompts]

    def eject(self, model: Any) -> Any:
        from .layers import eject

        return eject(model)

    def with_free_init(self, model: Any, free_init: FreeInit) -> Any:
        from .free_init import with_free_init

        return with_free_init(model, free_init)

    def with_reference(self, model: Any, reference: ReferenceWindow) -> Any:
        from .reference import with_reference

        return with_reference(model, reference)

    def encode_text(self, clip: Any, text: str) -> list:
        check_clip(clip)
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    def encode_boxes(self, clip: Any, text: str, boxes: Sequence[Any]) -> list:
        from .clip import encode_boxes

        check_clip(clip)
        return encode_boxes(clip, text, boxes)

    def image_tokens(self, clip_vision: ImagePrompter, pixels: Tensor) -> Tensor:
        manager.load_model_gpu(clip_vision.patcher)
        tokens = clip_vision.tokens(pixels.to(clip_vision.patcher.load_device))
        return tokens.to(manager.intermediate_device())

    def embed_image(self, clip_vision: Any, pixels: Tensor) -> Tensor:
        from .clip_vision import embed_image

        return embed_image(clip_vision, pixels)

    def denoiser_for(
        self, model: Any, positive: list, negative: list, guidance: Guidance
    ) -> DenoiserFor:
        from .sampling import denoiser_for

        return denoiser_for(model, positive, negative, guidance, self.previews.offer)

    def sigmas(self, model: Any, schedule: str, steps: int, denoise: float) -> Tensor:
        from ....core.diffusion.schedules import get_sigmas
        from .model import levels_of

        return get_sigmas(schedule, levels_of(model), steps, strength=denoise)

    # Tensors.

    def raw(self, latent: Mapping[str, Any]) -> Tensor:
        from ..device_cache import cached_or_moved

        return cached_or_moved(latent, manager.get_torch_device())

    def to_core(self, model: Any, latent: Mapping[str, Any]) -> Tensor:
        raw, channels = self.raw(latent), model.model.latent_format.latent_channels
        check_latents_fit(raw.shape[2], channels)
        return _per_frame(model.model.process_latent_in, raw.float())

    def from_core(self, model: Any, latents: Tensor) -> Latent:
        from ..device_cache import latent_with_cache

        raw = _per_frame(model.model.process_latent_out, latents)
        place, free = manager.intermediate_device(), manager.get_free_memory(raw.device)
        time_axis = model.model.latent_format.latent_dimensions == 3
        return latent_with_cache(raw, place, free, time_axis=time_axis)

    def pixels(self, images: Tensor) -> Tensor:
        from ..tensors import pixels_of

        return pixels_of(images).to(manager.get_torch_device())

    def images(self, pixels: Tensor) -> Tensor:
        from ..tensors import images_from

        return images_from(pixels).to(manager.intermediate_device())

    def thumbnails(self, model: Any, latent: Mapping[str, Any], at: Sequence[int]) -> list[Any]:
        from .previews import thumbnails

        samples = latent["samples"]
        some = samples[list(at)] if samples.ndim == 4 else samples[:1, :, list(at)]
        return thumbnails(model, self.to_core(model, {"samples": some})[0])

    def image_buffer(self, frames: int, height: int, width: int) -> Tensor:
        import torch

        return torch.empty((frames, height, width, 3), device=manager.intermediate_device())

    # Curves.

    def read_curve(self, value: Any) -> Curve | None:
        from .curves import read_curve

        return read_curve(value)

    def curve(self, curve: Curve) -> Any:
        from .curves import DrawnCurve

        return DrawnCurve(curve)

    # The autoencoder.

    def encode(self, vae: Any, pixels: Tensor) -> Latent:
        from ..tensors import latent_from
        from .vae import encode_pixels

        check_vae(vae)
        return latent_from(encode_pixels(vae, pixels), time_axis=vae.latent_dim == 3)

    def decoder(self, vae: Any) -> Decoder:
        from .vae import WiredDecoder

        check_vae(vae)
        return WiredDecoder(vae)

    # Video.

    def video(self, stream: VideoStream) -> Any:
        from .video import StreamedVideo

        return StreamedVideo(stream)

    def stream(self, video: Any) -> VideoStream:
        from .video import stream_of

        return stream_of(video)

    def optical_flow(self, model: nn.Module) -> Any:
        from .optical_flow import patched

        return patched(model)

    def flow(self, optical_flow: Any) -> Flow:
        from .optical_flow import flow

        return flow(optical_flow)

    def blocked(self, sentence: str) -> ExecutionBlocker:
        return ExecutionBlocker(sentence)

    # The run.

    def running(self) -> RunningNode | None:
        from .running import running

        return running()

    def progress(self, done: float, total: float, part: StageProgress | None = None) -> None:
        from comfy.utils import ProgressBar

        self.check_interrupted()
        self.reports.progress(done, total, part)
        ProgressBar(total).update_absolute(done, total, self.previews.take())

    def check_interrupted(self) -> None:
        manager.throw_exception_if_processing_interrupted()

    def warn(self, sentence: str) -> None:
        self.reports.warn(sentence)

    def require_memory(self, need: float, what: str, *, on_cpu: bool = False) -> None:
        from torch import device

        place = device("cpu") if on_cpu else manager.get_torch_device()
        total = manager.get_total_memory(place)
        if need <= total:
            return
        sentence = shortage(what, need, total, str(place), "in all")
        if need > BY_FAR * total:
            raise ValueError(sentence)
        self.warn(sentence)

    def save_unfinished(self, latent: Mapping[str, Any]) -> Path:
        from ..shared.latent_files import save_unfinished

        return save_unfinished(self.folders, latent)

    def report_unfinished(self, path: Path, sentence: str) -> None:
        self.reports.warn(sentence)

    def metadata(self, hidden: Any) -> dict[str, str]:
        from comfy.cli_args import args

        if args.disable_metadata:
            return {}
        return workflow_texts(hidden)


def _per_frame(process: Any, latents: Tensor) -> Tensor:
    """ComfyUI's scaling of image latents, applied to [b, t, c, h, w]."""
    return process(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])


host = ComfyHost()
