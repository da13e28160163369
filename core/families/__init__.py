"""The registry of model families. Each family has one or more modules: configuration, key tables,
loading, published settings.

Whatever loads or samples a published model asks this registry and names no family. To add a family,
add an entry to :func:`families` and the functions that it points to. Image models and their parts
have their own registry, :mod:`.image_models`. Heavy modules are imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint_hints import CheckpointHints
from .embedded import included as own

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.sampling_plan import Plan, UsualSettings
    from ..diffusion.schedules import NoiseSchedule
    from ..networks.autoencoder_3d import Autoencoder3D
    from ..networks.diffusion_model import DiffusionModel
    from ..networks.sparse_control import SparseControlNet
    from ..networks.temporal_decoder import VideoDecoder
    from ..networks.temporal_layers import TemporalLayers
    from ..networks.weight_updates import WeightUpdates
    from ..tasks.long_video_script import LongVideoScript
    from .animatediff_camera import CameraWeights
    from .video_parts import VideoParts


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a family provides; functions that load take `dtype` and `device`.

    name: as in the headers of its files. detects: whether a file without a header is of this
    family. load_layers: temporal layers, to be injected into an image model. load_video_model: a
    whole U-Net with its layers injected; None where no file holds one. load_parts: the same with
    whatever else the file holds; takes_hints: whether it takes `hints`, which the weights do not
    reveal. load_decoder: a temporal decoder, for latents of any image model with the same
    autoencoder. load_autoencoder: a video autoencoder. published_plan: the original's noise levels
    by the name of what was trained (such as "lavie base"), sampler and number of steps; None where
    nothing special was published; takes_schedule: whether it also takes the model's own schedule.
    long_video: the published script for long videos. usual_settings: default sampler, steps and
    guidance by the same name. kinds: descriptions of its kinds of files, for messages.
    load_updates(path, layers, ops): a LoRA of its temporal layers.
    """

    name: str
    detects: Callable[[Path], bool]
    load_layers: Callable[..., TemporalLayers]
    load_video_model: Callable[..., DiffusionModel] | None = None
    load_parts: Callable[..., VideoParts] | None = None
    load_decoder: Callable[..., VideoDecoder] | None = None
    load_autoencoder: Callable[..., Autoencoder3D] | None = None
    takes_hints: bool = False
    published_plan: Callable[..., Plan] | None = None
    long_video: LongVideoScript | None = None
    takes_schedule: bool = False
    usual_settings: Callable[[str], UsualSettings | None] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    task: str = ""  # if set, a model known only by this task is of this family
    load_updates: Callable[..., WeightUpdates] | None = None


@cache
def families() -> tuple[Family, ...]:
    """All families, the project's own format first; imported on the first call."""
    from . import (
        animatediff,
        animatediff_sampling,
        lavie,
        lavie_sampling,
        modelscope,
        modelscope_sampling,
    )
    from .embedded import loading as embedded

    return (
        Family(
            name=embedded.FAMILY,
            detects=lambda path: False,
            load_layers=embedded.load_temporal_layers,
            kinds=embedded.KINDS,
        ),
        Family(
            name=animatediff.FAMILY,
            detects=animatediff.detects,
            load_layers=animatediff.load_layers,
            published_plan=animatediff_sampling.published_plan,
            usual_settings=animatediff_sampling.usual_settings,
            load_updates=animatediff.load_updates,
        ),
        _image_to_video(),
        Family(
            name=modelscope.FAMILY,
            detects=modelscope.detects,
            load_layers=modelscope.load_layers,
            load_video_model=modelscope.load,
            published_plan=modelscope_sampling.published_plan,
            usual_settings=modelscope_sampling.usual_settings,
        ),
        *_networks_for_video(),
        Family(
            name=lavie.FAMILY,
            detects=lavie.detects,
            load_layers=lavie.load_layers,
            load_video_model=lavie.load,
            published_plan=lavie_sampling.published_plan,
            usual_settings=lavie_sampling.usual_settings,
            kinds=lavie.KINDS,
        ),
    )


def _image_to_video() -> Family:
    from . import svd, svd_sampling

    return Family(
        name=svd.FAMILY,
        detects=svd.detects,
        load_layers=svd.load_layers,
        load_video_model=svd.load_model,
        load_parts=svd.load_parts,
        load_decoder=svd.load_decoder,
        published_plan=svd_sampling.published_plan,
        task=svd.TASK,
    )


def _networks_for_video() -> tuple[Family, ...]:
    """Families whose networks were built for video, without layers for an image model."""
    from . import lvdm, lvdm_sampling, videocrafter

    return (
        Family(
            name=lvdm.FAMILY,
            detects=lvdm.detects,
            load_layers=lvdm.load_layers,
            load_video_model=lvdm.load_model,
            load_parts=lvdm.load_parts,
            load_autoencoder=lvdm.load_vae,
            takes_hints=True,
            published_plan=lvdm_sampling.published_plan,
            takes_schedule=True,
            long_video=lvdm_sampling.SCRIPT,
            kinds=lvdm.KINDS_IN_WORDS,
        ),
        Family(
            name=videocrafter.FAMILY,
            detects=videocrafter.detects,
            load_layers=lvdm.load_layers,
            load_video_model=videocrafter.load_model,
            load_parts=videocrafter.load_parts,
            published_plan=lvdm_sampling.published_plan,
            takes_schedule=True,
        ),
    )


def family_of(path: Path) -> Family:
    """The family of a file, by its header or else by its weights.

    If no family recognises the file, the last one is returned: its loader raises an error that says
    what it looked for.
    """
    from ..weights.weight_files import header_of

    header, (first, *published) = header_of(path), families()
    if header is not None:
        return next((one for one in published if one.name == header.family), first)
    return next((one for one in published if one.detects(path)), published[-1])


def kind_in_words(family: str, kind: str) -> str | None:
    """The description of a kind of file, such as "temporal layers": the family's, else that of the
    project's own format; None for an unknown kind."""
    first, *published = families()
    named = next((one.kinds for one in published if one.name == family), {})
    return named.get(kind) or first.kinds.get(kind)


def load_temporal_layers(path: Path, **where: Any) -> TemporalLayers:
    """Load the temporal layers in a file; of a whole video model, only its layers."""
    return family_of(path).load_layers(path, **where)


def load_layer_updates(path: Path, layers: TemporalLayers, ops: Any) -> WeightUpdates:
    """Load a LoRA for temporal layers, as modules made by `ops`.

    Raises CheckpointError for a file that does not fit these layers.
    """
    (load,) = (one.load_updates for one in families() if one.load_updates is not None)
    return load(path, layers, ops)


def load_video_model(path: Path, **where: Any) -> tuple[str, DiffusionModel]:
    """Load the whole video model in a file: (name of its family, model).

    Raises CheckpointError for a file that holds none.
    """
    from ..weights.checkpoints import CheckpointError

    family = family_of(path)
    if family.load_video_model is None:
        raise CheckpointError(
            f"{path.name} holds no whole video model: its family is {family.name}"
        )
    return family.name, family.load_video_model(path, **where)


def load_video_parts(
    path: Path, hints: CheckpointHints | None = None, **where: Any
) -> tuple[str, VideoParts]:
    """Load the video model in a file with whatever else the file holds: (family name, parts).

    Raises CheckpointError for a file without a whole video model, and if `hints` lacks something
    that the weights do not reveal.
    """
    from .video_parts import VideoParts

    family = family_of(path)
    if family.load_parts is not None:
        more = {"hints": hints or CheckpointHints()} if family.takes_hints else {}
        return family.name, family.load_parts(path, **more, **where)
    name, model = load_video_model(path, **where)
    return name, VideoParts(model=model)


def load_temporal_decoder(path: Path, **where: Any) -> VideoDecoder:
    """Load the temporal decoder in a published file, with the matching encoder if the file has it.

    Raises CheckpointError for a file that holds none.
    """
    from ..weights.checkpoints import CheckpointError

    loaders = [one.load_decoder for one in families() if one.load_decoder is not None]
    for k, load in enumerate(loaders):
        try:
            return load(path, **where)
        except CheckpointError:
            if k == len(loaders) - 1:
                raise
    raise CheckpointError(f"{path.name} holds no temporal decoder")


def load_video_autoencoder(path: Path, **where: Any) -> Autoencoder3D | None:
    """Load the video autoencoder in a file; None if the file's family has none."""
    load = family_of(path).load_autoencoder
    return None if load is None else load(path, **where)


def family_for(task: str) -> str:
    """The name of the family of a model known only by its task; "" if unknown."""
    return next((one.name for one in families() if task and one.task == task), "")


def published_plan(
    trained: str, sampler: str, steps: int, schedule: NoiseSchedule | None = None
) -> Plan:
    """The noise levels that the original uses for what was trained, such as "lavie base".

    schedule: the model's own, for families that need it. Raises ValueError where none are known.
    """
    for family in families():
        if family.published_plan is not None and trained.split(" ")[0] == family.name:
            more = {"schedule": schedule} if family.takes_schedule else {}
            return family.published_plan(trained, sampler, steps, **more)
    known = ", ".join(one.name for one in families() if one.published_plan)
    raise ValueError(f"published settings are known for {known}, not for {trained!r}")


def usual_settings(trained: str) -> UsualSettings | None:
    """Default sampling settings for what was trained, such as "animatediff animatelcm"; None if
    unknown."""
    for family in families():
        if family.usual_settings is not None and trained.split(" ")[0] == family.name:
            return family.usual_settings(trained)
    return None


def published_long_video(trained: str) -> LongVideoScript:
    """The script for long videos published with what was trained, such as "lvdm given frames";
    ValueError if there is none."""
    for family in families():
        if family.long_video is not None and trained.split(" ")[0] == family.name:
            return family.long_video
    raise ValueError("the model was not published with a script for long videos: set as_published "
                     "of its strategy to false")  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Models that come with the pack.

VIDEO_MODEL_FILES = (
    "lavie_base.pt", "lavie_interpolation.pt", "lavie_vsr.pt", "svd_xt.safetensors",
    "text2video_pytorch_model.pth",
)  # fmt: skip
"""Published names of some files that hold a whole video model."""


def included_names(kind: str) -> tuple[str, ...]:
    """The names of the included models of a kind, the default first.

    kind: "image_model", "temporal_layers", "temporal_decoder", "upsampler" or "video_model".
    """
    return tuple(one.name for one in own.MODELS if one.kind == kind)


def included_files(name: str) -> list[Path]:
    """The files of all included models of this name, of any kind."""
    return [own.path_of(one.file) for one in own.MODELS if one.name == name]


def included_layers(*tasks: str) -> tuple[str, ...]:
    """The names of the included temporal layers for these tasks."""
    return tuple(one.name for one in own.MODELS if one.task in tasks)


def included_path(kind: str, name: str) -> Path | None:
    """The file of an included model; None for any other name.

    Raises ValueError for an unknown name that starts like those of included models.
    """
    for one in own.MODELS:
        if (one.name, one.kind) == (name, kind):
            return own.path_of(one.file)
    if name.startswith(f"{own.NAME}: "):
        known = ", ".join(included_names(kind))
        what = kind.replace("_", " ")
        raise ValueError(f"there are no {own.NAME} {what} {name!r}: choose one of {known}")
    return None


def included_folders() -> dict[str, Path]:
    """The folders of the included weights, by family name."""
    return {own.NAME: own.WEIGHTS}


def own_weights_in(folder: Path) -> AbstractContextManager[None]:
    """Use another folder's weights as the included ones inside this context."""
    return own.weights_in(folder)


def rendered_video(world: str, *, seed: int, frames: int, size: int) -> Tensor:
    """Frames [t 3 size size] in [-1, 1] of a rendered training world of the included models, such
    as "driving", at four times the frame rate of the training videos."""
    from .embedded.worlds import rendered

    return rendered(world, seed=seed, frames=frames, size=size)


def load_sparse_control(path: Path, **where: Any) -> SparseControlNet:
    """Load a SparseCtrl: a ControlNet with temporal attention."""
    from . import animatediff_sparse

    return animatediff_sparse.load(path, **where)


def image_motion(name: str) -> tuple[float, ...]:
    """A PIA preset: similarity of a frame to the input image, in 0 .. 1, by distance in frames."""
    from .animatediff_config import LIKENESS

    return LIKENESS[name]


def read_camera_control(path: Path) -> CameraWeights:
    """Read CameraCtrl's weights, which let temporal layers follow a camera trajectory."""
    from . import animatediff_camera

    return animatediff_camera.read(path)
