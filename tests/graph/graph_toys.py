"""A small registry of toy nodes, and builders for workflows made of them."""

from __future__ import annotations

from typing import Any

from videoldm.core.graph import (
    Executor,
    InputSpec,
    NodeResult,
    NodeSpec,
    OutputSpec,
    graph_from_api,
)


def socket(name: str, type: str, **more: Any) -> InputSpec:
    return InputSpec(name=name, type=type, kind="socket", **more)


def widget(name: str, type: str, **more: Any) -> InputSpec:
    return InputSpec(name=name, type=type, kind="widget", **more)


def out(type: str, name: str = "", is_list: bool = False) -> OutputSpec:
    return OutputSpec(name=name or type, type=type, is_list=is_list)


CODEC = widget(
    "codec",
    "COMFY_DYNAMICCOMBO_V3",
    dynamic={
        "h264": [
            widget("crf", "INT", default=20, minimum=0, maximum=51),
            widget("encoding", "COMFY_DYNAMICCOMBO_V3", dynamic={
                "fast": [], "slow": [widget("passes", "INT", default=2)]}),
        ],
        "gif": [widget("colors", "INT", default=64)],
    },
)  # fmt: skip

SAMPLER_INPUTS = (
    socket("model", "MODEL"),
    widget("seed", "INT", default=0, minimum=0, maximum=2**32 - 1),
    widget("steps", "INT", default=20, minimum=1, maximum=100),
    widget("cfg", "FLOAT", default=7.5, minimum=0.0, maximum=30.0),
    widget("sampler", "COMBO", options=("euler", "heun", "ddim")),
    socket("mask", "MASK", required=False),
    widget("tiled", "BOOLEAN", default=False, required=False),
    socket("latent", "LATENT"),
)


def load(name: str) -> NodeResult:
    return NodeResult((f"model:{name}", f"clip:{name}"))


def sample(**inputs: Any) -> NodeResult:
    return NodeResult((("latent", tuple(sorted(inputs.items(), key=str))),))


def save(images: Any, **inputs: Any) -> NodeResult:
    return NodeResult((), ui={"images": [images]})


SPECS = [
    NodeSpec(id="Loader", display_name="Load Model", execute=load,
             inputs=(widget("name", "COMBO", options=("a.safetensors", "b.safetensors")),),
             outputs=(out("MODEL"), out("CLIP"))),
    NodeSpec(id="Text", execute=lambda clip, text: NodeResult(((clip, text),)),
             inputs=(socket("clip", "CLIP"),
                     widget("text", "STRING", multiline=True, dynamic_prompts=True, default="")),
             outputs=(out("CONDITIONING"),)),
    NodeSpec(id="Empty", inputs=(widget("width", "INT", default=64, minimum=8, maximum=512),),
             outputs=(out("LATENT"),), execute=lambda width: NodeResult((width,))),
    NodeSpec(id="Sampler", display_name="Video Sampler", inputs=SAMPLER_INPUTS,
             outputs=(out("LATENT"),), execute=sample),
    NodeSpec(id="LoadImage", inputs=(widget("image", "COMBO", options=("a.png", "b.png"),
                                            upload=True),
                                     widget("scale", "FLOAT", default=1.0)),
             outputs=(out("IMAGE"), out("MASK")),
             execute=lambda image, scale: NodeResult(((image, scale), None))),
    NodeSpec(id="Blend", inputs=(socket("first", "IMAGE"), socket("second", "IMAGE"),
                                 socket("extra", "LATENT", required=False)),
             outputs=(out("IMAGE"), out("LATENT")),
             execute=lambda first, second, extra=None: NodeResult(((first, second), extra))),
    NodeSpec(id="Decode", inputs=(socket("latent", "LATENT"),), outputs=(out("IMAGE"),),
             execute=lambda latent: NodeResult((("image", latent),))),
    NodeSpec(id="Save", is_output_node=True, execute=save,
             inputs=(socket("images", "IMAGE"), widget("prefix", "STRING", default="video"))),
    NodeSpec(id="SaveVideo", is_output_node=True, execute=save,
             inputs=(socket("images", "IMAGE"), CODEC,
                     widget("fps", "FLOAT", default=8.0, minimum=1.0))),
    NodeSpec(id="Any", inputs=(socket("value", "*"),), is_output_node=True,
             execute=lambda value: NodeResult((), ui={"value": [value]})),
    NodeSpec(id="Number", inputs=(socket("value", "INT,FLOAT"),), outputs=(out("FLOAT"),),
             execute=lambda value: NodeResult((float(value),))),
    NodeSpec(id="Int", inputs=(widget("value", "INT", default=0),), outputs=(out("INT"),),
             execute=lambda value: NodeResult((value,))),
    NodeSpec(id="Points", is_output_node=True, inputs=(widget("points", "POINTS", default=()),),
             execute=lambda points: NodeResult((), ui={"points": list(points)})),
    NodeSpec(id="Many", is_output_node=True,
             inputs=(InputSpec(name="images", type="COMFY_AUTOGROW_V3", minimum=2,
                               template=socket("image", "IMAGE"),
                               names=("image0", "image1", "image2")),),
             execute=lambda images: NodeResult((), ui={"images": [images]})),
]  # fmt: skip

REGISTRY = {spec.id: spec for spec in SPECS}


def node(node_id: Any, type: str, *, inputs: Any = (), values: Any = None, **more: Any) -> dict:
    """Build a UI node; `inputs` are (name, type, link id), or with True at the end for widgets."""
    slots = [
        {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if rest else {})}
        for name, kind, link, *rest in inputs
    ]
    built = {"id": node_id, "type": type, "mode": 0, "inputs": slots, "outputs": []}
    if type in REGISTRY:
        outputs = REGISTRY[type].outputs
        built["outputs"] = [{"name": one.name, "type": one.type} for one in outputs]
        built["properties"] = {"Node name for S&R": type}
    if values is not None:
        built["widgets_values"] = values
    return {**built, **more}


def ui(nodes: list[dict], links: list, **more: Any) -> dict:
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def api(**nodes: tuple) -> dict:
    """Build an API prompt from n1=("Class", {inputs}) and so on; ids are the numbers."""
    return {
        key.removeprefix("n"): {"class_type": kind, "inputs": inputs}
        for key, (kind, inputs) in nodes.items()
    }


def full_api() -> dict:
    """Return a prompt that goes through every stage of the toy pack."""
    return api(
        n1=("Loader", {"name": "a.safetensors"}),
        n2=("Empty", {"width": 64}),
        n3=("Sampler", {"model": ["1", 0], "latent": ["2", 0], "seed": 5, "steps": 4, "cfg": 3.0,
                        "sampler": "heun", "tiled": True}),
        n4=("Decode", {"latent": ["3", 0]}),
        n5=("Save", {"images": ["4", 0], "prefix": "x"}),
    )  # fmt: skip


SAMPLER = [5, "randomize", 20, 7.5, "heun", True]


def sampler(**more) -> dict:
    wires = [("model", "MODEL", 1), ("latent", "LATENT", 2)]
    return node(3, "Sampler", inputs=more.pop("inputs", wires), values=SAMPLER, **more)


def link(number: int, origin: int, slot: int, target: int, at: int, kind: str) -> dict:
    return {"id": number, "origin_id": origin, "origin_slot": slot, "target_id": target,
            "target_slot": at, "type": kind}  # fmt: skip


def registry(*specs: NodeSpec) -> dict[str, NodeSpec]:
    return {**REGISTRY, **{spec.id: spec for spec in specs}}


def source(function, **more) -> NodeSpec:
    return NodeSpec(id="Source", outputs=(out("INT"),), execute=function, **more)


def run(prompt: dict, *specs: NodeSpec, **options):
    return Executor(registry(*specs), cache=False).run(graph_from_api(prompt), **options)


def shown(prompt: dict, *specs: NodeSpec) -> list:
    """Return what the Any nodes of a prompt show."""
    return [item for ui in run(prompt, *specs).ui.values() for item in ui["value"]]


NEXT = NodeSpec(id="Next", inputs=(socket("value", "INT"),), outputs=(out("INT"),),
                execute=lambda value: NodeResult((value + 1,)))  # fmt: skip
