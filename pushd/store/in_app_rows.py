"""An in-app message as rows of the store say it: what is kept of one, its releases, and whom each went to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from pushd.bitset import Devices, Users
from pushd.model.in_app import InAppBody, InAppCounts, InAppPush
from pushd.model.notification import Send
from pushd.model.schedule import Schedule
from pushd.store.accepts import Due
from pushd.store.times import seconds, seconds_or_none

OWN_TIMES = ", ".join(
    f"CASE WHEN r.release IS NULL THEN m.{name} ELSE r.{name} END AS {name}"
    for name in ("released_at", "expires_at", "inbox_from", "inbox_to", "ends_at")
)
"""The times of a release: r's, which is a row of in_app_releases, or null for those of the message m."""
_body = msgspec.json.Decoder(InAppBody).decode
_push = msgspec.json.Decoder(InAppPush).decode
_send = msgspec.json.Decoder(Send).decode


class Shown(Struct, eq=False, kw_only=True):
    """When a release of a message is shown, as whoever serves inboxes needs it; times are UNIX seconds."""

    created_at: datetime
    """Part of the message's key."""
    released_at: float
    """This and the times below: of the first batch."""
    expires_at: float | None
    """None: it is never presented."""
    inbox_from: float | None
    """None: it is never in the inbox."""
    inbox_to: float | None
    ends_at: float
    """For the last batch, too."""
    cancelled_at: float | None
    updated_at: float
    batches: int
    pauses: Sequence[float]
    """When it was paused and went on, in turns."""


class Message(Shown, eq=False, kw_only=True):
    """A release of a message, with all that it says."""

    id: int
    app_id: int
    release: int
    """Which of its releases this is; 0: it went to all at once."""
    letters: Sequence[int] | None
    """Recipients of a release to few; None: there are bitmaps."""
    body: InAppBody | None
    """None: not read."""
    nbytes: int = 0
    """Of the body, of which a message has one for all its releases."""
    script: Any = None
    """What is made of a body that differs by reader, by whoever asks first."""


class Stored(Struct, frozen=True):
    """A message as its sender is shown it, with the texts that it is stored as."""

    id: int
    name: str | None
    audience: bytes
    body: InAppBody
    push: bytes | None
    created_at: float
    send_at: float | None
    schedule_id: int | None
    released_at: float | None
    expires_at: float | None
    ends_at: float | None
    cancelled_at: float | None
    updated_at: float
    notification_id: int | None
    next_at: float | None
    """When more of it is to come."""
    paused: bool
    schedule: Schedule | None
    counts: InAppCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """To whom a message is released, and until when it is shown."""

    at: float
    expires_at: float | None
    inbox_from: float | None
    inbox_to: float | None
    ends_at: float
    users: Users
    devices: Devices
    installs: int
    letters: Sequence[int] | None
    """Recipients of a message to few; None: users and devices are kept as bitmaps."""
    batches: int = 0
    """0: it is all of the message; else one of its releases, in so many batches."""
    missed: bool = False
    """Their time has passed: they do not get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to be kept, or the schedule that it is until its time comes."""

    app_id: int
    id: int
    created_at: float
    name: str | None
    audience: bytes
    """Of a schedule: its send, which says the time, too."""
    body: bytes
    """Of a schedule: all that it says."""
    push: bytes | None
    answer: bytes = b""
    """What a repetition of the request is told, beside the id."""
    due: Due | None = None
    """Of a schedule."""
    recurring: bool = False


class Kept(NamedTuple):
    """What is kept of a request: its message, or that which the same key brought before."""

    id: int
    replayed: bool
    answer: bytes


class PendingPush(NamedTuple):
    """A push that goes along and is not accepted yet."""

    message_id: int
    app_id: int
    released_at: float
    audience: bytes
    push: InAppPush


class Held(NamedTuple):
    """What of an app counts against its limits."""

    live: int
    bytes: int
    scheduled: int


class PartKey(NamedTuple):
    """A part of the recipients of a release."""

    message_id: int
    release: int
    users: bool
    part: int


def read_messages(rows: Iterable[Any]) -> list[Message]:
    """The releases of messages; of several of one message, which follow each other, only the first row has the body."""
    found: list[Message] = []
    for row in rows:
        body, last = row["body"], found[-1] if found else None
        whole = None if body is None else _body(body)
        if whole is None and last is not None and last.id == row["id"]:
            whole = last.body
        found.append(_message(row, whole, len(body or "")))
    return found


def read_push(row: Any) -> PendingPush:
    """The push of a row that waits to be accepted."""
    return PendingPush(
        row["message_id"], row["app_id"], seconds(row["released_at"]), row["audience"].encode(), _push(row["push"])
    )


def _message(row: Any, body: InAppBody | None, nbytes: int) -> Message:
    return Message(
        id=row["id"],
        app_id=row["app_id"],
        release=row["release"],
        letters=row["letters"],
        body=body,
        nbytes=nbytes,
        **shown(row),
    )


def shown(row: Any) -> dict[str, Any]:
    """The fields of Shown, from a row that has them under their names."""
    return {
        "created_at": row["created_at"],
        "released_at": seconds(row["released_at"]),
        "expires_at": seconds_or_none(row["expires_at"]),
        "inbox_from": seconds_or_none(row["inbox_from"]),
        "inbox_to": seconds_or_none(row["inbox_to"]),
        "ends_at": seconds(row["ends_at"]),
        "cancelled_at": seconds_or_none(row["cancelled_at"]),
        "updated_at": seconds(row["updated_at"]),
        "batches": row["batches"],
        "pauses": row["pauses"],
    }


def read_stored(row: Any) -> Stored:
    """The message of a row, as its sender is shown it."""
    send = row["send"]
    return Stored(
        id=row["id"],
        name=row["name"],
        audience=row["audience"].encode(),
        body=_body(row["body"]),
        push=None if row["push"] is None else row["push"].encode(),
        created_at=seconds(row["created_at"]),
        send_at=seconds_or_none(row["send_at"]),
        schedule_id=row["schedule_id"],
        released_at=seconds_or_none(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        ends_at=seconds_or_none(row["ends_at"]),
        cancelled_at=seconds_or_none(row["cancelled_at"]),
        updated_at=seconds(row["updated_at"]),
        notification_id=row["notification_id"],
        next_at=seconds_or_none(row["next_at"]),
        paused=row["paused"],
        schedule=None if send is None else _send(send).schedule,
        counts=InAppCounts(
            recipients=row["users"] + row["installs"],
            users=row["users"],
            suppressed=row["suppressed"],
            **{name: row[name] or 0 for name in ("delivered", "opened", "read", "dismissed", "deleted")},
        ),
    )


def batch(rank: int, count: int, batches: int) -> int:
    """The batch, from 0, of who stands at a rank, from 0, among so many that are cut into equal batches."""
    return ((rank + 1) * batches - 1) // count if batches > 1 else 0
