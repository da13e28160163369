"""Generates the English locale and the input tables of the help pages from the nodes' schemas.

python tests/help_pages.py      writes them, and lists texts missing in other languages
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videoldm.nodes import NODES

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "fr")
HEADINGS = {"en": ("Inputs", "Input", "What it is"), "fr": ("Entrées", "Entrée", "Ce que c'est")}
WORDS = {
    "en": {"default": "default", "to": "to", "optional": "optional"},
    "fr": {"default": "par défaut", "to": "à", "optional": "facultatif"},
}
FOLDERS = ("LoadImageModel", "LoadVideoModel", "LoadTemporalLayers", "LoadTemporalVAE",
           "LoadUpsampler", "LoadScheduledLoRA", "LoadMotionLoRA", "LoadVideo",
           "LoadSparseControl", "CameraControl")  # fmt: skip
"""Nodes whose combo options depend on the files present: these are not listed in tables."""


def schemas() -> list[Any]:
    return [node.define_schema() for node in NODES]


# Locales.


def locale_path(language: str, part: str = "nodeDefs") -> Path:
    return ROOT / "locales" / language / f"{part}.json"


def read_locale(language: str, part: str = "nodeDefs") -> dict[str, Any]:
    path = locale_path(language, part)
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def english() -> dict[str, Any]:
    """The English locale of all nodes: their schemas' own texts."""
    return {schema.node_id: _english(schema) for schema in schemas()}


def _english(schema: Any) -> dict[str, Any]:
    inputs = {name.replace(".", "_"): {"name": one.display_name or one.id, "tooltip": one.tooltip}
              for name, one in named_inputs(schema.inputs)}  # fmt: skip
    outputs = {str(k): {"name": one.display_name or one.io_type, "tooltip": one.tooltip}
               for k, one in enumerate(schema.outputs)}  # fmt: skip
    found = {"display_name": schema.display_name, "description": schema.description}
    found["inputs"] = inputs
    return found | ({"outputs": outputs} if outputs else {})


def named_inputs(inputs: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, input) of each input, those of a dynamic combo's options included, under the
    frontend's names; of several options with the same input, the first counts."""
    seen = set()
    for one in inputs:
        if one.id not in seen:
            yield f"{prefix}{one.id}", one
        seen.add(one.id)
        opened = [more for option in _options(one) for more in option.inputs]
        yield from named_inputs(opened, f"{prefix}{one.id}.")


def _options(one: Any) -> list[Any]:
    """The options of a dynamic combo."""
    return [option for option in getattr(one, "options", None) or () if hasattr(option, "inputs")]


def keys(texts: Any, prefix: str = "") -> set[str]:
    """The paths of all texts in nested dicts."""
    if not isinstance(texts, dict):
        return {prefix}
    return {key for name, one in texts.items() for key in keys(one, f"{prefix}/{name}")}


# Help pages.


def help_path(node_id: str, language: str) -> Path:
    """The English page is also the fallback for languages without one."""
    docs = ROOT / "web" / "docs"
    return docs / f"{node_id}.md" if language == "en" else docs / node_id / f"{language}.md"


def with_table(page: str, schema: Any, language: str) -> str:
    """The page with its section on inputs regenerated."""
    heading = f"## {HEADINGS[language][0]}\n"
    section = heading + "\n" + table(schema, language) + "\n"
    return re.sub(rf"{heading}.*?(?=^## |\Z)", lambda _: section, page, flags=re.S | re.M)


def table(schema: Any, language: str) -> str:
    _, first, second = HEADINGS[language]
    texts = read_locale(language)[schema.node_id]["inputs"]
    rows = [f"| {first} | | {second} |", "| --- | --- | --- |"]
    for path, one in named_inputs(schema.inputs):
        text = texts[path.replace(".", "_")]
        name, tip = text["name"], text["tooltip"]
        label = f"`{path}`" if name == one.id else f"`{path}` ({name})"
        rows.append(f"| {label} | {_range(schema, one, WORDS[language])} | {tip} |")
    return "\n".join(rows) + "\n"


def _range(schema: Any, one: Any, words: dict[str, str]) -> str:
    """Options, limits or type of an input, whether it is optional, and its default."""
    default = getattr(one, "default", None)
    if getattr(one, "options", None):
        listed = schema.node_id.removeprefix("VideoLDM_") not in FOLDERS or one.id == "fit"
        choices = [getattr(option, "key", option) for option in one.options]
        what = ", ".join(map(str, choices)) if listed else ""
    elif getattr(one, "max", None) is not None:
        what = f"{one.min:g} {words['to']} {int(one.max) if one.max == int(one.max) else one.max}"
    else:
        what = one.get_io_type()
    parts = [what, words["optional"] if one.optional else ""]
    if default not in (None, "") and "\n" not in str(default) and len(str(default)) < 40:
        parts.append(
            f"{words['default']} {str(default).lower() if default in (True, False) else default}"
        )  # noqa: E501
    return "; ".join(filter(None, parts))


def write() -> None:
    _write_json(locale_path("en"), english())
    for language in LANGUAGES[1:]:
        for key in sorted(keys(english()) - keys(read_locale(language))):
            print(f"locales/{language}/nodeDefs.json lacks {key}")
    for schema in schemas():
        for language in LANGUAGES:
            path = help_path(schema.node_id, language)
            if not path.exists():
                print(f"{path.relative_to(ROOT)} is not there")
                continue
            page = path.read_text("utf-8")
            path.write_text(with_table(page, schema, language), "utf-8")


def _write_json(path: Path, texts: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(write())
