"""Resumes what dead nodes left: claimed under their fence, exactly what was targeted and is not settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pushd.bitset import Devices
from pushd.model.notification import Notification, Send, State
from pushd.store.database import Database
from pushd.store.outcomes import Counts
from pushd.store.times import seconds, seconds_or_none

_CLAIM = "SELECT * FROM claim_runs($1, $2)"
_MINE = "SELECT * FROM runs WHERE node_id = $1 AND notification_id = ANY($2)"
_NOTIFICATIONS = """
SELECT n.* FROM unnest($1::int[], $2::bigint[], $3::timestamptz[]) AS w (app, id, created)
    JOIN notifications n ON n.app_id = w.app AND n.id = w.id AND n.created_at = w.created
ORDER BY n.id
"""
_TARGETS = "SELECT notification_id, devices FROM targets WHERE notification_id = ANY($1)"
_ATTEMPTS = "SELECT notification_id, devices FROM attempts WHERE notification_id = ANY($1)"
_DELTAS = "SELECT notification_id, gateway, code, devices FROM outcome_deltas WHERE notification_id = ANY($1)"
_ROWS = """
SELECT o.notification_id, o.gateway, o.code, o.device_id
FROM unnest($1::bigint[], $2::int[]) AS w (id, device)
    JOIN outcomes o ON o.device_id = w.device AND o.notification_id = w.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A notification to go on with. Cancelled ones too: what remains of them is to be settled as cancelled."""

    notification: Notification
    targeted: int
    counts: Counts
    """Committed outcomes by (gateway number, code)."""
    remaining: Devices
    """Targeted and not settled."""
    attempted: Devices
    """Of what goes out at most once: those that may have been sent to."""


class Resumer:
    """Claims what dead nodes left."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, node_id: int, limit: int) -> Sequence[Resume]:
        """What this node owns from now on and has to finish, at most so many; none when nobody left anything."""
        runs = await self._database.fetch(_CLAIM, node_id, limit)
        return await self._read(runs) if runs else ()

    async def _read(self, runs: Sequence[Any]) -> Sequence[Resume]:
        cancelled = {run["notification_id"] for run in runs if run["cancelled_at"] is not None}
        timeout_s = self._database.config.bulk_timeout_s
        rows = await self._database.fetch(
            _NOTIFICATIONS,
            [run["app_id"] for run in runs],
            [run["notification_id"] for run in runs],
            [run["created_at"] for run in runs],
            timeout_s=timeout_s,
        )
        ids = [row["id"] for row in rows]
        targets = {row["id"]: Devices(row["devices"] or ()) for row in rows}
        settled: dict[int, Devices] = defaultdict(Devices)
        attempted: dict[int, Devices] = defaultdict(Devices)
        counts: dict[int, Counts] = defaultdict(dict)
        for row in await self._database.fetch(_TARGETS, ids, timeout_s=timeout_s):
            targets[row["notification_id"]] |= Devices.load(row["devices"])
        for row in await self._database.fetch(_ATTEMPTS, ids, timeout_s=timeout_s):
            attempted[row["notification_id"]] |= Devices.load(row["devices"])
        for row in await self._database.fetch(_DELTAS, ids, timeout_s=timeout_s):
            _count(settled, counts, row, Devices.load(row["devices"]))
        small = [(row["id"], device) for row in rows for device in row["devices"] or ()]
        for row in await self._database.fetch(
            _ROWS, [each for each, _ in small], [device for _, device in small], timeout_s=timeout_s
        ):
            _count(settled, counts, row, Devices([row["device_id"]]))
        return [
            Resume(
                notification=_notification(row, cancelled),
                targeted=row["targeted"],
                counts=counts[row["id"]],
                remaining=targets[row["id"]] - settled[row["id"]],
                attempted=attempted[row["id"]] & targets[row["id"]] - settled[row["id"]],
            )
            for row in rows
        ]


def _count(settled: dict[int, Devices], counts: dict[int, Counts], row: Any, devices: Devices) -> None:
    notification_id, key = row["notification_id"], (row["gateway"], row["code"])
    settled[notification_id] |= devices
    counts[notification_id][key] = counts[notification_id].get(key, 0) + len(devices)


def _notification(row: Any, cancelled: set[int]) -> Notification:
    return Notification(
        id=row["id"],
        app_id=row["app_id"],
        send=msgspec.json.decode(row["send"], type=Send),
        created_at=seconds(row["created_at"]),
        released_at=seconds(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        state=State.CANCELLED if row["id"] in cancelled else State.RUNNING,
    )
