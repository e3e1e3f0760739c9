"""Fields of a row: found under the names that a service gives them, in any case and spelling, and read as values."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from pushd.cli.exports.rows import COLUMN, LINE, REASON, TEXT
from pushd.errors import Fault, InvalidRequestError

FIELDS = (
    *("install_id", "kind", "token", "environment", "bundle", "shape", "user_id", "platform", "tags", "channels"),
    *("locale", "country", "time_zone", "app_version", "os_version", "alias", "push_enabled", "in_app_consent"),
    *("endpoint", "p256dh", "auth", "application_server_key", "subscription"),
    *("email", "user_tags", "user_channels", "attributes"),
    *("channel", "channel_name", "channel_in_portal", "channel_meta"),
)
"""What a row may say, of an install and its address, of its user, of a channel."""
ATTRIBUTE = "attributes."
DEPTH_MAX = 6
"""Of objects within a row of JSON whose fields are looked at."""
OURS = frozenset((LINE, COLUMN, REASON, TEXT))
NOTHING = frozenset(("", "null", "NULL", "None", "\\N", "undefined"))
"""What exports write where there is no value."""
TRUE = frozenset(("true", "t", "yes", "y", "1", "on", "active", "enabled", "subscribed"))
FALSE = frozenset(("false", "f", "no", "n", "0", "off", "inactive", "disabled", "unsubscribed"))

_PLAIN = re.compile(r"[^a-z0-9]")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,}")


COLUMNS_KEPT = 10_000
RANKS = 1_000
"""More than any field has names."""

Meaning: TypeAlias = tuple[str | None, int, str | None]
"""The field of a column, how good a name of it that is, and the attribute that it is called after."""


class InvalidRowError(ValueError):
    """Why a row cannot be imported: which field says what is wrong."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail


@dataclass(slots=True)
class Said:
    """What a row says, by field, and in which column."""

    values: dict[str, Any]
    columns: dict[str, str]
    rest: dict[str, Any]
    """By the names of the columns, what no field is known for."""
    attributes: dict[str, Any]

    def text(self, name: str) -> str:
        """The text of a field; empty where there is none."""
        value = self.values.get(name)
        return "" if value is None else as_text(name, value)


class Names:
    """The names that columns have for fields: those of a service, and those that were mapped by hand."""

    def __init__(
        self, columns: Mapping[str, Sequence[str]], mapped: Mapping[str, str], fixed: Mapping[str, str]
    ) -> None:
        """`columns`: names by field, best first; `mapped`: field by column; `fixed`: values of fields that are absent.

        InvalidRequestError for fields that there are not.
        """
        for name in (*mapped.values(), *fixed):
            if name not in FIELDS and not (name.startswith(ATTRIBUTE) and len(name) > len(ATTRIBUTE)):
                detail = f"is none of {', '.join(FIELDS)}, {ATTRIBUTE}NAME"
                raise InvalidRequestError("There is no such field", faults=[Fault(name, detail)])
        self._found: dict[str, tuple[str, int]] = {}
        for name, spellings in columns.items():
            for rank, spelling in enumerate(spellings, 1):
                self._found.setdefault(plain(spelling), (name, rank))
        self._found |= {plain(column): (name, 0) for column, name in mapped.items()}
        self._fixed = dict(fixed)
        self._met: dict[str, Meaning] = {}
        """Of columns that came before: most of them come in every row."""

    def unused(self, header: Iterable[str]) -> list[str]:
        """Columns that stand for no field."""
        return [
            each
            for each in header
            if each and each not in OURS and plain(each) not in self._found and not _attribute(each)
        ]

    def said(self, values: Mapping[str, Any]) -> Said:
        """What a row says. Objects within it are looked into: `device.udid` is the column of a field, too."""
        said = Said({}, {}, {}, {})
        ranks: dict[str, int] = {}
        for column, value in _flat(values, "", 0):
            if value is None or value in ([], {}) or (isinstance(value, str) and value.strip() in NOTHING):
                continue
            name, rank, attribute = self._met.get(column) or self._meaning(column)
            if attribute is not None:
                said.attributes[attribute] = value
            elif name is None:
                said.rest[column] = value
            elif name not in OURS and rank < ranks.get(name, RANKS):
                ranks[name], said.values[name], said.columns[name] = rank, value, column
        for name, value in self._fixed.items():
            if name.startswith(ATTRIBUTE):
                said.attributes.setdefault(name.removeprefix(ATTRIBUTE), value)
            else:
                said.values.setdefault(name, value)
        return said

    def _meaning(self, column: str) -> Meaning:
        """What a column stands for."""
        name, rank = self._found.get(plain(column), (None, RANKS))
        attribute = _attribute(column) if name is None else _attribute(name)
        if name is None and column in OURS:
            name = column
        if len(self._met) < COLUMNS_KEPT:
            self._met[column] = name, rank, attribute
        return name, rank, attribute


@lru_cache(maxsize=10_000)
def plain(column: str) -> str:
    """A name without case and what is no letter or digit: `push_token[environment]` is `pushTokenEnvironment`."""
    return _PLAIN.sub("", column.casefold())


def as_text(name: str, value: Any) -> str:
    """A value as text; InvalidRowError for what is none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    raise InvalidRowError(name, "is not a text")


def as_bool(name: str, value: Any) -> bool:
    """A value as truth; InvalidRowError."""
    text = as_text(name, value).casefold()
    if text not in TRUE | FALSE:
        raise InvalidRowError(name, "is neither true nor false")
    return text in TRUE


def as_list(name: str, value: Any) -> list[str]:
    """Several texts: an array, also as JSON, or one text with semicolons, bars or commas between them. InvalidRowError.

    Of objects within an array the `uuid`, else the `name`, counts.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = msgspec.json.decode(text, type=list[Any])
            except (msgspec.MsgspecError, RecursionError):
                raise InvalidRowError(name, "is not a JSON array") from None
        else:
            mark = next((each for each in ";|," if each in text), None)
            value = [text] if mark is None else text.split(mark)
    if not isinstance(value, list):
        value = [value]
    found = [as_text(name, _named(each) if isinstance(each, dict) else each) for each in value]
    return list(dict.fromkeys(each for each in found if each))


def as_object(name: str, value: Any) -> dict[str, Any]:
    """An object, also as JSON. InvalidRowError."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError):
            raise InvalidRowError(name, "is not a JSON object") from None
    if not isinstance(value, dict):
        raise InvalidRowError(name, "is not a JSON object")
    return value


def as_value(value: Any) -> Any:
    """What a cell says of an attribute: a number, a boolean, a list or a text in quotes; any other text is itself."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError):
        return value


def apple_token(text: str) -> str:
    """A token of APNs in hexadecimal, also from base64 or from what `NSData` is described as."""
    bare = text.strip("<>").replace(" ", "")
    if _HEX.fullmatch(bare):
        return bare
    try:
        octets = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        return text
    return octets.hex() if len(octets) >= 32 else text


def _named(value: dict[str, Any]) -> Any:
    return value.get("uuid") or value.get("name") or value.get("objectId")


def _attribute(column: str) -> str | None:
    """The attribute that a column is named after."""
    return column[len(ATTRIBUTE) :] or None if column[: len(ATTRIBUTE)].casefold() == ATTRIBUTE else None


def _flat(values: Mapping[str, Any], prefix: str, depth: int) -> Iterable[tuple[str, Any]]:
    """Columns and values; of objects within, each field under its path, and the object itself."""
    for column, value in values.items():
        path = prefix + column
        if isinstance(value, dict) and depth < DEPTH_MAX:
            yield from _flat(value, f"{path}.", depth + 1)
        yield path, value
