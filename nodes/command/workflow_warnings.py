"""Warnings that a run would give, as far as the workflow shows without loading weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core.families import included_path
from ...core.graph import Graph, Link, Node, Registry
from ...core.graph.messages import shown
from ...core.graph.schema import describe
from ...core.graph.validate import output_nodes, upstream
from ..choices import VIEWS
from ..host.shared.model_names import IMAGE_MODEL, TEMPORAL_LAYERS, UPSAMPLER, model_file
from ..host.shared.setup_warnings import (
    MADE_FOR,
    NO_FACTS,
    LayerFacts,
    SamplerSetup,
    core_sampler_warnings,
    interpolation_warnings,
    sampler_warnings,
    upsampling_warnings,
)
from ..host.standalone.host import StandaloneHost

LOADERS = ("VideoLDM_LoadImageModel", "CheckpointLoaderSimple", "UNETLoader")
"""Nodes that output a MODEL without temporal layers."""
FILES = {
    "VideoLDM_LoadImageModel": ("checkpoints", IMAGE_MODEL, "model"),
    "VideoLDM_LoadUpsampler": ("checkpoints", UPSAMPLER, "upsampler"),
    "VideoLDM_LoadVideoModel": ("videoldm", "", "model"),
    "CheckpointLoaderSimple": ("checkpoints", "", "ckpt_name"),
}
"""Nodes that load a model or its CLIP: the folder of files, the kind of the pack's own models (""
for none), and the input with the name."""
SCHEDULES_OF_WINDOWS = ("strategy.window_schedule", "strategy.windows.window_schedule")
USUAL_FRAMES = 16
"""Frames of the training videos, if the header does not tell."""
MANY = 10_000
"""Assumed frames of a video of unknown length."""


def workflow_warnings(
    graph: Graph, registry: Registry, host: StandaloneHost
) -> list[tuple[str, str]]:
    """(node id, warning that names the node) for everything that looks wrong."""
    reader = _Reader(graph, registry, host)
    found = []
    for node_id in upstream(graph, output_nodes(graph, registry)):
        node = graph.nodes[node_id]
        rule = RULES.get(node.class_type)
        texts = [*rule(reader, node), *_foreign_prompts(reader, node)] if rule else []
        found += [(node_id, f"{describe(node)}: {text}") for text in texts]
    return found


class _Reader:
    """What a graph shows about the models on its wires."""

    def __init__(self, graph: Graph, registry: Registry, host: StandaloneHost):
        self.graph, self.registry, self.host = graph, registry, host

    def known(self, link: Any) -> LayerFacts:
        """The temporal layers in the MODEL of a wire."""
        put_in: list[LayerFacts] = []
        seen: set[str] = set()
        node = self._source(link)
        while node is not None and node.id not in seen and self._at(node) is None:
            seen.add(node.id)
            if node.class_type == "VideoLDM_InjectTemporalLayers":
                put_in.append(self.layers(node.inputs.get("layers")))
            node = self._source(self._passed_on(node))
        found = (node and self._at(node)) or NO_FACTS
        for more in reversed(put_in):
            found = _added(found, more)
        return found

    def _source(self, link: Any) -> Node | None:
        return self.graph.nodes.get(link.node_id) if isinstance(link, Link) else None

    def _at(self, node: Node) -> LayerFacts | None:
        """The layers in a node's MODEL if its inputs do not matter; None for other nodes."""
        if node.class_type in LOADERS or node.class_type == "VideoLDM_EjectTemporalLayers":
            return LayerFacts(present=False)
        if node.class_type == "VideoLDM_LoadVideoModel":
            return self.file(node.inputs.get("model"))
        if node.class_type == "VideoLDM_LoadUpsampler":
            return self.upsampler(node.inputs.get("upsampler"))
        return None

    def layers(self, link: Any) -> LayerFacts:
        """The layers on a wire of temporal layers."""
        node = self._source(link)
        if node is not None and node.class_type == "VideoLDM_LoadTemporalLayers":
            return self.file(node.inputs.get("layers"))
        if node is not None and node.class_type == "VideoLDM_LoadVideoModel":
            return self.file(node.inputs.get("model"))
        return LayerFacts(present=True)

    def file(self, name: Any) -> LayerFacts:
        """What the header of a file of layers tells; pickles have none."""
        try:
            return _from_header(model_file(self.host.folders, TEMPORAL_LAYERS, str(name)))
        except (OSError, ValueError):
            return LayerFacts(present=True)

    def upsampler(self, name: Any) -> LayerFacts:
        path = included_path(UPSAMPLER, str(name))
        return _from_header(path) if path else NO_FACTS

    def loaders(self, link: Any, kinds: tuple[str, ...]) -> set[tuple[str, bool]]:
        """The models that a wire's value was loaded from, following inputs of these `kinds`
        upstream: (name, True) for those of the pack, (name, False) for published files."""
        found: set[tuple[str, bool]] = set()
        seen: set[str] = set()
        waiting = [link]
        while waiting:
            node = self._source(waiting.pop())
            if node is None or node.id in seen:
                continue
            seen.add(node.id)
            if node.class_type in FILES:
                found |= {one for one in [self._loaded(node)] if one}
            else:
                waiting += [wire for kind in kinds for wire in self._wires(node, kind)]
        return found

    def _loaded(self, node: Node) -> tuple[str, bool] | None:
        folder, kind, name = FILES[node.class_type]
        file = str(node.inputs.get(name))
        try:
            if kind and included_path(kind, file):
                return file, True
            own = _header(self.host.folders.model_path(folder, file))
        except (OSError, ValueError):
            return None
        return None if own else (file, False)

    def _wires(self, node: Node, kind: str) -> list[Any]:
        spec = self.registry.get(node.class_type)
        names = [one.name for one in spec.inputs if one.type == kind] if spec else []
        return [node.inputs.get(name) for name in names]

    def _passed_on(self, node: Node) -> Any:
        """The MODEL input of a node that has just one, such as a LoRA loader."""
        taken = self._wires(node, "MODEL")
        return taken[0] if len(taken) == 1 else None


def _added(before: LayerFacts, more: LayerFacts) -> LayerFacts:
    """Layers injected into a model that may already have some; see `layer_facts.layer_facts`."""
    if not before.present:
        return more
    return LayerFacts(
        present=True,
        task=more.task or before.task,
        trained_frames=max(more.trained_frames, before.trained_frames),
        takes_context=more.takes_context or before.takes_context,
    )


def _from_header(path: Path) -> LayerFacts:
    """What the header of a file tells, in the current format or the older, flat one."""
    header = _header(path)
    config, recipe = _objects(header, "config"), _objects(header, "notes").get("recipe")
    if header.get("kind") == "upsampler":
        config, recipe = _objects(config, "layers"), "upsampling"
    elif header.get("kind") != "temporal_layers":
        return LayerFacts(present=True)
    trained = _objects(config, "trained")
    said = trained.get("task") or config.get("task") or str(recipe).replace("_", " ")
    frames = trained.get("frames", config.get("trained_frames", USUAL_FRAMES))
    return LayerFacts(
        present=True,
        task=said if said in MADE_FOR else "",
        trained_frames=frames if isinstance(frames, int) else 0,
        takes_context=bool(config.get("context") or config.get("context_channels")),
    )


def _header(path: Path) -> dict[str, Any]:
    """The header of a file in this project's format, {} for others."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = json.loads((file.metadata() or {}).get("videoldm", "{}"))
    except (SafetensorError, ValueError, OSError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _objects(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


# --------------------------------------------------------------------------------------------------
# Nodes.


def _foreign_prompts(reader: _Reader, node: Node) -> Iterator[str]:
    """Warnings about prompts whose CLIP cannot be the model's: one is the pack's, the other a
    published file's."""
    models = reader.loaders(node.inputs.get("model"), ("MODEL",))
    for which in ("positive", "negative") if len(models) == 1 else ():
        ((model, included),) = models
        encoders = reader.loaders(node.inputs.get(which), ("CONDITIONING", "CLIP"))
        foreign = [name for name, own in encoders if own != included]
        if foreign:
            yield (
                f"the {which} prompt is encoded by the CLIP of {shown(foreign[0])}, but the model "
                f"is {shown(model)}: connect the CLIP that was loaded with the model"
            )


def _number(node: Node, name: str) -> int:
    value = node.inputs.get(name)
    return value if isinstance(value, int) else 0


def _sampler(reader: _Reader, node: Node) -> list[str]:
    strategy = node.inputs.get("strategy")
    if not isinstance(strategy, str):
        return []
    connected = {name: reader.known(link) for name, link in node.links.items()}
    setup = SamplerSetup(
        model=connected.get("model", NO_FACTS),
        strategy=strategy,
        frames=_number(node, "frames"),
        window=_number(node, "strategy.window") or _number(node, "strategy.windows.window"),
        passes=_number(node, "strategy.passes") or 1,
        given="context" in connected and node.inputs.get("strategy.hold_context") is not True,
        windows=str(node.inputs.get("strategy.windows", "")),
        views=VIEWS in (node.inputs.get(name) for name in SCHEDULES_OF_WINDOWS),
        prediction=connected.get("strategy.prediction_model"),
        interpolation=connected.get("strategy.interpolation_model"),
    )
    return sampler_warnings(setup)


def _interpolator(reader: _Reader, node: Node) -> list[str]:
    return interpolation_warnings(
        reader.known(node.inputs.get("model")), _number(node, "window_keys")
    )


def _upsampler(reader: _Reader, node: Node) -> list[str]:
    known = reader.known(node.inputs.get("model"))
    # The video's length is unknown, only that of chunks is not.
    return upsampling_warnings(known, MANY, _number(node, "chunk")) if known.present else []


def _core_sampler(reader: _Reader, node: Node) -> Iterator[str] | list[str]:
    latent = node.inputs.get("latent_image")
    source = reader.graph.nodes.get(latent.node_id) if isinstance(latent, Link) else None
    empty = source is not None and source.class_type == "EmptyLatentImage"
    frames = _number(source, "batch_size") if empty else 0
    return core_sampler_warnings(reader.known(node.inputs.get("model")), frames)


RULES: dict[str, Callable[[_Reader, Node], Any]] = {
    "VideoLDM_VideoSampler": _sampler,
    "VideoLDM_InterpolateFrames": _interpolator,
    "VideoLDM_UpsampleVideo": _upsampler,
    "KSampler": _core_sampler,
    "KSamplerAdvanced": _core_sampler,
}
