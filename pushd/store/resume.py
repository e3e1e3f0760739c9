"""Resumes what dead nodes left: claimed under their fence, exactly what was targeted and is not settled."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pushd.bitset import Devices
from pushd.model.notification import Notification, State
from pushd.store.database import Database
from pushd.store.notification_rows import read_notification
from pushd.store.outcomes import Counts
from pushd.store.settlements import run_number

_ABSENT = """
SELECT r.node_id AS id, n.name, n.fenced_at IS NOT NULL OR n.id IS NULL AS gone
FROM (SELECT DISTINCT node_id FROM runs WHERE node_id <> $1) r LEFT JOIN nodes n ON n.id = r.node_id
WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = 7002 AND l.objid = r.node_id
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_CLAIM = "SELECT claim_runs($1, $2, $3)"
_CLAIMED = """
SELECT * FROM runs WHERE node_id = $1 AND claimed AND (notification_id, release) > ($2, $3)
ORDER BY notification_id, release LIMIT $4
"""
# Life counts from each release.
_NOTIFICATIONS = """
SELECT n.id, n.app_id, n.created_at, n.name, n.send, n.devices, w.release,
    coalesce(r.released_at, n.released_at) AS released_at, coalesce(r.targeted, n.targeted) AS targeted,
    CASE WHEN r.number IS NULL THEN n.expires_at ELSE r.expires_at END AS expires_at
FROM unnest($1::int[], $2::bigint[], $3::int[], $4::timestamptz[]) AS w (app, id, release, created)
    JOIN notifications n ON n.app_id = w.app AND n.id = w.id AND n.created_at = w.created
    LEFT JOIN releases r ON w.release > 0
        AND r.notification_id = w.id AND r.number = w.release AND r.created_at = w.created
ORDER BY n.id, w.release
"""
# No join: statistics may say that there are no attempts or deltas, and all of them would be held against all runs.
_OF_RUNS = """, k.notification_id AS id, k.release AS number FROM {} k
WHERE k.notification_id = ANY($1::bigint[]) AND k.notification_id + (k.release::bigint << 32) = ANY($2::bigint[])
"""
_TARGETS = f"SELECT k.devices {_OF_RUNS.format('targets')}"
_ATTEMPTS = f"SELECT k.devices {_OF_RUNS.format('attempts')}"
_DELTAS = f"SELECT k.gateway, k.code, k.devices {_OF_RUNS.format('outcome_deltas')}"
_ROWS = """
SELECT o.notification_id AS id, 0 AS number, o.gateway, o.code, o.device_id
FROM unnest($1::bigint[], $2::int[]) AS w (id, device)
    JOIN outcomes o ON o.device_id = w.device AND o.notification_id = w.id
"""


SLICE_RUNS = 250
"""Runs that are read at a stretch, some 5 ms: then others have the event loop."""

_Run = tuple[int, int]
"""A notification's id, and which release of it."""
_START: _Run = (0, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A release to go on with. Cancelled ones too: what remains of them is to be settled as cancelled."""

    notification: Notification
    """With the life of the release; PAUSED: it waits until it is let go on."""
    release: int = 0
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
    is lost, the next call gives out what this node owns and has not been given. That is looked for in rounds, portion
    by portion, until there was one behind whose back nothing came.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._absences = Absences(database.config.node_grace_s)
        self._unsure = False
        """Whether something may be claimed that was not given out, before this round or in it."""
        self._again = False
        """Whether something may be by now that this round has passed."""
        self._behind = _START
        """How far this round has come."""
        self._given: set[_Run] = set()
        self._there: set[_Run] = set()
        """What this round has found: the others are over."""

    async def claim(self, node_id: int, limit: int) -> Sequence[Resume]:
        """What this node owns from now on and has to finish, at most so many; none when nobody left anything."""
        absent = await self._database.fetch(_ABSENT, node_id)
        others = self._absences.over(absent, asyncio.get_running_loop().time())
        if others:
            self._unsure = self._again = True
            await self._database.fetchval(_CLAIM, node_id, limit, others)
        while self._unsure:
            claimed = await self._database.fetch(_CLAIMED, node_id, *self._behind, limit)
            runs = [run for run in claimed if _run(run) not in self._given]
            lefts = await self._read(runs) if runs else ()
            # Those too of which nothing is left: their partition is gone, and maintenance deletes the run.
            self._given.update(_run(run) for run in runs)
            self._pass(claimed, last=len(claimed) < limit)
            if lefts:
                return lefts
        return ()

    def _pass(self, claimed: Sequence[Any], *, last: bool) -> None:
        """Goes on behind a portion, or ends the round."""
        self._there.update(map(_run, claimed))
        if not last:
            self._behind = _run(claimed[-1])
            return
        self._given &= self._there
        self._there = set()
        self._behind, self._unsure, self._again = _START, self._again, False

    def give_back(self, lefts: Iterable[Resume]) -> None:
        """Takes back what was given out and could not be begun: the next claim gives it out again."""
        back = {(left.notification.id, left.release) for left in lefts}
        self._given -= back
        if back:
            self._unsure = self._again = True

    async def _read(self, runs: Sequence[Any]) -> Sequence[Resume]:
        states = {_run(run): _state(run) for run in runs}
        timeout_s = self._database.config.bulk_timeout_s
        rows = await self._database.fetch(
            _NOTIFICATIONS,
            [run["app_id"] for run in runs],
            [run["notification_id"] for run in runs],
            [run["release"] for run in runs],
            [run["created_at"] for run in runs],
            timeout_s=timeout_s,
        )
        keys = [row["id"] for row in rows], [run_number(row["id"], row["release"]) for row in rows]
        targets = {(row["id"], row["release"]): Devices(row["devices"] or ()) for row in rows}
        settled: dict[_Run, Devices] = defaultdict(Devices)
        attempted: dict[_Run, Devices] = defaultdict(Devices)
        counts: dict[_Run, Counts] = defaultdict(dict)
        for row in await self._database.fetch(_TARGETS, *keys, timeout_s=timeout_s):
            targets[row["id"], row["number"]] |= Devices.load(row["devices"])
        for row in await self._database.fetch(_ATTEMPTS, *keys, timeout_s=timeout_s):
            attempted[row["id"], row["number"]] |= Devices.load(row["devices"])
        for row in await self._database.fetch(_DELTAS, *keys, timeout_s=timeout_s):
            _count(settled, counts, row, Devices.load(row["devices"]))
        small = [(row["id"], device) for row in rows for device in row["devices"] or ()]
        for row in await self._database.fetch(
            _ROWS, [each for each, _ in small], [device for _, device in small], timeout_s=timeout_s
        ):
            _count(settled, counts, row, Devices([row["device_id"]]))
        lefts: list[Resume] = []
        for row in rows:
            run = row["id"], row["release"]
            lefts.append(
                Resume(
                    notification=read_notification(row, states[run]),
                    release=run[1],
                    targeted=row["targeted"],
                    counts=counts[run],
                    remaining=targets[run] - settled[run],
                    attempted=attempted[run] & targets[run] - settled[run],
                )
            )
            if not len(lefts) % SLICE_RUNS:
                await asyncio.sleep(0)
        return lefts


def _run(row: Any) -> _Run:
    return row["notification_id"], row["release"]


def _state(run: Any) -> State:
    if run["cancelled_at"] is not None:
        return State.CANCELLED
    return State.RUNNING if run["paused_at"] is None else State.PAUSED


def _count(settled: dict[_Run, Devices], counts: dict[_Run, Counts], row: Any, devices: Devices) -> None:
    run, key = (row["id"], row["number"]), (row["gateway"], row["code"])
    settled[run] |= devices
    counts[run][key] = counts[run].get(key, 0) + len(devices)
