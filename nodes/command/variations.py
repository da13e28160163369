"""`videoldm run --each`: one run per value of an input, or per row of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ...core.graph.messages import shown
from .errors import INVALID, MISSING, CommandError

Columns = dict[str, list[str]]


def variations(options: Sequence[str]) -> list[list[str]]:
    """The settings "NODE.INPUT=VALUE" of each run; without options, one run without settings.

    options: NODE.INPUT=VALUE, repeated for further values, or CSV files whose columns are
    NODE.INPUT. All inputs change together from run to run; CommandError unless they have the same
    number of values.
    """
    columns: Columns = {}
    for option in options:
        _add(columns, option)
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} for {shown(name)}" for name, count in counts.items())
        raise CommandError(
            f"--each needs the same number of values for every input, got {listed}", INVALID
        )
    rows = zip(*columns.values(), strict=True) if columns else [()]
    return [[f"{name}={one}" for name, one in zip(columns, row, strict=True)] for row in rows]


def _add(columns: Columns, option: str) -> None:
    name, equals, value = option.partition("=")
    if equals and "." in name:
        columns.setdefault(name.strip(), []).append(value)
        return
    if not option.lower().endswith(".csv"):
        raise CommandError(
            f'--each "{shown(option)}" must be NODE.INPUT=VALUE or a CSV file', INVALID
        )
    for column, values in _read(Path(option)).items():
        columns.setdefault(column, []).extend(values)


def _read(path: Path) -> Columns:
    try:
        # Spreadsheet programs write a byte order mark.
        with path.expanduser().open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            (_, head), *numbered = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise CommandError(f"there is no file {path}", MISSING) from None
    except ValueError as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is empty"
        raise CommandError(f"{path} cannot be read as CSV: {why}", INVALID) from None
    except (OSError, csv.Error) as error:
        raise CommandError(f"{path} cannot be read as CSV: {error}", INVALID) from None
    for line, row in numbered:
        if len(row) != len(head):
            raise CommandError(
                f"line {line} of {path} has {len(row)} cells, but there are {len(head)} columns",
                INVALID,
            )
    rows = [row for _, row in numbered]
    if not rows:
        raise CommandError(f"{path} has no rows below the header, which names the inputs", INVALID)
    names = [name.strip() for name in head]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CommandError(f"{path} has two columns {shown(twice)}", INVALID)
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}
