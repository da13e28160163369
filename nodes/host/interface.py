"""The interface between nodes and the two hosts, ComfyUI and this project's runner.

Wire values (MODEL, CLIP, VAE, CONDITIONING, VIDEO, temporal layers) are the host's own objects;
nodes pass them back to the host and never look inside. Tensors that the host returns follow core's
conventions: latents scaled, [b, t, c, h, w], float32 on the compute device; pixels in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor, device, nn

    from ...core.diffusion.curves import Curve
    from ...core.diffusion.denoiser import Denoiser
    from ...core.diffusion.free_init import FreeInit
    from ...core.diffusion.schedules import NoiseRange, NoiseSchedule
    from ...core.families.checkpoint_hints import CheckpointHints
    from ...core.media.files import VideoStream
    from ...core.media.new_files import NewFile
    from ...core.networks.cameras import CameraUse
    from ...core.networks.image_conditions import KeyframeImages
    from ...core.networks.reference import ReferenceWindow
    from ...core.networks.temporal_layers import Strength
    from ...core.tasks.finished import Workers
    from ...core.tasks.optical_flow import Flow
    from .shared.setup_warnings import LayerFacts

Latent = dict[str, Any]
Conditioning = list
Wire = Any


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance.

    cfg: 1 evaluates the positive prompt only. rescale: 0 is plain guidance, 1 fully restores the
    standard deviation of the positive prediction. (Guidance by context frames belongs to the
    sampling task, not to the host.)
    """

    cfg: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a stage must know about a MODEL before it starts."""

    latent_channels: int
    factor: int  # pixels per latent position along each axis
    temporal_factor: int  # frames per latent frame
    schedule: NoiseSchedule | NoiseRange  # of the model itself
    device: device
    channels: int  # of the network's first level
    precision: int  # bytes per number of the compute dtype
    takes_context: bool  # whether the network reads context frames
    in_place: bool = False  # whether context frames also replace those of x
    reads_text: bool = True
    reads_views: bool = False  # whether its temporal attention can work in windows of the frames
    layers: LayerFacts  # the temporal layers in it, as far as warnings need them
    trained_frames: int  # latent frames of the windows that it was trained on
    shared_noise: float = 0.0  # alpha of `noise.mixed_noise` in the training of the last active set
    task: str = ""  # what it was trained for, one of core's TASKS; "" if unknown
    low_res_schedule: NoiseSchedule | None = None
    max_noise_level: int = 0
    low_res_channels: int = 0  # concatenated to the latents: 3 for pixels, or those of latents
    family: str = ""  # published family of its temporal layers; "" for none
    free_init: FreeInit | None = None  # iterations and filter of FreeInit, None without it
    reference: ReferenceWindow | None = None  # a window that its other windows read
    begins_with_image: bool = False  # whether it animates a start image that its prompts carry

    @property
    def continues(self) -> bool:
        """Whether a segment can be conditioned on its first frames."""
        return self.takes_context or self.begins_with_image

    @property
    def latents(self) -> tuple[int, int, int]:
        """(channels, spatial factor, temporal factor): equal for models that share latents."""
        return self.latent_channels, self.factor, self.temporal_factor

    @property
    def is_upsampler(self) -> bool:
        return self.task == "upsampling"


class StageProgress(NamedTuple):
    """Progress of a run: step `step` of `steps` in segment `segment` of `segments` (0: unknown),
    both counted from 1, of a stage such as "prediction"."""

    stage: str
    segment: int
    segments: int
    step: int
    steps: int


class RunningNode(NamedTuple):
    """The node that runs now: what the keys of finished chunks are computed from.

    node_of(id) -> a node of the prompt in API format, None if there is none. index: number of the
    call, for a node that is called once per element of a list. is_volatile(node) -> whether a
    node's outputs change from run to run. place: what else results depend on, such as the device.
    is_plain(node) -> whether its outputs, one value each, are known to depend on its inputs and
    files only.
    """

    node_of: Callable[[str], Mapping[str, Any] | None]
    node_id: str
    index: int
    is_volatile: Callable[[Mapping[str, Any]], bool]
    place: tuple[str, ...]
    is_plain: Callable[[Mapping[str, Any]], bool] = lambda node: False


class Decoder(Protocol):
    """Raw latents [b, t, c, h, w] to pixels [b, n t, 3, factor h, factor w], n = temporal_factor.

    A frame depends on at most `reach` latent frames on either side. 0 decodes frame by frame; None
    means all of them (statistics over the video), and the pixels then depend on the chunking.
    """

    reach: int | None
    factor: int
    temporal_factor: int

    def __call__(self, raw: Tensor) -> Tensor: ...


class FolderAccess(Protocol):
    """Resolves names from workflows to files, always inside their folders."""

    def model_names(self, kind: str) -> list[str]: ...
    def model_path(self, kind: str, name: str) -> Path: ...
    def input_names(self, media: str) -> list[str]: ...
    def input_path(self, name: str) -> Path: ...
    def input_changed(self, name: str) -> float: ...
    def input_fault(self, name: Any) -> str | None: ...
    def new_file(
        self,
        prefix: str,
        suffix: str,
        *,
        temp: bool = False,
        size: tuple[int, int] = (0, 0),
        partial_suffix: str | None = None,
    ) -> NewFile: ...
    def prefix_fault(self, prefix: Any) -> str | None: ...
    def relative(self, path: Path) -> tuple[str, str]: ...


class Host(Protocol):
    """The interface; the module's docstring says what its values are."""

    name: str
    folders: FolderAccess
    shows_previews: bool  # whether previews of a node's outputs are shown to anybody
    workers: Workers | None  # other processes that make chunks for this one

    # Loading. `name` is one of the pack's own models or a file in the kind's models folder.

    def load_image_model(self, name: str) -> tuple[Wire, Wire, Wire]: ...
    def load_video_model(self, name: str, hints: CheckpointHints) -> tuple[Wire, ...]:
        """A video model, its temporal layers alone, and the CLIP_VISION, VAE and CLIP of the same
        file; for those that it lacks, placeholders that raise when used."""

    def load_temporal_layers(self, name: str) -> Wire: ...
    def motion_lora(self, layers: Wire, name: str, strength: Curve) -> Wire:
        """Temporal layers with a LoRA from models/loras added to them."""

    def load_temporal_vae(self, name: str) -> Wire: ...
    def load_upsampler(self, name: str) -> tuple[Wire, Wire, Wire]: ...

    # Models.

    def facts(self, model: Wire) -> ModelFacts: ...
    def load_sparse_control(self, name: str, frames: Sequence[int]) -> Wire:
        """A CONTROL_NET of a SparseCtrl whose condition images are at these absolute frames."""

    def inject(
        self, model: Wire, layers: Wire, strength: Strength, *, own_levels: bool = True,
        own_input: bool = False, image_frames: tuple[range, ...] = (),
    ) -> Wire:  # fmt: skip
        """A clone of the model with the layers injected. own_levels: whether layers trained with
        other noise levels set these on the model; own_input: whether their first convolution, if
        any, replaces the model's; image_frames: numbers of frames that are independent images,
        ValueError for layers that cannot exclude these."""

    def continue_images(
        self, model: Wire, images: KeyframeImages, likeness: tuple[float, ...] | None, scale: float
    ) -> Wire:
        """A clone whose image-to-video layers are conditioned on images; see `shared.steering`."""

    def follow_camera(self, model: Wire, name: str, use: CameraUse) -> Wire:
        """A clone whose motion modules follow a camera, by the weights of a file in
        models/videoldm."""

    def scheduled_lora(self, model: Wire, name: str, strength: Curve) -> Wire:
        """A clone with a LoRA from models/loras on the layers of its image network."""

    def guidance_curve(self, model: Wire, curve: Curve) -> Wire:
        """A clone whose samplers' cfg is multiplied by the curve, except where cfg is 1."""

    def control_strength(self, prompts: Sequence[Conditioning], curve: Curve) -> list[Conditioning]:
        """Prompts with the strength of their last ControlNet multiplied by the curve."""

    def eject(self, model: Wire) -> Wire:
        """A clone without any of this pack's layers."""

    def with_free_init(self, model: Wire, free_init: FreeInit) -> Wire:
        """A clone whose samplers, ours and the host's own, sample with FreeInit."""

    def with_reference(self, model: Wire, reference: ReferenceWindow) -> Wire:
        """A clone whose windows, ours and the host's own, also attend to a reference window."""

    def encode_text(self, clip: Wire, text: str) -> Conditioning: ...
    def encode_boxes(self, clip: Wire, text: str, boxes: Sequence[Any]) -> Conditioning:
        """`boxes` have label, x0, y0, x1, y1; ValueError for a CLIP without a box encoder."""

    def image_tokens(self, clip_vision: Wire, pixels: Tensor) -> Tensor:
        """Image prompt tokens [n, k, d] of pixels [n, 3, h, w]."""

    def embed_image(self, clip_vision: Wire, pixels: Tensor) -> Tensor:
        """The projected embedding [1, 1, d] of the first frame of pixels [1, t, 3, h, w], of any
        aspect ratio."""

    def denoiser_for(
        self, model: Wire, positive: Conditioning, negative: Conditioning, guidance: Guidance
    ) -> Callable[[Any], Denoiser]:
        """A function from a segment's condition (core's SegmentCondition) to its denoiser.

        Entries of a CONDITIONING may carry `videoldm_frames: (start, stop)`; which prompt a frame
        gets then depends on its absolute number in the video.
        """

    def sigmas(self, model: Wire, schedule: str, steps: int, denoise: float) -> Tensor: ...

    # Tensors.

    def to_core(self, model: Wire, latent: Mapping[str, Any]) -> Tensor: ...
    def from_core(self, model: Wire, latents: Tensor) -> Latent: ...
    def pixels(self, images: Tensor) -> Tensor:
        """Pixels [1, t, 3, h, w] of an IMAGE, on the compute device."""

    def images(self, pixels: Tensor) -> Tensor: ...
    def thumbnails(self, model: Wire, latent: Mapping[str, Any], at: Sequence[int]) -> list[Any]:
        """Small pictures (PIL) of these latent frames of a LATENT; none if previews are not shown
        or the model has no map from latents to colours."""

    def image_buffer(self, frames: int, height: int, width: int) -> Tensor:
        """An uninitialised IMAGE to be filled chunk by chunk, on the device that keeps images."""

    # Curves.

    def read_curve(self, value: Wire) -> Curve | None:
        """Core's curve of a CURVE, None for any other value; the host's own curves run over
        steps."""

    def curve(self, curve: Curve) -> Wire:
        """A CURVE."""

    # The autoencoder.

    def encode(self, vae: Wire, pixels: Tensor) -> Latent: ...
    def decoder(self, vae: Wire) -> Decoder: ...

    def raw(self, latent: Mapping[str, Any]) -> Tensor:
        """The unscaled latents of the VAE, [b, t, c, h, w], on the compute device."""

    # Video.

    def video(self, stream: VideoStream) -> Wire:
        """A VIDEO whose frames are only made while it is saved."""

    def stream(self, video: Wire) -> VideoStream: ...

    def optical_flow(self, model: nn.Module) -> Wire:
        """An OPTICAL_FLOW of a module with the call signature of torchvision's RAFT."""

    def flow(self, optical_flow: Wire) -> Flow:
        """The function of an OPTICAL_FLOW that estimates the motion between frames [n, 3, h, w] in
        [-1, 1]."""

    def blocked(self, sentence: str) -> Any:
        """The value of an output that was not made: nodes that read it stop with the sentence."""

    # The run.

    def running(self) -> RunningNode | None:
        """The node that runs now; None outside of a run."""

    def progress(self, done: float, total: float, part: StageProgress | None = None) -> None:
        """Report the node's progress; a request to stop takes effect here, too."""

    def check_interrupted(self) -> None: ...
    def warn(self, sentence: str) -> None:
        """Warn the user, once per run of the node, of settings that run but look wrong."""

    def require_memory(self, need: float, what: str, *, on_cpu: bool = False) -> None:
        """Check before work starts that `need` bytes fit into the memory of the compute device, or
        of the CPU; `what` names what needs them, such as "sampling 16 frames of 512x512".

        A host that does not manage memory raises ValueError if they do not fit into free memory,
        unless the user insists on trying. One that manages memory warns above the device's total
        and raises only far above it.
        """

    def save_unfinished(self, latent: Latent) -> Path:
        """Save the finished part of a video whose sampling ended early; returns the file."""

    def report_unfinished(self, path: Path, sentence: str) -> None:
        """Tell the user, by this sentence, where the finished part of an interrupted run is."""

    def metadata(self, hidden: Any) -> dict[str, str]:
        """`prompt` and `workflow` as JSON for saved files; {} if the user wants none."""
