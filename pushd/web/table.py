"""Rows as CSV: a header of field names, quoted as RFC 4180 has it, and nothing that a spreadsheet would carry out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

CSV = "text/csv"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula, in cells that hold text of others."""


def header(columns: Sequence[str]) -> bytes:
    """The first line."""
    return _lines([columns])


def rows(values: Sequence[msgspec.Struct]) -> bytes:
    """Structs of one type as lines: fields in order, null as nothing, what may be a formula behind an apostrophe."""
    if not values:
        return b""
    names = values[0].__struct_fields__
    columns = [[_cell(getattr(value, name)) for value in values] for name in names]
    return _lines(zip(*columns, strict=True))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        text = str(value)
        return "'" + text if text.startswith(FORMULA_STARTS) else text
    return repr(value) if isinstance(value, float) else value


def _lines(lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()
