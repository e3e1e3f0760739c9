"""Resumes what dead nodes left: claimed under their fence, exactly what was targeted and is not settled."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pushd.bitset import Devices
from pushd.model.notification import Notification, Send, State
from pushd.store.database import Database
from pushd.store.outcomes import Counts
from pushd.store.times import seconds, seconds_or_none

_ABSENT = """
SELECT r.node_id AS id, n.name, n.fenced_at IS NOT NULL OR n.id IS NULL AS gone
FROM (SELECT DISTINCT node_id FROM runs WHERE node_id <> $1) r LEFT JOIN nodes n ON n.id = r.node_id
WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = 7002 AND l.objid = r.node_id
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_CLAIM = "SELECT claim_runs($1, $2, $3)"
_CLAIMED = "SELECT * FROM runs WHERE node_id = $1 AND claimed ORDER BY notification_id"
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


class Absences:
    """How long other nodes have been without their session.

    A session can be lost by a node that lives: when PostgreSQL restarts, all of them are, and who is back first must
    not take the others for dead. So a node has a while to come back. It is not waited for where nobody can come back:
    it said goodbye, was fenced, or was a process of this machine that is not there any more. That only spares the wait:
    what is claimed is claimed under lock and fence all the same.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._absent_s: dict[int, float] = {}
        self._looked_at = 0.0

    def over(self, absent: Sequence[Any], now: float) -> list[int]:
        """The nodes that are not waited for any more, of those that are absent now: rows of id, name and gone."""
        # A pause in which nobody looked proves little: PostgreSQL may have been away, and with it every session.
        passed_s = min(now - self._looked_at, self._grace_s / 3)
        self._looked_at = now
        before = self._absent_s
        self._absent_s = {row["id"]: before[row["id"]] + passed_s if row["id"] in before else 0.0 for row in absent}
        return [
            row["id"]
            for row in absent
            if row["gone"] or self._absent_s[row["id"]] >= self._grace_s or died(row["name"])
        ]


def died(name: str) -> bool:
    """Whether a node of this name was a process of this machine that is gone, or an earlier one of our own number."""
    host, _, pid = name.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


class Resumer:
    """Claims what dead nodes left.

    A claim is one transaction, and reading what was claimed are others: where these fail, or the answer of the first
    is lost, the next call gives out what this node owns and has not been given.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._absences = Absences(database.config.node_grace_s)
        self._unsure = False
        """Whether something may be claimed that was not given out."""
        self._given: set[int] = set()

    async def claim(self, node_id: int, limit: int) -> Sequence[Resume]:
        """What this node owns from now on and has to finish, at most so many; none when nobody left anything."""
        absent = await self._database.fetch(_ABSENT, node_id)
        others = self._absences.over(absent, asyncio.get_running_loop().time())
        if others:
            self._unsure = True
            await self._database.fetchval(_CLAIM, node_id, limit, others)
        if not self._unsure:
            return ()
        claimed = await self._database.fetch(_CLAIMED, node_id)
        self._given &= {run["notification_id"] for run in claimed}
        runs = [run for run in claimed if run["notification_id"] not in self._given][:limit]
        lefts = await self._read(runs) if runs else ()
        # Those too of which nothing is left: their partition is gone, and maintenance deletes the run.
        self._given.update(run["notification_id"] for run in runs)
        self._unsure = len(runs) == limit
        return lefts

    def give_back(self, notification_ids: Iterable[int]) -> None:
        """Takes back what was given out and could not be begun: the next claim gives it out again."""
        back = set(notification_ids)
        self._given -= back
        self._unsure = self._unsure or bool(back)

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
