"""Text that JSON can carry and PostgreSQL cannot: U+0000, found and pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pushd.errors import Fault, InvalidRequestError

_encode = msgspec.json.Encoder().encode
NUL = b"\\u0000"
"""How JSON writes the character that PostgreSQL has no text for."""


def check_text(value: Any) -> None:
    """Nothing; InvalidRequestError that points at every text with a U+0000 (PostgreSQL 8.3, "Character Types")."""
    if faults := text_faults(value):
        raise InvalidRequestError("Text cannot hold the character U+0000", faults=faults)


def text_faults(value: Any) -> list[Fault]:
    """A fault for every text with a U+0000 in a value that encodes to JSON."""
    raw = _encode(value)
    if NUL not in raw:  # nearly always; an escaped backslash before "u0000" is sorted out by the walk
        return []
    return [Fault(pointer, "holds the character U+0000") for pointer in _walk(msgspec.json.decode(raw), "")]


def _walk(value: Any, pointer: str) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value:
            yield pointer
    elif isinstance(value, dict):
        for key, inner in value.items():
            here = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            if "\0" in key:
                yield here
            yield from _walk(inner, here)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _walk(inner, f"{pointer}/{at}")
