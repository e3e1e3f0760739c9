"""Attributes of users: how many and how large they may be, and what counts as a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from pushd.errors import Fault

NAMES_MAX = 1_000
"""Of one app, that audiences can ask for; what else users have is stored only."""
PER_USER_MAX = 100
NAME_MAX = 64
TEXT_MAX = 1_024
LIST_MAX = 100
BYTES_MAX = 16_384
"""Of all attributes of a user, as JSON."""
NUMBER_MAX = 1e300
INTEGER_MAX = 2**63

# A time of RFC 3339 section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def as_time(text: str) -> float | None:
    """UNIX seconds of a time of RFC 3339; None for other texts."""
    if not text[:4].isdigit() or not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):  # the 30th of February, the year 0
        return None


def check(attributes: Mapping[str, Any], pointer: str = "/attributes") -> list[Fault]:
    """The faults of a user's attributes, each at its name."""
    faults = []
    if len(attributes) > PER_USER_MAX:
        faults.append(Fault(pointer, f"may be {PER_USER_MAX}"))
    for name, value in attributes.items():
        at = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if not name or len(name) > NAME_MAX:
            faults.append(Fault(at, f"names have 1 to {NAME_MAX} characters"))
        elif isinstance(value, str) and len(value) > TEXT_MAX:
            faults.append(Fault(at, f"may have {TEXT_MAX} characters"))
        elif isinstance(value, list) and len(value) > LIST_MAX:
            faults.append(Fault(at, f"may have {LIST_MAX} members"))
        elif isinstance(value, list) and any(isinstance(each, str) and len(each) > TEXT_MAX for each in value):
            faults.append(Fault(at, f"members may have {TEXT_MAX} characters"))
        elif isinstance(value, int | float) and not abs(value) < (
            INTEGER_MAX if isinstance(value, int) else NUMBER_MAX
        ):
            faults.append(Fault(at, "is too large a number"))
    if not faults:
        try:
            size = len(orjson.dumps(attributes))
        except orjson.JSONEncodeError:  # within objects, which are not looked into: numbers beyond 64 bits, a deep nest
            return [Fault(pointer, "holds what JSON cannot carry")]
        if size > BYTES_MAX:
            faults.append(Fault(pointer, f"may be {BYTES_MAX} bytes of JSON"))
    return faults
