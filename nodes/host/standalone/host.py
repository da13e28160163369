"""The host without ComfyUI; `interface.Host` documents its methods.

Torch is only imported when a node runs, so that listing and validating workflows is instant.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....core.graph import current_call
from ....core.graph.schema import Blocked
from ..shared.folders import Folders
from ..shared.metadata import workflow_texts
from ..shared.misfits import check_latents_fit
from ..shared.missing_parts import check_boxes
from ..shared.working_memory import shortage
from .devices import Policy, free_memory
from .imports import uncollected

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ....core.diffusion.curves import Curve
    from ....core.diffusion.free_init import FreeInit
    from ....core.families.checkpoint_hints import CheckpointHints
    from ....core.media.files import VideoStream
    from ....core.networks.cameras import CameraUse
    from ....core.networks.image_conditions import KeyframeImages
    from ....core.networks.reference import ReferenceWindow
    from ....core.networks.temporal_layers import Strength, TemporalLayers
    from ....core.tasks.finished import Workers
    from ....core.tasks.optical_flow import Flow
    from ....core.tasks.segment import DenoiserFor
    from ..interface import Decoder, Guidance, Latent, ModelFacts, RunningNode, StageProgress
    from ..shared.image_prompter import ImagePrompter
    from ..shared.prompt_encoder import PromptEncoder
    from ..shared.vae import VideoVAE
    from ..tensors import RoundTrips
    from .clip_vision import ClipVision
    from .control import StandaloneSparseControl
    from .loaders import Loaders
    from .model import StandaloneModel
    from .optical_flow import StandaloneFlow
    from .video import StandaloneVideo


log = logging.getLogger("videoldm")


class StandaloneHost:
    """One per process; the runner sets its folders, device and dtype before anything runs."""

    name = "standalone"
    shows_previews = False

    def __init__(self) -> None:
        self.folders = Folders()
        self.policy = Policy()
        self.embed_metadata = True
        self.check_memory = True
        self.workers: Workers | None = None
        self.unfinished: list[Path] = []  # files of interrupted runs, for the command to report

    def configure(
        self,
        *,
        models: Sequence[Any] = (),
        input: Any = "input",
        output: Any = "output",
        device: str = "auto",
        dtype: str = "auto",
        embed_metadata: bool = True,
        check_memory: bool = True,
    ) -> None:
        """Set the folders (`models` may be several), device and dtype, and whether files get
        metadata and memory is checked before work starts."""
        self.folders = Folders(models=models, input=input, output=output)
        self.policy = Policy(device, dtype)
        self.embed_metadata, self.check_memory = embed_metadata, check_memory
        self.unfinished = []

    @cached_property
    def round_trips(self) -> RoundTrips:
        """Counts the latents that were moved to the compute device between two stages."""
        from ..tensors import RoundTrips

        return RoundTrips()

    @property
    def loaders(self) -> Loaders:
        if f"{__package__}.loaders" not in sys.modules:
            with uncollected():
                from . import loaders  # noqa: F401
        from .loaders import Loaders

        return Loaders(self.folders, self.policy)

    # Loading.

    def load_image_model(self, name: str) -> tuple:
        return self.loaders.image_model(name)

    def load_video_model(self, name: str, hints: CheckpointHints) -> tuple:
        return self.loaders.video_model(name, hints)

    def load_temporal_layers(self, name: str) -> TemporalLayers:
        return self.loaders.temporal_layers(name)

    def motion_lora(self, layers: TemporalLayers, name: str, strength: Curve) -> TemporalLayers:
        return self.loaders.motion_lora(layers, name, strength)

    def load_temporal_vae(self, name: str) -> VideoVAE:
        return self.loaders.temporal_vae(name)

    def load_upsampler(self, name: str) -> tuple:
        return self.loaders.upsampler(name)

    # Models.

    def facts(self, model: StandaloneModel) -> ModelFacts:
        return model.facts

    def inject(
        self, model: StandaloneModel, layers: TemporalLayers, strength: Strength, **options: Any
    ) -> StandaloneModel:
        return model.injected(layers, strength, **options)

    def continue_images(
        self, model: StandaloneModel, images: KeyframeImages, likeness: tuple[float, ...] | None,
        scale: float,
    ) -> StandaloneModel:  # fmt: skip
        from dataclasses import replace

        from ..shared.steering import can_continue_images, with_motion

        return model.steered(
            can_continue_images,
            lambda one: replace(one, images=with_motion(one, images, likeness, scale)),
        )

    def follow_camera(self, model: StandaloneModel, name: str, use: CameraUse) -> StandaloneModel:
        return self.loaders.follow_camera(model, name, use)

    def load_sparse_control(self, name: str, frames: Sequence[int]) -> StandaloneSparseControl:
        return self.loaders.sparse_control(name, frames)

    def scheduled_lora(self, model: StandaloneModel, name: str, strength: Curve
                       ) -> StandaloneModel:  # fmt: skip
        return self.loaders.scheduled_lora(model, name, strength)

    def guidance_curve(self, model: StandaloneModel, curve: Curve) -> StandaloneModel:
        return replace(model, guidance=model.guidance * curve)

    def control_strength(self, prompts: Sequence[list], curve: Curve) -> list[list]:
        from .control import with_strength_curve

        return [with_strength_curve(one, curve) for one in prompts]

    def eject(self, model: StandaloneModel) -> StandaloneModel:
        return model.ejected()

    def with_free_init(self, model: StandaloneModel, free_init: FreeInit) -> StandaloneModel:
        return replace(model, free_init=free_init)

    def with_reference(self, model: StandaloneModel, reference: ReferenceWindow) -> StandaloneModel:
        return replace(model, reference=reference)

    def encode_text(self, clip: PromptEncoder, text: str) -> list:
        return clip.encode(text)

    def encode_boxes(self, clip: PromptEncoder, text: str, boxes: Sequence[Any]) -> list:
        check_boxes(boxes, clip.box_encoder)
        return clip.encode(text, boxes)

    def image_tokens(self, clip_vision: ImagePrompter, pixels: Tensor) -> Tensor:
        return clip_vision.tokens(pixels)

    def embed_image(self, clip_vision: ClipVision, pixels: Tensor) -> Tensor:
        from ....core.families.open_clip_image import squashed_pixels

        return clip_vision.embedding(squashed_pixels(pixels[:, 0], clip_vision.side))[None]

    def denoiser_for(self, model: StandaloneModel, positive: list, negative: list,
                     guidance: Guidance) -> DenoiserFor:  # fmt: skip
        from .model import denoiser_for

        return denoiser_for(model, positive, negative, guidance)

    def sigmas(self, model: StandaloneModel, schedule: str, steps: int, denoise: float) -> Tensor:
        from ....core.diffusion.schedules import get_sigmas

        return get_sigmas(schedule, model.core.levels, steps, strength=denoise)

    # Tensors.

    def raw(self, latent: Mapping[str, Any]) -> Tensor:
        from ..tensors import latents_of

        return self.round_trips.to(latents_of(latent), self.policy.device)

    def to_core(self, model: StandaloneModel, latent: Mapping[str, Any]) -> Tensor:
        import torch

        raw = self.raw(latent)
        check_latents_fit(raw.shape[2], model.core.latent_channels)
        return model.core.scaled(raw.to(torch.float32))

    def from_core(self, model: StandaloneModel, latents: Tensor) -> Latent:
        from ..tensors import latent_from

        raw = model.core.unscaled(latents)
        return latent_from(raw, time_axis=model.core.has_time_axis)

    def pixels(self, images: Tensor) -> Tensor:
        from ..tensors import pixels_of

        return pixels_of(images).to(self.policy.device)

    def images(self, pixels: Tensor) -> Tensor:
        from ..tensors import images_from

        return images_from(pixels)

    def thumbnails(self, model: Any, latent: Mapping[str, Any], at: Sequence[int]) -> list[Any]:
        return []

    def image_buffer(self, frames: int, height: int, width: int) -> Tensor:
        import torch

        shape = frames, height, width, 3
        return torch.empty(shape, device=self.policy.place_for_images(4 * math.prod(shape)))

    # Curves.

    def read_curve(self, value: Any) -> Curve | None:
        from ....core.diffusion.curves import Curve

        return value if isinstance(value, Curve) else None

    def curve(self, curve: Curve) -> Curve:
        return curve

    # The autoencoder.

    def encode(self, vae: VideoVAE, pixels: Tensor) -> Latent:
        from ..tensors import latent_from

        return latent_from(vae.encode_video(pixels), time_axis=vae.temporal_factor > 1)

    def decoder(self, vae: VideoVAE) -> Decoder:
        return vae

    # Video.

    def video(self, stream: VideoStream) -> StandaloneVideo:
        from .video import StandaloneVideo

        return StandaloneVideo(stream)

    def stream(self, video: StandaloneVideo) -> VideoStream:
        return video.stream

    def optical_flow(self, model: nn.Module) -> StandaloneFlow:
        from .optical_flow import StandaloneFlow

        return StandaloneFlow(model.to(self.policy.device).eval(), self.policy.device)

    def flow(self, optical_flow: StandaloneFlow) -> Flow:
        from .optical_flow import flow

        return flow(optical_flow)

    def blocked(self, sentence: str) -> Blocked:
        return Blocked(sentence)

    # The run.

    def running(self) -> RunningNode | None:
        from .running import running

        return running(self.policy)

    def progress(self, done: float, total: float, part: StageProgress | None = None) -> None:
        call = current_call.get()
        if call is not None:
            call.progress(done, total)

    def check_interrupted(self) -> None:
        call = current_call.get()
        if call is not None:
            call.check_interrupted()

    def warn(self, sentence: str) -> None:
        call = current_call.get()
        if call is not None:
            call.warn(sentence)
        else:
            log.warning("%s", sentence)

    def require_memory(self, need: float, what: str, *, on_cpu: bool = False) -> None:
        device = "cpu" if on_cpu else str(self.policy.device)
        free = free_memory(device) if self.check_memory else None
        if free is not None and need > free:
            sentence = shortage(what, need, free, device, "free")
            raise ValueError(f"{sentence}, or --no-memory-check to try it all the same")

    def save_unfinished(self, latent: Mapping[str, Any]) -> Path:
        from ..shared.latent_files import save_unfinished

        return save_unfinished(self.folders, latent)

    def report_unfinished(self, path: Path, sentence: str) -> None:
        log.warning("%s", sentence)
        self.unfinished.append(path)

    def metadata(self, hidden: Any) -> dict[str, str]:
        if not self.embed_metadata:
            return {}
        return workflow_texts(hidden)


host = StandaloneHost()
