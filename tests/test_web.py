"""Help pages and locales are complete; scripts meet the requirements of newer frontends."""

from __future__ import annotations

import re
from pathlib import Path

import help_pages
import pytest

WEB = Path(__file__).resolve().parents[1] / "web"
SCHEMAS = help_pages.schemas()


def by_id(schema) -> str:
    return schema.node_id


# Help pages and locales.


@pytest.mark.parametrize("language", help_pages.LANGUAGES)
@pytest.mark.parametrize("schema", SCHEMAS, ids=by_id)
def test_every_node_has_a_help_page_whose_table_is_up_to_date(schema, language):
    path = help_pages.help_path(schema.node_id, language)
    assert path.is_file(), f"write {path}, then run python tests/help_pages.py"
    page = path.read_text("utf-8")
    title = help_pages.read_locale(language)[schema.node_id]["display_name"]
    assert page.startswith(f"# {title}\n")
    assert page.count("\n## ") >= 3, "inputs, an example, and where tensors live"
    assert page == help_pages.with_table(page, schema, language), "run python tests/help_pages.py"


def test_the_english_locale_is_what_the_schemas_say():
    assert help_pages.read_locale("en") == help_pages.english(), "run python tests/help_pages.py"


@pytest.mark.parametrize("language", help_pages.LANGUAGES[1:])
def test_other_locales_have_every_text(language):
    assert help_pages.keys(help_pages.read_locale(language)) == help_pages.keys(
        help_pages.english()
    )
    ours, english = (help_pages.read_locale(one, "main")["videoldm"] for one in (language, "en"))
    assert list(ours) == list(english)
    for key, text in english.items():
        assert set(re.findall(r"\[\w+\]", ours[key])) == set(re.findall(r"\[\w+\]", text)), key


def test_the_scripts_say_only_what_the_locales_know():
    texts = help_pages.read_locale("en", "main")["videoldm"]
    source = "".join(path.read_text("utf-8") for path in WEB.glob("*.js"))
    said = set(re.findall(r"say\(\"(\w+)\"", source)) | set(re.findall(r"\[\"(\w+)\", {", source))
    assert said - {"name"} <= set(texts)
    assert len(said) > 15


# Requirements of newer frontends.

SCRIPTS = {path.name: path.read_text("utf-8") for path in WEB.glob("*.js")}


def test_a_node_may_be_without_widgets():
    """`node.widgets` is undefined while a node has none."""
    for name, script in SCRIPTS.items():
        for line in script.splitlines():
            assert not re.search(r"\.widgets(?!\?\.| \?\?|\w)", line), f"{name}: {line.strip()}"


def test_widgets_of_scripts_are_no_namesakes_of_inputs():
    """Values are stored by widget name, which must be unique within a node."""
    own = [name for script in SCRIPTS.values() for name in re.findall(
        r"""addStillWidget\([\w.]+, "(\w+)"|title: "(\w+)\"""", script)]  # fmt: skip
    own = ["".join(pair) for pair in own]
    inputs = {one.id for schema in SCHEMAS for one in schema.inputs}
    assert sorted(own) == ["drawing", "note", "picture", "selection", "status", "timeline",
                           "viewfinder"]  # fmt: skip
    assert inputs.isdisjoint(own)
