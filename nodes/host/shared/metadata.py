"""Metadata of saved files, such as the workflow, as strict JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....core.graph.json_text import write_json


def workflow_texts(hidden: Any) -> dict[str, str]:
    """The workflow and the prompt among a node's hidden inputs, as JSON by their keys."""
    given = {**(hidden.extra_pnginfo or {})}
    if hidden.prompt is not None:
        given["prompt"] = hidden.prompt
    return {key: write_json(value) for key, value in given.items()}


def metadata_texts(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """The metadata with every value that is not a string as JSON."""
    return {key: value if isinstance(value, str) else write_json(value)
            for key, value in (metadata or {}).items()}  # fmt: skip
