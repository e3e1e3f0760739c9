"""Events of dialects: sends in their callers' own words, with what has come of them."""

from __future__ import annotations

from msgspec import Struct

from pushd.model.notification import Send
from pushd.model.vendor_key import DialectName


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is told of an event again as it was asked for; kept as JSON."""

    channel: str
    """The vendor's word for the sort of address that it goes to."""
    environment: str
    message: str
    universal: bool = False
    """Whether the message was given for all channels, and made into this one's."""
    name: str | None = None
    date: int | None = None
    """UNIX seconds; None: at once."""
    end_date: int | None = None
    period: int | None = None
    """Seconds from one occurrence to the next; None: there is one."""
    tag_query: str | None = None


class NewEvent(Struct, frozen=True, kw_only=True, gc=False):
    """What is asked for."""

    told: Told
    target: str | None
    """The one user that it names, `id:` or `external:` and how: with him it is forgotten."""
    send: Send
    collapses: bool
    """Whether devices are told the event's id, so that it replaces itself: `event` and the number."""


class KeptEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An event as it is written, beside the notification that it is."""

    id: int
    dialect: DialectName
    user_id: int
    """The numeric id of who asked; 0: a server, on nobody's behalf."""
    created_at: float
    target: str | None
    told: Told


class DialectEvent(Struct, frozen=True, kw_only=True):
    """An event that was accepted."""

    id: int
    app_id: int
    dialect: DialectName
    user_id: int
    """The numeric id of who asked; 0: a server, on nobody's behalf."""
    notification_id: int
    created_at: float
    updated_at: float
    told: Told
    occurred: int = 0
    active: bool = True
    """Whether anything of it is still to come."""
