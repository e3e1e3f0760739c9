"""Rows of a file: CSV, NDJSON or JSON, found out by looking at it, and read within bounds whatever its size."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from pushd.errors import Fault, InvalidRequestError

BOM = b"\xef\xbb\xbf"
ROW_BYTES_MAX = 256 * 1024
"""Of one row; also of the lines that a quoted text of CSV spans."""
ROW_LINES_MAX = 1_000
PAGE_CHARS_MAX = 16 * 1024 * 1024
"""Of one JSON object, which may be a page of many rows; arrays are read row by row and may have any size."""
COLUMNS_MAX = 1_000
READ_CHARS = 256 * 1024
DELIMITERS = ",;\t|"
PAGES = ("items", "data", "results", "rows")
"""Fields that hold the rows of a page."""
LINE, COLUMN, REASON, TEXT = "_line", "_column", "_reason", "_text"
"""What a file of rejects says beside a row; passed over where it is fed again."""
FORMATS = ("csv", "ndjson", "json")

_BLANK = re.compile(r"[ \t\r\n]*")
_NOTHING = b" " + DELIMITERS.encode()
"""What a line of empty columns is made of."""
_json = msgspec.json.Decoder()


class RowFault(NamedTuple):
    """Why a row cannot be imported."""

    column: str
    """The name of the column, or its number from 1 where that says more."""
    detail: str


class Row(NamedTuple):
    """A row of a file."""

    number: int
    """From 1, header and blank lines not counted: the line of the import."""
    line: int
    """Where in the file it begins, from 1."""
    values: Mapping[str, Any]
    """By the names of the columns."""
    raw: bytes
    """As it stands; of JSON only where it cannot be read."""
    fault: RowFault | None


class FileError(InvalidRequestError):
    """A file that cannot be read as a whole; says where."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__("The file cannot be read", faults=[Fault(f"/{line}", f"line {line}: {detail}")])


class Rows:
    """A file of rows, which can be gone through again and again and is always cut the same way."""

    def __init__(self, path: Path, form: str | None = None) -> None:
        """Looks at the beginning of a file; FileError where it is none that could be read."""
        self.path = path
        with path.open("rb") as source:
            start = source.read(64 * 1024)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise FileError(1, "is UTF-16: save it as UTF-8")
        self._skip = len(BOM) if start.startswith(BOM) else 0
        self.form = form or _form(path, start[self._skip :])
        self.delimiter = ","
        self.header: list[str] = []
        self.position = 0
        """How many bytes were read in the pass that goes on."""
        if self.form == "csv":
            with path.open("rb") as source:
                source.seek(self._skip)
                head = source.readline(ROW_BYTES_MAX)
            self.head = head.rstrip(b"\r\n")
            self.delimiter = _delimiter(self.head)
            self.header = self._header()

    def __iter__(self) -> Iterator[Row]:
        """The rows from the first on."""
        with self.path.open("rb") as source:
            source.seek(self._skip)
            yield from {"csv": self._csv, "ndjson": self._ndjson, "json": self._document}[self.form](source)

    def _header(self) -> list[str]:
        try:
            names = [each.strip() for each in _cells(self.head.decode(), self.delimiter)]
        except (ValueError, csv.Error) as error:
            raise FileError(1, f"the header is not valid: {error}") from None
        if len(names) > COLUMNS_MAX:
            raise FileError(1, f"has {len(names):,} columns, and may have {COLUMNS_MAX:,}")
        twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
        if twice is not None:
            raise FileError(1, f"has the column {twice} twice")
        if not any(names):
            raise FileError(1, "has no header")
        return names

    def _csv(self, source: IO[bytes]) -> Iterator[Row]:
        lines = _Lines(source, lambda read: setattr(self, "position", read))
        lines.next()  # the header
        number = 0
        while (taken := lines.next()) is not None:
            line, raw, long = taken
            if not raw.strip(_NOTHING):
                continue
            number += 1
            if long:
                yield Row(number, line, {}, raw, RowFault("1", f"is longer than {ROW_BYTES_MAX:,} bytes"))
                continue
            raw = lines.whole(raw)
            yield self._row(number, line, raw)

    def _row(self, number: int, line: int, raw: bytes) -> Row:
        try:
            cells = _cells(raw.decode(), self.delimiter)
        except UnicodeDecodeError as error:
            column = raw.count(self.delimiter.encode(), 0, error.start) + 1
            return Row(number, line, {}, raw, RowFault(self._name(column), "is not UTF-8"))
        except csv.Error as error:
            return Row(number, line, {}, raw, RowFault("1", f"is not CSV: {error}"))
        if len(cells) != len(self.header):
            detail = f"there are {len(cells)} columns, and {len(self.header)} in the header"
            return Row(number, line, {}, raw, RowFault(self._name(min(len(cells), len(self.header)) + 1), detail))
        return Row(number, line, dict(zip(self.header, cells, strict=True)), raw, None)

    def _name(self, column: int) -> str:
        return self.header[column - 1] if column <= len(self.header) else str(column)

    def _ndjson(self, source: IO[bytes]) -> Iterator[Row]:
        lines = _Lines(source, lambda read: setattr(self, "position", read))
        number = 0
        while (taken := lines.next()) is not None:
            line, raw, long = taken
            if not raw or raw.isspace():
                continue
            if long:
                found = [RowFault("", f"is longer than {ROW_BYTES_MAX:,} bytes")]
            else:
                try:
                    found = list(_unpaged(_json.decode(raw)))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    found = [RowFault("", f"is not JSON: {error}")]
            for each in found:
                number += 1
                yield _json_row(number, line, each, raw)

    def _document(self, source: IO[bytes]) -> Iterator[Row]:
        number = 0
        for line, value in _Document(source, lambda read: setattr(self, "position", read)).values():
            for each in _unpaged(value):
                number += 1
                yield _json_row(number, line, each, b"")


class _Lines:
    """Lines of a file, none of them longer than a row may be, and some to be read again."""

    def __init__(self, source: IO[bytes], read: Callable[[int], None]) -> None:
        self._source, self._read = source, read
        self._again: deque[tuple[int, bytes, bool]] = deque()
        self._line = 0

    def next(self) -> tuple[int, bytes, bool] | None:
        """Number and octets of the next line, and whether it is too long and was cut; None at the end."""
        if self._again:
            return self._again.popleft()
        raw = self._source.readline(ROW_BYTES_MAX + 1)
        if not raw:
            return None
        self._line += 1
        long = len(raw) > ROW_BYTES_MAX and not raw.endswith(b"\n")
        rest = raw
        while long and rest and not rest.endswith(b"\n"):
            rest = self._source.readline(ROW_BYTES_MAX)
        self._read(self._source.tell())
        return self._line, raw[:ROW_BYTES_MAX].rstrip(b"\r\n"), long

    def whole(self, raw: bytes) -> bytes:
        """A row that may go on behind a line feed within quotes; as it is where its quotes are never closed."""
        if raw.count(b'"') % 2 == 0:
            return raw
        taken: list[tuple[int, bytes, bool]] = []
        row, quotes = raw, 1
        while quotes % 2 and len(taken) < ROW_LINES_MAX and len(row) <= ROW_BYTES_MAX:
            following = self.next()
            if following is None or following[2]:
                if following is not None:
                    taken.append(following)
                break
            taken.append(following)
            row = row + b"\n" + following[1]
            quotes += following[1].count(b'"')
        if quotes % 2 == 0 and len(row) <= ROW_BYTES_MAX:
            return row
        self._again.extendleft(reversed(taken))
        return raw


class _Document:
    """Values of a JSON text, or of several one behind the other: those of arrays one by one."""

    def __init__(self, source: IO[bytes], read: Callable[[int], None]) -> None:
        self._source, self._read = source, read
        self._text, self._at, self._ended = "", 0, False
        self._line, self._counted = 1, 0
        self._held = b""
        self._decoder = json.JSONDecoder(parse_constant=_refused)

    def values(self) -> Iterator[tuple[int, Any]]:
        """Line and value of each."""
        array = first = False
        while (mark := self._mark()) is not None:
            if array and mark == "]":
                array = self._step()
            elif not array and mark == "[":
                array, first = True, True
                self._step()
            elif array and mark == "," and not first:
                first = self._step() or True
            elif array and not first:
                raise FileError(self._number(), "a comma is missing between two values")
            elif not array and mark == ",":
                raise FileError(self._number(), "there is a comma too many")
            else:
                line = self._number()
                yield line, self._value()
                first = False
        if array:
            raise FileError(self._number(), "the array does not end")

    def _step(self) -> bool:
        self._at += 1
        return False

    def _mark(self) -> str | None:
        """The next character that is no blank; None at the end."""
        while True:
            found = _BLANK.match(self._text, self._at)
            self._at = found.end() if found is not None else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return None

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number at the end of what was read may go on.
                if end < len(self._text) or self._ended or isinstance(value, dict | list | str):
                    self._at = end
                    return value
            except (ValueError, RecursionError) as error:
                known = isinstance(error, json.JSONDecodeError)
                if self._ended or not known:
                    raise FileError(self._number(), f"is not JSON: {error}") from None
            if len(self._text) - self._at > PAGE_CHARS_MAX:
                raise FileError(
                    self._number(), f"is not JSON, or has a value of more than {PAGE_CHARS_MAX:,} characters"
                )
            self._more()

    def _more(self) -> bool:
        """Whether there was more to read; what was used is given up, and more is read at once where a value is long."""
        if self._ended:
            return False
        self._number()
        self._text, self._at, self._counted = self._text[self._at :], 0, 0
        raw = self._source.read(max(READ_CHARS, len(self._text)))
        self._ended = not raw
        raw = self._held + raw
        try:
            self._text, self._held = self._text + raw.decode(), b""
        except UnicodeDecodeError as error:
            if self._ended or len(raw) - error.start > 3:
                raise FileError(self._number() + raw.count(b"\n", 0, error.start), "is not UTF-8") from None
            self._text, self._held = self._text + raw[: error.start].decode(), raw[error.start :]
        self._read(self._source.tell())
        return True

    def _number(self) -> int:
        """The line that is being read."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _form(path: Path, start: bytes) -> str:
    """What a file holds: JSON begins as JSON does, and NDJSON has a value on its first line."""
    if path.suffix.lower() in {".ndjson", ".jsonl"}:
        return "ndjson"
    text = start.lstrip()
    if not text.startswith((b"{", b"[")):
        return "csv"
    line, ended, _ = text.partition(b"\n")
    if text.startswith(b"{") and ended:
        try:
            _json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "json"
        return "ndjson"
    return "json"


def _delimiter(head: bytes) -> str:
    """What stands most often between the columns of a header."""
    bare = re.sub(rb'"[^"]*"', b"", head)
    return max(DELIMITERS, key=lambda each: bare.count(each.encode()))


def _cells(text: str, delimiter: str) -> list[str]:
    """The columns of a row (RFC 4180)."""
    if '"' not in text:
        return text.split(delimiter)
    rows = list(csv.reader(StringIO(text, newline="\n"), delimiter=delimiter, strict=True))
    if len(rows) != 1:
        raise csv.Error("a line ends within the row")
    return rows[0]


def _unpaged(value: Any) -> Iterator[Any]:
    """The rows of a page, or what is one itself."""
    if isinstance(value, list):
        yield from value
        return
    inner = (
        next((value[name] for name in PAGES if isinstance(value.get(name), list)), None) if _is_page(value) else None
    )
    if inner is None:
        yield value
    else:
        yield from inner


def _is_page(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(value.get(name), list) and all(isinstance(each, dict) for each in value[name]) for name in PAGES
    )


def _json_row(number: int, line: int, value: Any, raw: bytes) -> Row:
    if isinstance(value, RowFault):
        return Row(number, line, {}, raw, value)
    if not isinstance(value, dict):
        return Row(number, line, {}, raw or json.dumps(value).encode(), RowFault("", "is not a JSON object"))
    if isinstance(value.get(TEXT), str):  # a row of a file of rejects that could not be read, corrected by now
        try:
            return _json_row(number, line, _json.decode(value[TEXT]), value[TEXT].encode())
        except (msgspec.MsgspecError, RecursionError) as error:
            return Row(number, line, {}, value[TEXT].encode(errors="replace"), RowFault("", f"is not JSON: {error}"))
    return Row(number, line, value, b"", None)
