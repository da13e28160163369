"""A small stand-in for `comfy_api.latest.io`: the part of the V3 node API that the nodes here use.

Nodes written for ComfyUI's V3 API work with it unchanged. It only describes nodes; `registry.py`
interprets the descriptions. It does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Hidden(str, Enum):
    """Hidden inputs that a node may request; read as `cls.hidden.<name>`."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    video = "video_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class ControlAfterGenerate(str, Enum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class HiddenHolder:
    """The hidden values of one call; those that were not requested are None."""

    def __init__(self, **values: Any):
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> None:
        return None


# --------------------------------------------------------------------------------------------------
# Inputs and outputs.


class Input:
    """An input without a widget, which must be connected."""

    io_type = "*"

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
    ):
        self.id, self.display_name, self.optional = id, display_name, optional
        self.tooltip, self.lazy, self.advanced = tooltip, lazy, advanced
        self.extra_dict, self.raw_link = dict(extra_dict or {}), raw_link

    def get_io_type(self) -> str:
        return self.io_type


class WidgetInput(Input):
    """An input with a widget; options beyond the common ones are kept as attributes."""

    known: tuple[str, ...] = ()

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        socketless: bool | None = None,
        force_input: bool | None = None,
        advanced: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, advanced=advanced)
        unknown = sorted(set(options) - set(self.known))
        if unknown:
            raise TypeError(f"{self.io_type} input {id!r} has no option {', '.join(unknown)}")
        self.default, self.socketless, self.force_input = default, socketless, force_input
        for name in self.known:
            setattr(self, name, options.get(name))


class Output:
    io_type = "*"

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
        options: Sequence[str] | None = None,
    ):
        self.id, self.tooltip, self.is_output_list = id, tooltip, is_output_list
        self.display_name = display_name or id
        self.options = list(options or [])

    def get_io_type(self) -> str:
        return self.io_type


class ComfyType:
    """One type of wire, with the classes of its inputs and outputs."""

    io_type = "*"
    Input: type[Input] = Input
    Output: type[Output] = Output


def _type(name: str, io_type: str, widget: type[WidgetInput] | None = None) -> type[ComfyType]:
    body = {"io_type": io_type, "__module__": __name__}
    return type(
        name,
        (ComfyType,),
        {
            **body,
            "Input": type("Input", (widget or Input,), body),
            "Output": type("Output", (Output,), body),
        },
    )


def Custom(io_type: str) -> type[ComfyType]:  # noqa: N802 (the API's name)
    """A custom wire type."""
    return _type(io_type, io_type)


class _Number(WidgetInput):
    known = ("min", "max", "step", "round", "control_after_generate", "display_mode")


class _Boolean(WidgetInput):
    known = ("label_on", "label_off")


class _String(WidgetInput):
    known = ("multiline", "placeholder", "dynamic_prompts")


class _Combo(WidgetInput):
    known = ("control_after_generate", "upload", "image_folder", "remote", "multiselect")

    def __init__(self, id: str, options: Sequence[Any] | type[Enum] = (), **more: Any):
        super().__init__(id, **more)
        is_enum = isinstance(options, type) and issubclass(options, Enum)
        self.options = [one.value for one in options] if is_enum else list(options)


Int = _type("Int", "INT", _Number)
Float = _type("Float", "FLOAT", _Number)
Boolean = _type("Boolean", "BOOLEAN", _Boolean)
String = _type("String", "STRING", _String)
Combo = _type("Combo", "COMBO", _Combo)

AnyType = _type("AnyType", "*")
Audio = _type("Audio", "AUDIO")
Clip = _type("Clip", "CLIP")
ClipVision = _type("ClipVision", "CLIP_VISION")
Conditioning = _type("Conditioning", "CONDITIONING")
Guider = _type("Guider", "GUIDER")
Image = _type("Image", "IMAGE")
Latent = _type("Latent", "LATENT")
Mask = _type("Mask", "MASK")
Model = _type("Model", "MODEL")
Noise = _type("Noise", "NOISE")
Sampler = _type("Sampler", "SAMPLER")
Sigmas = _type("Sigmas", "SIGMAS")
Vae = _type("Vae", "VAE")
Video = _type("Video", "VIDEO")


class MultiType:
    """An input that takes any of several types."""

    io_type = "COMFY_MULTITYPED_V3"

    class Input(Input):
        def __init__(self, id: str, types: Sequence[type[ComfyType]], **more: Any):
            super().__init__(id, **more)
            self.types = list(types)

        def get_io_type(self) -> str:
            return ",".join(one.io_type for one in self.types)


class DynamicCombo:
    """A combo whose options have further inputs; the node receives a dict."""

    io_type = "COMFY_DYNAMICCOMBO_V3"

    @dataclass(frozen=True)
    class Option:
        key: str
        inputs: Sequence[Input]

    class Input(Input):
        io_type = "COMFY_DYNAMICCOMBO_V3"

        def __init__(self, id: str, options: Sequence[DynamicCombo.Option], **more: Any):
            super().__init__(id, **more)
            self.options = list(options)


# --------------------------------------------------------------------------------------------------
# Nodes.


@dataclass
class Schema:
    """A node's names, inputs, outputs and properties."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False

    def __post_init__(self) -> None:
        for what in ("inputs", "outputs"):
            ids = [one.id for one in getattr(self, what) if one.id is not None]
            twice = sorted({one for one in ids if ids.count(one) > 1})
            if twice:
                raise ValueError(f"{self.node_id} has {what} twice: {', '.join(twice)}")
        if self.is_output_node:
            wanted = (*self.hidden, Hidden.prompt, Hidden.extra_pnginfo)
            self.hidden = list(dict.fromkeys(wanted))


class ComfyNode:
    """Base class of nodes, which are stateless: all methods are class methods."""

    hidden: HiddenHolder = HiddenHolder()
    fingerprint_inputs: Callable[..., Any] | None = None
    validate_inputs: Callable[..., Any] | None = None
    check_lazy_status: Callable[..., Any] | None = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} does not define its schema")

    @classmethod
    def execute(cls, **inputs: Any) -> NodeOutput:
        raise NotImplementedError(f"{cls.__name__} does not say what it does")

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 (the API's name)
        return cls.define_schema()


class NodeOutput:
    """The outputs of a node, one value each, and what the user interface shows."""

    def __init__(
        self,
        *args: Any,
        ui: Any = None,
        expand: dict[str, Any] | None = None,
        block_execution: str | None = None,
    ):
        self.args, self.ui, self.expand = args, ui, expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple | None:
        return self.args or None

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class ComfyExtension:
    """A list of nodes, as returned by `comfy_entrypoint`."""

    async def on_load(self) -> None:
        return None

    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError
