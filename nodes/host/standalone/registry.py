"""V3 node classes to the `NodeSpec`s that the workflow engine runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ....core.graph import InputSpec, NodeResult, NodeSpec, OutputSpec
from . import io
from .host import host

SIMPLE_FIELDS = (
    "is_output_node", "is_input_list", "is_deprecated", "is_experimental", "not_idempotent",
    "accept_all_inputs",
)  # fmt: skip


def node_spec(cls: type[io.ComfyNode]) -> NodeSpec:
    """Describe a node class to the workflow engine."""
    schema = cls.define_schema()
    return NodeSpec(
        id=schema.node_id,
        display_name=schema.display_name or schema.node_id,
        category=schema.category,
        description=schema.description,
        inputs=tuple(_input_spec(cls, one) for one in schema.inputs),
        outputs=tuple(_output_spec(one) for one in schema.outputs),
        hidden=tuple(one.name for one in schema.hidden),
        execute=_executor(cls, tuple(one.name for one in schema.hidden)),
        validate_inputs=cls.validate_inputs,
        fingerprint_inputs=cls.fingerprint_inputs,
        check_lazy_status=cls.check_lazy_status,
        **{name: getattr(schema, name) for name in SIMPLE_FIELDS},
    )


def build_registry(classes: Sequence[type[io.ComfyNode]]) -> dict[str, NodeSpec]:
    """Return the specs of the classes by node id; ValueError for a duplicate id."""
    registry: dict[str, NodeSpec] = {}
    for cls in classes:
        spec = node_spec(cls)
        if spec.id in registry:
            raise ValueError(f"two nodes are called {spec.id}")
        registry[spec.id] = spec
    return registry


# --------------------------------------------------------------------------------------------------
# Inputs and outputs.


def _input_spec(cls: type[io.ComfyNode], one: io.Input) -> InputSpec:
    options = one.extra_dict | vars(one)
    upload = options.get("upload")
    is_widget = isinstance(one, io.WidgetInput) and not one.force_input
    is_dynamic = isinstance(one, io.DynamicCombo.Input)
    control = options.get("control_after_generate")
    return InputSpec(
        name=one.id,
        type=one.get_io_type(),
        kind="widget" if is_widget or is_dynamic else "socket",
        required=not one.optional,
        default=options.get("default"),
        minimum=options.get("min"),
        maximum=options.get("max"),
        step=options.get("step"),
        options=_lister(cls, one) if one.get_io_type() == "COMBO" else None,
        accepts=_is_input if upload is not None else None,
        multiselect=bool(options.get("multiselect")),
        multiline=bool(options.get("multiline")),
        dynamic_prompts=bool(options.get("dynamic_prompts")),
        control_after_generate=None if control is None else bool(control),
        upload=upload is not None,
        lazy=bool(one.lazy),
        tooltip=one.tooltip,
        advanced=bool(one.advanced),
        dynamic=_opened(cls, one) if is_dynamic else None,
    )


def _is_input(value: Any) -> bool:
    return isinstance(value, str) and host.folders.input_fault(value) is None


def _opened(cls: type[io.ComfyNode], one: Any) -> dict[str, tuple[InputSpec, ...]]:
    return {
        option.key: tuple(_input_spec(cls, inner) for inner in option.inputs)
        for option in one.options
    }


def _lister(cls: type[io.ComfyNode], one: Any) -> Callable[[], tuple]:
    """A function that lists the choices, anew on each call: files come and go."""

    def choices() -> tuple:
        found = (given for given in cls.define_schema().inputs if given.id == one.id)
        return tuple(getattr(next(found, one), "options", one.options))

    return choices


def _output_spec(one: io.Output) -> OutputSpec:
    kind = one.get_io_type()
    return OutputSpec(name=one.display_name or kind, type=kind, is_list=one.is_output_list)


# --------------------------------------------------------------------------------------------------
# Running.


def _executor(cls: type[io.ComfyNode], hidden: tuple[str, ...]) -> Callable[..., Any]:
    def execute(**inputs: Any) -> Any:
        import torch

        values = {name: inputs.pop(name, None) for name in hidden}
        # A new class for each call, as in ComfyUI, so that nodes cannot keep state on it.
        own = type(cls.__name__, (cls,), {"hidden": io.HiddenHolder(**values)})
        with torch.inference_mode():
            output = own.execute(**inputs)
        return _awaited(output) if inspect.isawaitable(output) else _result(output)

    return execute


async def _awaited(output: Any) -> NodeResult:
    return _result(await output)


def _result(output: Any) -> NodeResult:
    if not isinstance(output, io.NodeOutput):
        output = io.NodeOutput(*(output or ()))
    shown = output.ui
    shown = shown.as_dict() if hasattr(shown, "as_dict") else shown
    return NodeResult(tuple(output.args), shown, output.expand, output.block_execution)
