"""Header plans: the fields that the requests of a run share, and the names of those that vary by row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from protocols.errors import LocalProtocolError

FIELD_OVERHEAD_BYTES = 32
"""What a field counts beyond name and value, in tables and in lists (RFC 7541 section 4.1, RFC 9113 section 6.5.2)."""
PSEUDO_REQUIRED = frozenset((b":method", b":scheme", b":path"))
PSEUDO_KNOWN = PSEUDO_REQUIRED | {b":authority"}
"""RFC 9113 section 8.3.1."""
CONNECTION_SPECIFIC = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""RFC 9113 section 8.2.2."""
NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
"""Lower-case field names (RFC 9113 section 8.2.1, RFC 9110 section 5.6.2), and pseudo-header names."""
FORBIDDEN = bytes({*range(0x20), 0x7F} - {0x09})
"""Octets that a field value may not have (RFC 9113 section 8.2.1, RFC 9110 section 5.5)."""


class Indexing(Enum):
    """How a field relates to the peer's table (RFC 7541 section 6.2)."""

    INCREMENTAL = "incremental"
    """The field enters the table while it has room, and is one octet from then on."""
    WITHOUT = "without"
    """The value is written out each time. A name that no table has enters it once, with the first value (A-42)."""
    NEVER = "never"
    """The value is written out each time, and no intermediary may index it (RFC 7541 section 6.2.3)."""


class Field(NamedTuple):
    """A field with the same value in every row of a run."""

    name: bytes
    value: bytes
    indexing: Indexing = Indexing.INCREMENTAL


class Variable(NamedTuple):
    """A field whose value differs from row to row: a constant prefix, then a column of the run."""

    name: bytes
    indexing: Indexing = Indexing.WITHOUT
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class HeaderPlan:
    """Fields in wire order, pseudo-headers first; LocalProtocolError if no request may look like that (T-14)."""

    fields: tuple[Field | Variable, ...]
    variables: tuple[Variable, ...] = field(init=False, repr=False, compare=False)
    list_bytes: int = field(init=False, repr=False, compare=False)
    """What the fields count towards MAX_HEADER_LIST_SIZE, without the varying octets."""
    content_length: int | None = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.fields)
        length = next((f.value for f in self.fields if isinstance(f, Field) and f.name == b"content-length"), None)
        constant = sum(
            FIELD_OVERHEAD_BYTES + len(f.name) + len(f.value if isinstance(f, Field) else f.prefix) for f in self.fields
        )
        put = object.__setattr__
        put(self, "variables", tuple(f for f in self.fields if isinstance(f, Variable)))
        put(self, "list_bytes", constant)
        put(self, "content_length", None if length is None else int(length))
        put(self, "_hash", hash(self.fields))

    def __hash__(self) -> int:
        return self._hash


def is_bad_value(value: bytes) -> bool:
    """Whether a field value has forbidden octets, or white space around it (RFC 9113 section 8.2.1)."""
    return len(value.translate(None, FORBIDDEN)) != len(value) or value.strip(b" \t") != value


def check_values(values: Sequence[Sequence[bytes]]) -> None:
    """LocalProtocolError if a varying value has forbidden octets (RFC 9113 section 8.2.1)."""
    together = b"".join([value for row in values for value in row])
    if is_bad_value(b"." + together + b".") or (
        (b" " in together or b"\t" in together) and any(is_bad_value(value) for row in values for value in row)
    ):
        raise LocalProtocolError("a varying value has forbidden octets")


def _check(fields: tuple[Field | Variable, ...]) -> None:
    names = [f.name for f in fields]
    pseudo = [name for name in names if name.startswith(b":")]
    if names[: len(pseudo)] != pseudo or not PSEUDO_REQUIRED <= set(pseudo) <= PSEUDO_KNOWN:
        raise LocalProtocolError("pseudo-headers are :method, :scheme, :path and :authority, before all other fields")
    if len(set(names)) != len(names):
        raise LocalProtocolError("a field name stands twice (A-37)")
    if len(pseudo) == len(PSEUDO_REQUIRED) and b"host" not in names:
        raise LocalProtocolError("neither :authority nor host")
    values = {f.name: f.value for f in fields if isinstance(f, Field)}
    if b":authority" in names and b"host" in names and values.get(b"host", b"") != values.get(b":authority", b" "):
        raise LocalProtocolError("host differs from :authority")
    for name in names:
        if not NAME.fullmatch(name):
            raise LocalProtocolError("a field name is not lower-case token characters")
        if name in CONNECTION_SPECIFIC or (name == b"te" and values.get(name) != b"trailers"):
            raise LocalProtocolError("a connection-specific field")
    for f in fields:
        if is_bad_value(f.value if isinstance(f, Field) else f.prefix + b"."):
            raise LocalProtocolError("a field value has forbidden octets")
        if isinstance(f, Variable) and f.indexing is Indexing.INCREMENTAL:
            raise LocalProtocolError("a varying value does not belong into the table")
    if not values.get(b"content-length", b"0").isdigit():
        raise LocalProtocolError("content-length is not a number")
