"""The workflows and tests named in the table of twenty complaints exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "long_video.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Twenty complaints")[2].splitlines()
    if re.match(r"\| \d+ \|", line)
]
HELD_BY_A_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_there_are_twenty():
    assert [row[0] for row in ROWS] == [str(k) for k in range(1, 21)]
    assert all(len(row) == 5 and row[1] and row[2] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_has_a_workflow_and_a_test_or_says_that_it_is_not_answered(row):
    _, _, answer, workflow, tests = row
    if answer == "not answered":
        assert not workflow and not tests
        return
    assert (ROOT / "workflows" / f"{workflow.strip('`')}.json").is_file(), workflow
    named = HELD_BY_A_TEST.findall(tests)
    assert len(named) == len(tests.split(", ")), tests
    for file, name in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file}::{name}"
