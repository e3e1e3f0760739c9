"""Rows that were not imported: counted by reason, and written so that they can be corrected and fed again."""

from __future__ import annotations

import csv
import re
from collections import Counter
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from pushd.cli.exports.records import Conversion, Made
from pushd.cli.exports.rows import COLUMN, LINE, REASON, TEXT, RowFault

SHOWN_MAX = 100
"""Rows that are told with what is wrong with them; a file has all."""
REASONS_MAX = 50
OTHERS = "other reasons"

# What a daemon says of a line: a JSON pointer into the record, or a path of msgspec's.
_POINTER = re.compile(
    r"/(?P<part>devices|user|install|channel)(?:/\d+)?(?P<rest>(?:/[^:/]*)*): (?P<detail>.*)", re.DOTALL
)
_PATH = re.compile(
    r"(?P<detail>.*) - at `\$\.(?P<part>devices|user|install|channel)(?:\[\d+\])?(?P<rest>.*)`", re.DOTALL
)
_FIELDS = {
    ("user", "tags"): "user_tags",
    ("user", "subscribe"): "user_channels",
    ("user", "external_id"): "user_id",
    ("install", "subscribe"): "channels",
    ("channel", "uuid"): "channel",
    ("channel", "name"): "channel_name",
    ("channel", "meta"): "channel_meta",
    ("devices", "subscription"): "endpoint",
    ("devices", "keys"): "p256dh",
}


class Rejects(AbstractContextManager["Rejects"]):
    """What was rejected, and why."""

    def __init__(self, conversion: Conversion, path: Path | None) -> None:
        self._conversion, self._path = conversion, path
        self._file: IO[bytes] | None = None
        self._is_csv = conversion.rows.form == "csv"
        self.count = self.own = 0
        """How many, and how many of them were not sent to the daemon at all."""
        self.reasons: Counter[str] = Counter()
        self.shown: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("wb")
            if self._is_csv:
                names = [name for name in (LINE, COLUMN, REASON) if name not in self._conversion.rows.header]
                self._file.write(self._cells(names) + self._conversion.rows.head + b"\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, made: Made, fault: RowFault) -> None:
        """Takes a row in, with what is wrong with it."""
        self.count += 1
        self.own += made.fault is not None
        reason = fault.detail if len(self.reasons) < REASONS_MAX or fault.detail in self.reasons else OTHERS
        self.reasons[reason] += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append({"line": made.row.line, "column": fault.column, "reason": fault.detail})
        if self._file is not None:
            self._file.write(self._csv(made, fault) if self._is_csv else self._json(made, fault))

    def fault_of(self, made: Made, reason: str) -> RowFault:
        """What a daemon says is wrong with a line, by the column that it came from."""
        found = _POINTER.fullmatch(reason) or _PATH.fullmatch(reason)
        if found is None:
            return RowFault("", reason)
        steps = [each for each in re.split(r"[/.\[\]]", found["rest"]) if each and not each.isdigit() and each != "..."]
        name = steps[-1] if steps else ""
        if "attributes" in steps[:-1]:
            return RowFault(name, found["detail"])
        field = _FIELDS.get((found["part"], name), name)
        return RowFault(self._conversion.column(field, made.said), found["detail"])

    def _csv(self, made: Made, fault: RowFault) -> bytes:
        """The row as it stood, behind what is wrong with it; a row of such a file has these columns already."""
        if LINE in self._conversion.rows.header:
            return made.row.raw + b"\n"
        return self._cells([str(made.row.line), fault.column, fault.detail]) + made.row.raw + b"\n"

    def _cells(self, values: list[str]) -> bytes:
        if not values:
            return b""
        text = StringIO()
        delimiter = self._conversion.rows.delimiter
        csv.writer(text, delimiter=delimiter, lineterminator=delimiter).writerow(values)
        return text.getvalue().encode()

    def _json(self, made: Made, fault: RowFault) -> bytes:
        told = {LINE: made.row.line, COLUMN: fault.column, REASON: fault.detail}
        row = made.row.values or {TEXT: made.row.raw.decode(errors="replace")}
        try:
            return orjson.dumps({**row, **told}, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # what JSON cannot be written of again
            return orjson.dumps({TEXT: ascii(row), **told}, option=orjson.OPT_APPEND_NEWLINE)
