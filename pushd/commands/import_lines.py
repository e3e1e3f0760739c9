"""Lines of imported files: names one a line, users as CSV or NDJSON; what is wrong is told by line and column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pushd.commands.text import text_faults
from pushd.errors import Fault, InvalidRequestError
from pushd.model.attributes import check as check_attributes
from pushd.model.imports import UserLine
from pushd.model.quiet import check as check_quiet

NAME_CHARS_MAX = 255
VALUE_CHARS_MAX = 255
"""Of a line that are shown beside what is wrong with it."""
COLUMNS_MAX = 1_000
"""Of a file of users."""
BOM = b"\xef\xbb\xbf"
LISTS = frozenset({"tags", "subscribe", "unsubscribe"})
"""Columns whose cells hold several values."""
ATTRIBUTE = "attributes."

_user = msgspec.json.Decoder(UserLine).decode


class LineFault(NamedTuple):
    """What is wrong with a line of a file; line and column from 1."""

    line: int
    column: int
    detail: str
    value: str

    def fault(self) -> Fault:
        """The same as a fault of a request: `/LINE/COLUMN`."""
        return Fault(f"/{self.line}/{self.column}", f"line {self.line}, column {self.column}: {self.detail}")


class Names(NamedTuple):
    """The names of some lines."""

    names: list[str]
    numbers: list[int]
    """The line of each name."""
    faults: list[LineFault]


class UserLines(NamedTuple):
    """The users of some lines."""

    users: list[UserLine]
    numbers: list[int]
    """The line of each user."""
    faults: list[LineFault]


class InvalidLineError(ValueError):
    """Why a line says nothing that could be carried out."""

    def __init__(self, detail: str, column: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.column = column


def count_lines(body: bytes) -> int:
    """How many lines octets have; what stands behind the last line feed is one, too."""
    return body.count(b"\n") + (not body.endswith(b"\n") and len(body) > 0)


def cut(body: bytes, most: int) -> tuple[list[bytes], bytes]:
    """At most so many lines, and the rest."""
    lines = body.split(b"\n", most)
    rest = lines.pop() if len(lines) > most or not lines[-1] else b""
    return lines, rest


def names_of(first: int, lines: Sequence[bytes]) -> Names:
    """The names that stand one a line, the first of which has this number; blank lines are passed over."""
    found = Names([], [], [])
    for number, line in enumerate(lines, first):
        raw = bare(number, line)
        if not raw:
            continue
        try:
            found.names.append(_name(raw))
            found.numbers.append(number)
        except InvalidLineError as error:
            found.faults.append(fault_of(number, raw, error))
    return found


def users_of(first: int, lines: Sequence[bytes], head: Head | None) -> UserLines:
    """The users that stand one a line: as CSV under a header, which is line 1, or as JSON where there is none."""
    found = UserLines([], [], [])
    for number, line in enumerate(lines, first):
        raw = bare(number, line)
        if not raw or raw.isspace() or (head is not None and number == 1):
            continue
        try:
            found.users.append(checked(_json(raw) if head is None else head.user(raw)))
            found.numbers.append(number)
        except InvalidLineError as error:
            found.faults.append(fault_of(number, raw, error))
        except RecursionError:  # whichever of the readers met it
            found.faults.append(fault_of(number, raw, InvalidLineError("is nested too deep")))
    return found


class Head:
    """The header of a CSV file of users."""

    def __init__(self, line: bytes) -> None:
        """Reads a header; InvalidRequestError where it names what users do not have."""
        try:
            self._columns = [column.strip() for column in _cells(bare(1, line))]
        except InvalidLineError as error:
            raise InvalidRequestError(faults=[Fault(f"/1/{error.column}", error.detail)]) from None
        if len(self._columns) > COLUMNS_MAX:
            detail = f"there are {len(self._columns):,} columns, and there may be {COLUMNS_MAX:,}"
            raise InvalidRequestError(faults=[Fault(f"/1/{COLUMNS_MAX + 1}", detail)])
        known = {"external_id", "email", *LISTS}
        faults, seen = [], set()
        for number, column in enumerate(self._columns, 1):
            if column in seen:
                faults.append(Fault(f"/1/{number}", f"{column} is there twice"))
            elif column not in known and not column.startswith(ATTRIBUTE):
                faults.append(Fault(f"/1/{number}", f"is none of {', '.join(sorted(known))}, {ATTRIBUTE}NAME"))
            seen.add(column)
        if "external_id" not in self._columns:
            faults.append(Fault("/1/1", "external_id is not there"))
        if faults:
            raise InvalidRequestError("The header is not valid", faults=faults)

    def user(self, raw: bytes) -> UserLine:
        """The user of a line; an empty cell leaves what it names. InvalidLineError."""
        cells = _cells(raw)
        if len(cells) != len(self._columns):
            detail = f"there are {len(cells)} columns, and {len(self._columns)} in the header"
            raise InvalidLineError(detail, min(len(cells), len(self._columns)) + 1)
        values: dict[str, Any] = {}
        for number, (column, cell) in enumerate(zip(self._columns, cells, strict=True), 1):
            if not cell:
                continue
            if column in LISTS:
                values[column] = _several(cell, number)
            elif column.startswith(ATTRIBUTE):
                values.setdefault("attributes", {})[column.removeprefix(ATTRIBUTE)] = _value(cell)
            else:
                values[column] = None if column == "email" and cell == "null" else cell
        try:
            return msgspec.convert(values, UserLine)
        except msgspec.ValidationError as error:
            raise InvalidLineError(str(error)) from None


def bare(number: int, line: bytes) -> bytes:
    """A line without its end; the first one without a byte order mark."""
    line = line.removesuffix(b"\r")
    return line.removeprefix(BOM) if number == 1 else line


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidLineError("is not UTF-8", raw.count(b",", 0, error.start) + 1) from None
    if "\0" in text:
        raise InvalidLineError("holds the character U+0000", text.count(",", 0, text.index("\0")) + 1)
    return text


def _cells(raw: bytes) -> list[str]:
    """The columns of a line of CSV (RFC 4180), which ends where the line does."""
    text = _text(raw)
    if '"' not in text:
        return text.split(",")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise InvalidLineError(f"is not CSV: {error}") from None
    return rows[0] if rows else [""]


def _name(raw: bytes) -> str:
    cells = _cells(raw)
    if len(cells) > 1:
        raise InvalidLineError(f"there are {len(cells)} columns, and there has to be one", 2)
    (name,) = cells
    if not name:
        raise InvalidLineError("is empty")
    if len(name) > NAME_CHARS_MAX:
        raise InvalidLineError(f"has {len(name)} characters, and may have {NAME_CHARS_MAX}")
    return name


def _json(raw: bytes) -> UserLine:
    try:
        return _user(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidLineError(str(error)) from None


def checked(user: UserLine) -> UserLine:
    """The user, if it can be stored."""
    faults = list(text_faults(user))
    if user.attributes and not faults:
        faults += check_attributes(user.attributes)
    if user.quiet_hours:
        faults += check_quiet(user.quiet_hours, "/quiet_hours")
    if faults:
        raise InvalidLineError(f"{faults[0].pointer}: {faults[0].detail}")
    if not set(user.subscribe).isdisjoint(user.unsubscribe):
        raise InvalidLineError("a channel is in both `subscribe` and `unsubscribe`")
    return user


def _several(cell: str, number: int) -> list[Any]:
    """The values of a cell: a JSON array, or texts between semicolons."""
    if not cell.startswith("["):
        return [part for each in cell.split(";") if (part := each.strip())]
    try:
        values: list[Any] = msgspec.json.decode(cell, type=list[Any])
    except msgspec.MsgspecError as error:
        raise InvalidLineError(str(error), number) from None
    return values


def _value(cell: str) -> Any:
    """What a cell of an attribute says: a number, a boolean, a list, a text in quotes; any other text is itself."""
    try:
        value: Any = msgspec.json.decode(cell)
    except (msgspec.MsgspecError, RecursionError):
        return cell
    return value


def fault_of(number: int, raw: bytes, error: InvalidLineError) -> LineFault:
    """What is wrong with a line, beside its beginning."""
    value = raw[: 4 * VALUE_CHARS_MAX].decode(errors="replace").replace("\0", "\ufffd")[:VALUE_CHARS_MAX]
    return LineFault(number, error.column, error.detail, value)
