"""Stand-ins for ComfyUI's primitive nodes: one value each."""

from __future__ import annotations

import sys

from . import io


def _primitive(name: str, title: str, kind: type[io.ComfyType], **options) -> type[io.ComfyNode]:
    def define_schema(cls: type) -> io.Schema:
        return io.Schema(
            node_id=name,
            display_name=title,
            category="utilities/primitive",
            description="Holds one value for any number of inputs.",
            inputs=[kind.Input("value", tooltip="The value.", **options)],
            outputs=[kind.Output()],
        )

    def execute(cls: type, value) -> io.NodeOutput:
        return io.NodeOutput(value)

    methods = {"define_schema": classmethod(define_schema), "execute": classmethod(execute)}
    return type(name, (io.ComfyNode,), methods)


RANGE = {"min": -sys.maxsize, "max": sys.maxsize}

PRIMITIVES = [
    _primitive(
        "PrimitiveInt", "Int", io.Int, default=0,
        control_after_generate=io.ControlAfterGenerate.fixed, **RANGE,
    ),
    _primitive("PrimitiveFloat", "Float", io.Float, default=0.0, step=0.1, **RANGE),
    _primitive("PrimitiveString", "Text", io.String, default=""),
    _primitive(
        "PrimitiveStringMultiline", "Text (Multiline)", io.String, default="", multiline=True
    ),
    _primitive("PrimitiveBoolean", "Boolean", io.Boolean, default=False),
]  # fmt: skip
