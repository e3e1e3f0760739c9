"""Reads what reports are made of: events counted and by time, buttons, push tags, and one device's part in a send."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pushd.bitset import PART_BITS, Devices
from pushd.model.receipt import OPENING, Event
from pushd.store.database import Database
from pushd.store.past import EventCount, Sent
from pushd.store.times import moment, seconds

_COUNT = """
SELECT count(*) AS total, count(DISTINCT install) AS installs, count(DISTINCT user_id) AS users
FROM receipts WHERE notification_id = $1 AND created_at = $2 AND event = ANY ($3)
"""
_BUTTONS = """
SELECT button, count(*) AS total, count(DISTINCT install) AS installs FROM receipts
WHERE notification_id = $1 AND created_at = $2 AND event = $3 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $4
"""
_SERIES = """
SELECT (floor(extract(epoch FROM at) / $3) * $3)::bigint AS start, event, count(*) AS total FROM receipts
WHERE notification_id = $1 AND created_at = $2 AND at >= $4 AND at < $5 GROUP BY 1, 2 ORDER BY 1, 2
"""
_FIRST_OPENS = """
SELECT (floor(extract(epoch FROM o.at) / $3) * $3)::bigint AS start, count(*) AS installs FROM (
    SELECT min(at) AS at FROM receipts
    WHERE notification_id = $1 AND created_at = $2 AND event = ANY ($6) GROUP BY install
) o WHERE o.at >= $4 AND o.at < $5 GROUP BY 1 ORDER BY 1
"""
# Names are looked up one by one: a plan made before there are statistics reads all installs for each page.
_RECEIPTS = """
SELECT r.install, r.event_id, i.name, u.external_id, r.event, r.button, r.at FROM (
    SELECT * FROM receipts
    WHERE notification_id = $1 AND created_at = $2 AND (install, event_id) > ($3, $4)
    ORDER BY install, event_id LIMIT $5
) r
    LEFT JOIN LATERAL (SELECT k.name FROM installs k WHERE k.id = r.install OFFSET 0) i ON true
    LEFT JOIN LATERAL (
        SELECT k.external_id FROM users k WHERE k.id = r.user_id AND k.deleted_at IS NULL OFFSET 0) u ON true
ORDER BY 1, 2
"""
_NAMES = """
SELECT d.id, i.name, u.external_id FROM unnest($2::int[]) AS n (id)
    CROSS JOIN LATERAL (SELECT k.id, k.install, k.user_id FROM devices k
        WHERE k.id = n.id AND k.app_id = $1 AND k.deleted_at IS NULL OFFSET 0) d
    LEFT JOIN LATERAL (SELECT k.name FROM installs k WHERE k.id = d.install OFFSET 0) i ON true
    LEFT JOIN LATERAL (
        SELECT k.external_id FROM users k WHERE k.id = d.user_id AND k.deleted_at IS NULL OFFSET 0) u ON true
"""
_OWN_EVENTS = """
SELECT r.event, r.button, r.at FROM devices d
    JOIN receipts r ON r.install = d.install AND r.notification_id = $1 AND r.created_at = $2
WHERE d.id = $3 AND d.app_id = $4 ORDER BY r.at DESC, r.event DESC LIMIT $5
"""
_OWN_TARGETS = "SELECT devices FROM targets WHERE notification_id = $1 AND created_at = $2 AND part = $3"
_OWN_ROWS = """
SELECT gateway, code, at FROM outcomes WHERE device_id = $1 AND notification_id = $2 ORDER BY at DESC LIMIT 1
"""
_OWN_PARTS = """
SELECT gateway, code, devices, at FROM outcome_parts WHERE notification_id = $1 AND created_at = $2 AND part = $3
UNION ALL
SELECT gateway, code, devices, at FROM outcome_deltas WHERE notification_id = $1 AND part = $3
ORDER BY 4 DESC
"""
# The second condition is that of the index.
_TAGGED = "app_id = $1 AND strpos(send, '\"push_tag\":') > 0 AND created_at >= $2 AND created_at < $3"
_TAGS = f"""
SELECT push_tag_of(send) AS tag, count(*) AS count, min(created_at) AS first_at, max(created_at) AS last_at
FROM notifications WHERE {_TAGGED} AND push_tag_of(send) > $4 GROUP BY 1 ORDER BY 1 LIMIT $5
"""  # noqa: S608  # a constant
_OF_TAG = f"""
SELECT id FROM notifications WHERE {_TAGGED} AND push_tag_of(send) = $4 ORDER BY id DESC LIMIT $5
"""  # noqa: S608  # a constant

_OPENING = sorted(event.number for event in OPENING)
_EVENTS = {event.number: event for event in Event}


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, its end left out, and the step by which it is cut."""

    since: float
    until: float
    step_s: int


class ButtonCount(NamedTuple):
    """Clicks of a button; None is the notification itself."""

    button: str | None
    total: int
    installs: int


class Reported(NamedTuple):
    """A receipt as it is exported; what is behind `install` may be gone."""

    install: int
    event_id: int
    install_id: str | None
    user_id: str | None
    event: Event
    button: str | None
    at: float


class Tagged(NamedTuple):
    """What was sent under a tag."""

    tag: str
    notifications: int
    first_at: float
    last_at: float


class Ended(NamedTuple):
    """How a notification ended on a device."""

    gateway: int
    code: int
    at: float


class ReportReader:
    """Reads for reports; what is named has been looked up before, and is of the app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, sent: Sent, events: Collection[Event]) -> EventCount:
        """How often any of these events was reported, of how many installs, of how many users."""
        numbers = [event.number for event in events]
        row = await self._database.fetchrow(_COUNT, sent.id, sent.created_at, numbers)
        return EventCount(row["total"], row["installs"], row["users"])

    async def buttons(self, sent: Sent, most: int) -> Sequence[ButtonCount]:
        """Clicks by button, the most frequent first."""
        rows = await self._database.fetch(_BUTTONS, sent.id, sent.created_at, Event.CLICKED.number, most)
        return [ButtonCount(row["button"], row["total"], row["installs"]) for row in rows]

    async def series(self, sent: Sent, window: Window) -> Sequence[tuple[int, Event, int]]:
        """(Start, event, how often) for each step in which it was reported."""
        span = window.step_s, moment(window.since), moment(window.until)
        rows = await self._database.fetch(_SERIES, sent.id, sent.created_at, *span)
        return [(row["start"], _EVENTS[row["event"]], row["total"]) for row in rows]

    async def first_opens(self, sent: Sent, window: Window) -> Sequence[tuple[int, int]]:
        """(Start, installs that opened it for the first time) for each step in which there were any."""
        span = window.step_s, moment(window.since), moment(window.until)
        rows = await self._database.fetch(_FIRST_OPENS, sent.id, sent.created_at, *span, _OPENING)
        return [(row["start"], row["installs"]) for row in rows]

    async def receipts(self, sent: Sent, after: tuple[int, int], limit: int) -> Sequence[Reported]:
        """Receipts by install and number of the event, from behind a pair of them."""
        return [
            Reported(
                install=row["install"],
                event_id=row["event_id"],
                install_id=row["name"],
                user_id=row["external_id"],
                event=_EVENTS[row["event"]],
                button=row["button"],
                at=seconds(row["at"]),
            )
            for row in await self._database.fetch(_RECEIPTS, sent.id, sent.created_at, *after, limit)
        ]

    async def names(self, app_id: int, ids: Collection[int]) -> dict[int, tuple[str | None, str | None]]:
        """(Install id, user id) by device; those that are gone are missing."""
        rows = await self._database.fetch(_NAMES, app_id, list(ids))
        return {row["id"]: (row["name"], row["external_id"]) for row in rows}

    async def targets(self, sent: Sent, device_id: int) -> bool:
        """Whether it went to this device."""
        if sent.devices is not None:
            return device_id in sent.devices
        rows = await self._database.fetch(_OWN_TARGETS, sent.id, sent.created_at, device_id >> PART_BITS)
        return any(device_id in Devices.load(row["devices"]) for row in rows)

    async def ended(self, sent: Sent, device_id: int) -> Ended | None:
        """How it ended on a device; None where that is not settled, or it did not go there."""
        rows = await self._database.fetch(_OWN_ROWS, device_id, sent.id)
        if not rows:
            found = await self._database.fetch(_OWN_PARTS, sent.id, sent.created_at, device_id >> PART_BITS)
            rows = [row for row in found if device_id in Devices.load(row["devices"])]
        return Ended(rows[0]["gateway"], rows[0]["code"], seconds(rows[0]["at"])) if rows else None

    async def events(
        self, app_id: int, sent: Sent, device_id: int, most: int
    ) -> Sequence[tuple[Event, str | None, float]]:
        """(Event, button, time) of what the device's install reported, the newest first."""
        rows = await self._database.fetch(_OWN_EVENTS, sent.id, sent.created_at, device_id, app_id, most)
        return [(_EVENTS[row["event"]], row["button"], seconds(row["at"])) for row in rows]

    async def tags(self, app_id: int, since: float, until: float, after: str, limit: int) -> Sequence[Tagged]:
        """Push tags above `after`, ascending, of what was accepted in a span of time."""
        rows = await self._database.fetch(_TAGS, app_id, moment(since), moment(until), after, limit)
        return [Tagged(row["tag"], row["count"], seconds(row["first_at"]), seconds(row["last_at"])) for row in rows]

    async def tagged(self, app_id: int, since: float, until: float, tag: str, limit: int) -> Sequence[int]:
        """Notifications with a push tag that were accepted in a span of time, the newest first."""
        rows = await self._database.fetch(_OF_TAG, app_id, moment(since), moment(until), tag, limit)
        return [row["id"] for row in rows]
