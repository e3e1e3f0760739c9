"""Columns as PostgreSQL reads them in text: one string to encode, where a list is looked at element by element."""

from __future__ import annotations

from collections.abc import Sequence

SEPARATOR = "\x1f"
"""Between texts of a column: JSON holds control characters only in escapes (RFC 8259 section 7)."""


def numbers(values: Sequence[int]) -> str:
    """Integers and truths as the text of an array; a parameter of type text that the statement casts."""
    return "{" + str(list(values))[1:-1] + "}"


def moments(values: Sequence[float | None]) -> str:
    """Times in UNIX seconds likewise, as PostgreSQL keeps them; most of a column are the same few."""
    texts = {moment: "NULL" if moment is None else repr(microseconds(moment)) for moment in set(values)}
    return "{" + ",".join(map(texts.__getitem__, values)) + "}"


def microseconds(moment: float) -> float:
    """The time as PostgreSQL keeps it: what is answered now is what is read later."""
    return int(moment * 1e6 + 0.5) / 1e6  # `round` takes three times as long


def octets(values: Sequence[bytes]) -> str:
    """Octets as the text of an array likewise, in hexadecimal."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def documents(texts: Sequence[bytes]) -> str:
    """JSON documents as one text, for string_to_array with `SEPARATOR`."""
    return SEPARATOR.encode().join(texts).decode()
