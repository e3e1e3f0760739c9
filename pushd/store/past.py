"""Reads the past as sets: whom a notification went to, how it ended there, who opened it or anything of late."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from pushd.bitset import Devices
from pushd.model.receipt import Event
from pushd.store.database import Database
from pushd.store.outcomes import read_targets
from pushd.store.receipt_folds import read_delta
from pushd.store.times import moment, seconds
from pushd.store.together import Together

SLICE_SETS = 8
"""Stored sets that are read at a stretch, 1 ms where they are dense: then others have the event loop."""
DAYS_AT_ONCE = 16
"""Days whose bitmaps are in memory at a time."""

_SENT = "SELECT created_at, devices FROM notifications WHERE app_id = $1 AND id = $2"
_TARGETS = "SELECT NULL::int[] AS devices, devices AS part FROM targets WHERE notification_id = $1 AND created_at = $2"
# Rows of a small send are found through its own devices; those of a large one, compacted or not, are bitmaps.
_ENDED_ROWS = """
SELECT DISTINCT o.device_id FROM unnest($2::int[]) AS t (device)
    JOIN outcomes o ON o.device_id = t.device AND o.notification_id = $1 AND o.at >= $3
    JOIN unnest($4::smallint[], $5::smallint[]) AS w (gateway, code) USING (gateway, code)
"""
_ENDED_PARTS = """
SELECT p.devices FROM outcome_parts p
    JOIN unnest($3::smallint[], $4::smallint[]) AS w (gateway, code) USING (gateway, code)
WHERE p.notification_id = $1 AND p.created_at = $2
UNION ALL
SELECT d.devices FROM outcome_deltas d
    JOIN unnest($3::smallint[], $4::smallint[]) AS w (gateway, code) USING (gateway, code)
WHERE d.notification_id = $1
"""
_REPORTED_ROWS = """
SELECT DISTINCT d.id FROM receipts r JOIN devices d ON d.install = r.install AND d.deleted_at IS NULL
WHERE r.notification_id = $1 AND r.created_at = $2 AND r.event = ANY ($3)
    AND ($4::text[] IS NULL OR r.button = ANY ($4))
"""
_REPORTED_PARTS = """
SELECT devices AS part, NULL::bytea AS delta FROM receipt_parts
WHERE notification_id = $1 AND created_at = $2 AND event = ANY ($3) AND ($4::text[] IS NULL OR button = ANY ($4))
UNION ALL
SELECT NULL, devices FROM receipt_deltas
WHERE notification_id = $1 AND event = ANY ($3) AND ($4::text[] IS NULL OR button = ANY ($4))
"""
_DAYS = """
SELECT devices AS part, NULL::bytea AS delta FROM opened_days WHERE app_id = $1 AND day >= $2 AND day < $3
UNION ALL
SELECT NULL, devices FROM opened_day_deltas WHERE app_id = $1 AND day >= $2 AND day < $3
"""
_INSTALLS = """
SELECT n.row, d.id FROM unnest($1::int[], $2::text[]) WITH ORDINALITY AS n (app_id, name, row)
    JOIN installs i ON i.app_id = n.app_id AND i.name = n.name
    LEFT JOIN devices d ON d.install = i.id AND d.deleted_at IS NULL
"""
_UNIQUE = """
SELECT event, count(*) AS total, count(DISTINCT install) AS installs, count(DISTINCT user_id) AS users
FROM receipts WHERE notification_id = $1 AND created_at = $2 GROUP BY 1
"""
_INSTALL_OPENS = """
SELECT o.id AS position, i.name, o.at FROM install_opens($1, $2, $3, $4) o
    LEFT JOIN LATERAL (SELECT k.name FROM installs k WHERE k.id = o.id OFFSET 0) i ON true ORDER BY 1
"""
_USER_OPENS = """
SELECT o.id AS position, u.external_id AS name, o.at FROM user_opens($1, $2, $3, $4) o
    LEFT JOIN LATERAL (
        SELECT k.external_id FROM users k WHERE k.id = o.id AND k.deleted_at IS NULL OFFSET 0) u ON true
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A notification that went out, as far as the past is asked about it."""

    id: int
    created_at: datetime
    devices: Sequence[int] | None
    """Of a small send; None: there are bitmaps."""


class Opening(NamedTuple):
    """Who first opened a notification when; `position` is what a page goes on after."""

    position: int
    name: str | None
    """None: it is gone."""
    at: float


class EventCount(NamedTuple):
    """How often an event was reported, of how many installs and of how many users."""

    total: int
    installs: int
    users: int


class PastReader:
    """Reads what was sent, settled and reported, in whichever form it is kept; each set is as of one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._single = Together(self._installs)

    async def sent(self, app_id: int, notification_id: int) -> Sent | None:
        """The notification; None when the app has no such one (any more)."""
        row = await self._database.fetchrow(_SENT, app_id, notification_id)
        return Sent(notification_id, row["created_at"], row["devices"]) if row else None

    async def targets(self, sent: Sent) -> Devices:
        """Whom it went to."""
        if sent.devices is not None:
            return Devices(sent.devices)
        return read_targets(await self._database.fetch(_TARGETS, sent.id, sent.created_at))

    async def ended(self, sent: Sent, outcomes: Collection[tuple[int, int]]) -> Devices:
        """Where it ended, by what is committed, with one of these (gateway number, code) pairs."""
        pairs = [gateway for gateway, _ in outcomes], [code for _, code in outcomes]
        if sent.devices is not None:
            since = sent.created_at - timedelta(days=1)
            rows = await self._database.fetch(_ENDED_ROWS, sent.id, list(sent.devices), since, *pairs)
            return Devices([row["device_id"] for row in rows])
        rows = await self._database.fetch(_ENDED_PARTS, sent.id, sent.created_at, *pairs)
        return await _united(Devices.load(row["devices"]) for row in rows)

    async def reported(self, sent: Sent, events: Collection[Event], buttons: Sequence[str] | None = None) -> Devices:
        """The devices of installs that reported one of these events, of one of these buttons where given.

        All of their devices: who asks knows to which of them it went.
        """
        numbers = [event.number for event in events]
        if sent.devices is not None:
            rows = await self._database.fetch(_REPORTED_ROWS, sent.id, sent.created_at, numbers, buttons)
            return Devices([row["id"] for row in rows])
        rows = await self._database.fetch(_REPORTED_PARTS, sent.id, sent.created_at, numbers, buttons)
        return await _united(_sets(rows))

    async def opened_since(self, app_id: int, since: float, until: float) -> Devices:
        """The devices of installs that opened anything of the app on the days (UTC) from one time to another."""
        day = moment(since).replace(hour=0, minute=0, second=0, microsecond=0)
        opened = Devices()
        while day <= moment(until):
            end = day + timedelta(days=DAYS_AT_ONCE)
            opened |= await _united(_sets(await self._database.fetch(_DAYS, app_id, day, end)))
            day = end
        return opened

    async def installs(self, app_id: int, names: Sequence[str]) -> Sequence[tuple[int, int | None]]:
        """Pairs (position of the name, device id) of the installs that the app has; None where one has no device."""
        if len(names) == 1:
            return [(0, device) for device in await self._single.get((app_id, names[0])) or ()]
        rows = await self._database.fetch(_INSTALLS, [app_id] * len(names), names)
        return [(row["row"] - 1, row["id"]) for row in rows]

    async def _installs(self, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], list[int | None]]:
        """Device ids by app and name of an install; None where it has no device."""
        apps, names = [app_id for app_id, _ in wanted], [name for _, name in wanted]
        rows = await self._database.fetch(_INSTALLS, apps, names, timeout_s=self._database.config.past_timeout_s)
        found: dict[tuple[int, str], list[int | None]] = {}
        for row in rows:
            found.setdefault(wanted[row["row"] - 1], []).append(row["id"])
        return found

    async def counts(self, sent: Sent) -> Mapping[Event, EventCount]:
        """How often each event was reported; one that never was is missing."""
        rows = await self._database.fetch(_UNIQUE, sent.id, sent.created_at)
        by_number = {event.number: event for event in Event}
        return {by_number[row["event"]]: EventCount(row["total"], row["installs"], row["users"]) for row in rows}

    async def install_opens(self, sent: Sent, after: int, limit: int) -> Sequence[Opening]:
        """Installs that opened it, and when first, from a position on."""
        return [
            Opening(row["position"], row["name"], seconds(row["at"]))
            for row in await self._database.fetch(_INSTALL_OPENS, sent.id, sent.created_at, after, limit)
        ]

    async def user_opens(self, sent: Sent, after: int, limit: int) -> Sequence[Opening]:
        """Users that opened it, and when first on any of their installs, from a position on."""
        return [
            Opening(row["position"], row["name"], seconds(row["at"]))
            for row in await self._database.fetch(_USER_OPENS, sent.id, sent.created_at, after, limit)
        ]


def _sets(rows: Sequence[Any]) -> Iterator[Devices]:
    """What is stored, folded or not."""
    return (read_delta(row["delta"]) if row["part"] is None else Devices.load(row["part"]) for row in rows)


async def _united(sets: Iterator[Devices]) -> Devices:
    """All of these sets together, read in slices."""
    united = Devices()
    while part := list(islice(sets, SLICE_SETS)):
        united |= part[0] if len(part) == 1 else Devices.union(*part)
        if len(part) == SLICE_SETS:
            await asyncio.sleep(0)
    return united
