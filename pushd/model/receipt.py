"""Receipts: what a device reports of a notification that reached it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pushd.model.device import ID_MAX, Text255

RECEIPTS_MAX = 5_000
"""Of one request."""
BUTTON_CHARS_MAX = 64
TIME_MAX = 32_503_680_000
"""The year 3000 in UNIX seconds: a time beyond it was given in milliseconds."""


class Event(StrEnum):
    """What happened to a notification on a device; the value is shown, the number stored."""

    DELIVERED = "delivered"
    """It arrived on the device."""
    RECEIVED = "received"
    """The app got to see it."""
    OPENED = "opened"
    """Someone opened it."""
    CLICKED = "clicked"
    """Someone chose one of its buttons, or the link in it: that has opened it, too."""
    DISMISSED = "dismissed"
    """Someone closed it."""
    READ = "read"
    """Someone marked it as read."""

    @property
    def number(self) -> int:
        """The small integer stored for this event: its position from 1, append-only."""
        return _NUMBERS[self]


_NUMBERS = {event: number for number, event in enumerate(Event, 1)}
OPENING = frozenset({Event.OPENED, Event.CLICKED})
"""Events after which a notification counts as opened."""


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One event of one notification on one install."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    """Of the event, made up by the install: what comes again with it is counted once."""
    notification_id: Annotated[int, Meta(ge=1, le=ID_MAX)]
    event: Event
    at: Annotated[float, Meta(ge=0, le=TIME_MAX)] | None = None
    """UNIX seconds by the device's clock; absent: now. Kept between the notification's time and the arrival."""
    button: Annotated[str, Meta(min_length=1, max_length=BUTTON_CHARS_MAX)] | None = None
    """Of `clicked`: the button's id; absent: the notification itself."""
    install_id: Text255 | None = None
    """Whose it is, where the request does not say it of all."""
