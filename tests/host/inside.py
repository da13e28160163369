"""Imports this pack in ComfyUI's own Python, without a server, for the programs in this folder.
(Not for pytest's Python.)"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def begin(comfyui: str, *arguments: str):
    """Import ComfyUI for the CPU, with further arguments, and the pack as `videoldm`; returns its
    host. Imports nothing again if inside_server.py has already done so."""
    if "videoldm" not in sys.modules:
        _import_all(comfyui, *arguments)
    from videoldm.nodes.host import host

    return host


def import_more() -> None:
    """Import ahead of time what many of the programs need."""
    import comfy.sample  # noqa: F401
    import comfy.sd  # noqa: F401
    import diffusers  # noqa: F401
    import transformers  # noqa: F401
    import videoldm.nodes.host.comfyui.loaders  # noqa: F401
    import videoldm.nodes.stages.sampling  # noqa: F401

    import nodes  # noqa: F401


def _import_all(comfyui: str, *arguments: str) -> None:
    sys.path.insert(0, comfyui)
    sys.argv = [sys.argv[0], "--cpu", *arguments]
    import comfy.options

    comfy.options.enable_args_parsing()
    # The pack checks for these modules to tell whether ComfyUI imports it.
    import comfy.model_management  # noqa: F401
    import comfy_api.latest  # noqa: F401
    import folder_paths  # noqa: F401

    spec = importlib.util.spec_from_file_location(
        "videoldm", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["videoldm"] = package
    spec.loader.exec_module(package)
