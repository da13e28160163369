"""What the nodes promise: complete schemas, frozen names, short bodies, light imports."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from videoldm.core.diffusion import samplers as sampling
from videoldm.core.diffusion.guidance import guided  # noqa: F401 (core can be imported beside the nodes)
from videoldm.core.diffusion.samplers import SAMPLERS
from videoldm.core.diffusion.schedules import SIGMA_LISTS
from videoldm.nodes import NODES, choices, node_registry
from videoldm.nodes.host.standalone.core_nodes import CORE_NODES
from videoldm.nodes.host.standalone.core_sampling import SAMPLER_NAMES, SCHEDULER_NAMES

FROZEN = Path(__file__).with_name("node_ids.json")
NODE_FILES = sorted(Path(inspect.getfile(NODES[0])).parent.glob("*.py"))


def names(inputs, prefix=""):
    """The names of inputs, followed by those of dynamic combos: strategy=prediction: window."""
    for one in inputs:
        yield f"{prefix}{one.name}"
        for choice, opened in (one.dynamic or {}).items():
            yield from names(opened, f"{prefix}{one.name}={choice}: ")


def described(specs):
    return {
        spec.id: {"inputs": list(names(spec.inputs)),
                  "required": [one.name for one in spec.inputs if one.required],
                  "outputs": [f"{one.name}:{one.type}" for one in spec.outputs]}
        for spec in specs
    }  # fmt: skip


def test_ids_and_input_names_are_frozen():
    """Saved workflows name them: inputs may only be added, and none may be renamed or removed.

    Those of the Video Sampler were regrouped by strategy before the first release.
    """
    registry = node_registry()
    found = described(registry[one.define_schema().node_id] for one in NODES)
    frozen = json.loads(FROZEN.read_text())
    for node_id, was in frozen.items():
        assert node_id in found, f"{node_id} was removed: saved workflows need it"
        now = found[node_id]
        kept = [name for name in now["inputs"] if name in was["inputs"]]
        assert kept == was["inputs"], f"inputs of {node_id} may only be appended"
        assert set(now["required"]) <= set(was["required"]), f"{node_id}: new inputs are optional"
        assert now["outputs"][: len(was["outputs"])] == was["outputs"]
    assert found == frozen, "a new node or input: add it to node_ids.json, where it stays"


def all_inputs(inputs):
    """The inputs, and those of their dynamic combos' options."""
    for one in inputs:
        yield one
        for option in getattr(one, "options", None) or ():
            yield from all_inputs(getattr(option, "inputs", ()))


@pytest.mark.parametrize("cls", NODES, ids=lambda cls: cls.__name__)
def test_schemas_explain_themselves(cls):
    schema = cls.define_schema()
    assert schema.node_id.startswith("VideoLDM_")
    assert schema.category.startswith("VideoLDM/")
    assert schema.display_name and schema.description.endswith(".")
    for one in [*all_inputs(schema.inputs), *schema.outputs]:
        assert one.tooltip, f"{schema.node_id}.{one.id} has no tooltip"
    assert schema.search_aliases, "what people look for that call it otherwise"


def opened(inputs):
    for one in inputs:
        yield one
        for more in (one.dynamic or {}).values():
            yield from opened(more)


@pytest.mark.parametrize("cls", [*NODES, *CORE_NODES], ids=lambda cls: cls.__name__)
def test_defaults_are_valid(cls):
    spec = node_registry()[cls.define_schema().node_id]
    for one in opened(spec.inputs):
        value = one.initial()
        if one.options is not None and one.choices():
            assert value in one.choices()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert one.minimum is None or value >= one.minimum
            assert one.maximum is None or value <= one.maximum


def test_widgets_come_before_optional_sockets():
    """The frontend lists required inputs first, and saves widget values in that order."""
    for cls in NODES:
        optional = [bool(one.optional) for one in cls.define_schema().inputs]
        assert optional == sorted(optional), cls.__name__


def bodies():
    for path in NODE_FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "execute":
                yield path.name, node


def test_execute_is_a_call_and_not_a_program():
    found = list(bodies())
    assert len(found) == len(NODES)
    for name, node in found:
        lines = node.body[-1].end_lineno - node.body[0].lineno + 1
        assert lines <= 10, f"{name}: execute has {lines} lines"


def test_choices_are_those_of_core():
    assert set(choices.SAMPLERS) == set(SAMPLERS)
    assert set(choices.SCHEDULES) == set(SIGMA_LISTS)
    assert all(callable(getattr(sampling, name)) for name, _ in SAMPLER_NAMES.values())
    assert {one for one in SCHEDULER_NAMES.values() if one} <= set(SIGMA_LISTS)


def test_models_of_the_pack_are_those_of_the_family():
    from videoldm.core.families.embedded import included, loading

    layers = [one.file for one in included.MODELS if one.kind == "temporal_layers"]
    assert tuple(layers) == loading.TEMPORAL_LAYERS
    assert {one.kind for one in included.MODELS} <= set(loading.KINDS)


def test_listing_the_nodes_loads_no_heavy_library():
    program = (
        "import sys; from videoldm.nodes import node_registry; node_registry();"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'av'} & set(sys.modules);"
        "print(sorted(heavy)); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_combos_list_files_anew(tmp_path, configure):
    configure(models=[tmp_path])
    spec = node_registry()["VideoLDM_LoadTemporalLayers"].inputs[0]
    assert "mine.safetensors" not in spec.choices()
    (tmp_path / "videoldm").mkdir()
    (tmp_path / "videoldm" / "mine.safetensors").touch()
    assert "mine.safetensors" in spec.choices()


def test_the_extension_gives_every_node():
    import asyncio

    import videoldm

    extension = asyncio.run(videoldm.comfy_entrypoint())
    assert asyncio.run(extension.get_node_list()) == NODES
