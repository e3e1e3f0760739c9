"""Quiet hours: when of the day nothing is to be sent, and what becomes of a message that comes then."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pushd.errors import Fault

DAY_MINUTES = 24 * 60

Minute = Annotated[int, Meta(ge=0, lt=DAY_MINUTES)]


class QuietHours(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a minute of the day, included, to another, not included; across midnight where that is the smaller one."""

    from_minute: Minute
    """Minutes after midnight by the device's clock: 22:30 is 1350."""
    to_minute: Minute


class Policy(StrEnum):
    """What quiet hours do to a message."""

    HOLD = "hold"
    """It waits until they end."""
    DROP = "drop"
    """It is not sent, and counted as suppressed."""


def check(quiet: QuietHours, pointer: str) -> list[Fault]:
    """The faults of quiet hours: a day has to have others."""
    same = quiet.from_minute == quiet.to_minute
    return (
        [Fault(f"{pointer}/to_minute", "is the same as `from_minute`: that is no time, or all of it")] if same else []
    )


def pack(quiet: QuietHours | None) -> int:
    """Quiet hours as a number below 2^21, from 1; 0: none. Stored."""
    return 0 if quiet is None else 1 + quiet.from_minute * DAY_MINUTES + quiet.to_minute


def unpack(number: int) -> QuietHours | None:
    """The quiet hours that `pack` made a number of."""
    if not number:
        return None
    from_minute, to_minute = divmod(number - 1, DAY_MINUTES)
    return QuietHours(from_minute=from_minute, to_minute=to_minute)
