"""Temporal layers: their declaration, and what they may read besides their input.

Every kind of layer has a small frozen dataclass, a :class:`LayerSpec`, which holds all of its
settings and builds it. A layer is a module

    layer(h [(b t), c, h, w], frames, inputs, strength) -> the same shape

or, inside a transformer block, the same on tokens [(b t), n, c]. The strength is a number, or a
tensor that broadcasts to what the layer acts on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from ..declared import declare
from .scales import PLAIN, Scales
from .views import Views

BlockPlace = Literal["before_feed_forward", "after_feed_forward"]
BLOCK_PLACES: tuple[BlockPlace, ...] = ("before_feed_forward", "after_feed_forward")


def check_block_place(place: str) -> None:
    """Raise ValueError for a place that is not one of BLOCK_PLACES."""
    if place not in BLOCK_PLACES:
        raise ValueError(f"block_place is {' or '.join(BLOCK_PLACES)}, got {place!r}")


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What a layer may read besides its input; each kind reads the fields it needs."""

    embedding: Tensor | None = None  # [(b t), e]: the noise level and more
    context: Tensor | None = None  # features of context frames [(b t), c', h, w]
    text: Tensor | None = None  # the prompt of each video [b, n, e]
    times: Tensor | None = None  # of the frames [t]; None = 0, 1, 2, ...
    image_only: Tensor | None = None  # [(b t)], nonzero for independent images
    views: Views | None = None  # windows for attention, None = all frames
    camera: Tensor | None = None  # features of camera poses [(b t), n, c], of all frames
    cameras: Mapping[tuple[int, ...], Tensor] | None = None  # the same for each window of views
    camera_strength: float = 1.0
    extension: Any = None  # from a family's prompt reader to its own layers
    scales: Scales = PLAIN  # of keys and queries
    latents: Tensor | None = None  # the network's input [(b t), c, h, w], for a first layer

    def of_frames(self, frames: Sequence[int], total: int) -> LayerInputs:
        """The same for one of the views' windows, of `total` frames in all; converts only what
        motion modules read."""
        if self.cameras is None and self.scales is PLAIN:
            return self
        camera = None if self.cameras is None else self.cameras[tuple(frames)]
        return replace(self, camera=camera, scales=self.scales.of_frames(frames, total))


NO_INPUTS = LayerInputs()


@dataclass(frozen=True, kw_only=True)
class ModuleSpec(ABC):
    """A declared module with weights. Subclasses are frozen dataclasses of plain values."""

    kind: ClassVar[str]  # its name in files; set by `module_kind`

    @abstractmethod
    def build(self, width: int, ops=nn) -> nn.Module:
        """Build the module for tensors of `width` channels, its layers made by `ops`."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values, including the kind."""
        return {"kind": self.kind, **asdict(self)}


class LayerSpec(ModuleSpec):
    """One declared temporal layer."""

    @property
    def place(self) -> BlockPlace | None:
        """Where in a transformer block the layer acts; None = after a module."""
        return None

    @property
    def max_frames(self) -> int | None:
        """The most frames that the layer can see together; None = no limit."""
        return None

    @property
    def reach(self) -> int | None:
        """Frames on either side that the output for a frame depends on; None = all frames."""
        return None

    @property
    def scales_attention(self) -> bool:
        """Whether it has temporal attention whose keys and queries can be scaled."""
        return False

    @property
    def reads_image_only(self) -> bool:
        """Whether it leaves frames unchanged that are independent images."""
        return False

    @property
    def reads_views(self) -> bool:
        """Whether its attention can be windowed."""
        return False


KINDS: dict[str, type[ModuleSpec]] = {}
"""The registered kinds of modules, by their names in files."""

Spec = TypeVar("Spec", bound=type[ModuleSpec])


def module_kind(name: str) -> Callable[[Spec], Spec]:
    """Register a ModuleSpec under its name in files."""

    def register(spec: Spec) -> Spec:
        if name in KINDS:
            raise ValueError(f"{KINDS[name].__name__} and {spec.__name__} are both called {name!r}")
        spec.kind = name
        KINDS[name] = spec
        return spec

    return register


def spec_from_dict(values: Mapping[str, Any]) -> ModuleSpec:
    """Inverse of :meth:`ModuleSpec.as_dict`; ValueError for unknown kinds or fields."""
    if not isinstance(values, Mapping) or values.get("kind") not in KINDS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        known = ", ".join(KINDS)
        raise ValueError(f"{str(kind)[:80]!r} is not a kind of temporal layer; known are {known}")
    fields = dict(values)
    kind = fields.pop("kind")
    return declare(KINDS[kind], fields, f"a layer of the kind {kind!r}")
