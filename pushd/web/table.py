"""Rows as CSV: a header of field names, quoted as RFC 4180 has it, and nothing that a spreadsheet would carry out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec

CSV = "text/csv"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula, in cells that hold text of others."""


def header(columns: Sequence[str]) -> bytes:
    """The first line."""
    return _line(list(columns))


def row(value: msgspec.Struct) -> bytes:
    """A struct as a line: its fields in order, null as nothing, text that looks like a formula behind an apostrophe."""
    return _line([_cell(getattr(value, name)) for name in value.__struct_fields__])


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        text = str(value)
        return "'" + text if text.startswith(FORMULA_STARTS) else text
    return repr(value) if isinstance(value, float) else value


def _line(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()
