"""What commands print: one JSON document with --json, else a table for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)


def show(data: Any, *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Prints data: as JSON, as a table of `columns` where it is a list, else as name and value."""
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    elif isinstance(data, list):
        table(data, columns)
    else:
        facts(data)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Prints rows under their column names."""
    grid = Table(
        *[column.replace("_", " ") for column in columns],
        box=None,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for row in rows:
        grid.add_row(*[text(row.get(column)) for column in columns])
    console.print(grid)


def facts(data: dict[str, Any]) -> None:
    """Prints names and values, one a line."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column()
    grid.add_column(overflow="fold")  # keys and ids are of no use in part
    for name, value in data.items():
        grid.add_row(name.replace("_", " "), text(value))
    console.print(grid)


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)
