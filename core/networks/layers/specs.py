"""What a temporal layer is: its declaration, and what it may read besides its input.

Every kind of layer has one small frozen dataclass, a :class:`LayerSpec`, which holds all of its
numbers and builds it. A layer is a module

    layer(h [(b t), c, h, w], frames, inputs, strength) -> the same shape

or, inside a transformer block, the same on tokens [(b t), n, c]. The strength is a number, or has
one for every frame and position, in the rank of what the layer acts on.
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
    """Raise ValueError for a place in transformer blocks that is not one of BLOCK_PLACES."""
    if place not in BLOCK_PLACES:
        raise ValueError(f"block_place is {' or '.join(BLOCK_PLACES)}, got {place!r}")


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What a layer may read besides its input; each kind reads the fields it needs."""

    embedding: Tensor | None = None  # [(b t), e]: the noise level and more
    context: Tensor | None = None  # features of given frames [(b t), c', h, w]
    text: Tensor | None = None  # the prompt of each video [b, n, e]
    times: Tensor | None = None  # of the frames [t], where they are not 0, 1, 2, ...
    image_only: Tensor | None = None  # [(b t)], other than 0 for frames that are images
    views: Views | None = None  # windows that attention sees, None = all frames
    camera: Tensor | None = None  # features of the camera's poses [(b t), n, c], without views
    cameras: Mapping[tuple[int, ...], Tensor] | None = None  # the same for each window of views
    camera_strength: float = 1.0
    extension: Any = None  # what a family's own prompt reader hands to its own layers
    scales: Scales = PLAIN  # of keys and queries
    latents: Tensor | None = None  # the network's input [(b t), c, h, w], for a first layer to read

    def of_frames(self, frames: Sequence[int], total: int) -> LayerInputs:
        """The same for the frames of a window of views, of `total` in all, as far as motion modules
        read them."""
        if self.cameras is None and self.scales is PLAIN:
            return self
        camera = None if self.cameras is None else self.cameras[tuple(frames)]
        return replace(self, camera=camera, scales=self.scales.of_frames(frames, total))


NO_INPUTS = LayerInputs()


@dataclass(frozen=True, kw_only=True)
class ModuleSpec(ABC):
    """A module with weights, declared. Subclasses are frozen dataclasses of plain values."""

    kind: ClassVar[str]  # its name in files; set by `module_kind`

    @abstractmethod
    def build(self, width: int, ops=nn) -> nn.Module:
        """Build the module for tensors of `width` channels, its own modules made by `ops`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the kind among them."""
        return {"kind": self.kind, **asdict(self)}


class LayerSpec(ModuleSpec):
    """One temporal layer, declared."""

    @property
    def place(self) -> BlockPlace | None:
        """Where in a transformer block the layer acts; None for one that acts after modules."""
        return None

    @property
    def max_frames(self) -> int | None:
        """The most frames that the layer can see together; None where there is no limit."""
        return None

    @property
    def reach(self) -> int | None:
        """Frames on either side that the answer for a frame depends on; None: all frames."""
        return None

    @property
    def scales_attention(self) -> bool:
        """Whether the layer attends over time with keys and queries that can be scaled."""
        return False

    @property
    def reads_image_only(self) -> bool:
        """Whether the layer leaves frames alone that are said to be images of their own."""
        return False

    @property
    def reads_views(self) -> bool:
        """Whether its attention can see windows of the frames instead of all of them."""
        return False


KINDS: dict[str, type[ModuleSpec]] = {}
"""The known kinds of modules by their names in files."""

Spec = TypeVar("Spec", bound=type[ModuleSpec])


def module_kind(name: str) -> Callable[[Spec], Spec]:
    """Register a ModuleSpec under the name that files call it by."""

    def register(spec: Spec) -> Spec:
        if name in KINDS:
            raise ValueError(f"{KINDS[name].__name__} and {spec.__name__} are both called {name!r}")
        spec.kind = name
        KINDS[name] = spec
        return spec

    return register


def spec_from_dict(values: Mapping[str, Any]) -> ModuleSpec:
    """Inverse of :meth:`ModuleSpec.as_dict`; ValueError for kinds or fields that are not known."""
    if not isinstance(values, Mapping) or values.get("kind") not in KINDS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        known = ", ".join(KINDS)
        raise ValueError(f"{str(kind)[:80]!r} is not a kind of temporal layer; known are {known}")
    fields = dict(values)
    kind = fields.pop("kind")
    return declare(KINDS[kind], fields, f"a layer of the kind {kind!r}")
