"""Reads what was settled: counts of a notification, the devices behind an outcome, a device's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from pushd.bitset import PART_BITS, Devices
from pushd.store.database import Database
from pushd.store.times import seconds

CAMPAIGNS_AT_ONCE = 16
"""Campaigns whose bitmaps are in memory at a time, where a device's history is looked for."""

Counts: TypeAlias = dict[tuple[int, int], int]
"""Rows by (gateway number, code)."""

# Outcomes of a small send are found through its own devices; those of a large one, compacted or not, are bitmaps.
_COUNTS = """
SELECT n.id, o.gateway, o.code, count(*) AS count
FROM notifications n CROSS JOIN LATERAL unnest(n.devices) AS t (device)
    JOIN outcomes o ON o.device_id = t.device AND o.notification_id = n.id AND o.at >= n.created_at - interval '1 day'
WHERE n.app_id = $2 AND n.id = ANY($1)
GROUP BY 1, 2, 3
UNION ALL
SELECT notification_id, gateway, code, sum(count) FROM outcome_deltas
WHERE app_id = $2 AND notification_id = ANY($1) GROUP BY 1, 2, 3
UNION ALL
SELECT notification_id, gateway, code, sum(count) FROM outcome_parts
WHERE app_id = $2 AND notification_id = ANY($1) GROUP BY 1, 2, 3
"""
_ROWS = """
SELECT o.device_id, o.gateway, o.code
FROM notifications n CROSS JOIN LATERAL unnest(n.devices) AS t (device)
    JOIN outcomes o ON o.device_id = t.device AND o.notification_id = n.id AND o.at >= n.created_at - interval '1 day'
WHERE n.app_id = $1 AND n.id = $2 ORDER BY 1
"""
_PARTS = """
SELECT part, gateway, code, devices FROM outcome_deltas WHERE app_id = $1 AND notification_id = $2 AND part >= $3
UNION ALL
SELECT part, gateway, code, devices FROM outcome_parts WHERE app_id = $1 AND notification_id = $2 AND part >= $3
ORDER BY 1
"""
_TARGETS = """
SELECT devices, NULL::bytea AS part FROM notifications WHERE app_id = $1 AND id = $2
UNION ALL
SELECT NULL, t.devices FROM notifications n JOIN targets t ON t.notification_id = n.id AND t.created_at = n.created_at
WHERE n.app_id = $1 AND n.id = $2
"""
_HISTORY_ROWS = """
SELECT notification_id, gateway, code, at FROM outcomes WHERE device_id = $1 ORDER BY notification_id DESC LIMIT $2
"""
# The newest campaigns that touched a part at all; by the index, from its end.
_CAMPAIGNS = """
SELECT notification_id FROM (
    (SELECT DISTINCT notification_id FROM outcome_parts WHERE app_id = $1 AND part = $2 ORDER BY 1 DESC LIMIT $3)
    UNION
    (SELECT DISTINCT notification_id FROM outcome_deltas WHERE app_id = $1 AND part = $2 ORDER BY 1 DESC LIMIT $3)
) c ORDER BY 1 DESC LIMIT $3
"""
_HISTORY_PARTS = """
SELECT n.id AS notification_id, p.* FROM unnest($1::bigint[]) AS n (id) CROSS JOIN LATERAL (
    SELECT k.gateway, k.code, k.devices, k.at FROM outcome_parts k WHERE k.notification_id = n.id AND k.part = $2
    UNION ALL
    SELECT k.gateway, k.code, k.devices, k.at FROM outcome_deltas k WHERE k.notification_id = n.id AND k.part = $2
    OFFSET 0) p
"""


class OutcomeDevice(NamedTuple):
    """A device, and how it ended."""

    device_id: int
    gateway: int
    code: int


class Sending(NamedTuple):
    """What became of one notification on one device; `at` is when that was settled, or its large send finished."""

    notification_id: int
    gateway: int
    code: int
    at: float


class OutcomeReader:
    """Reads outcomes, whichever way they are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self, app_id: int, notification_ids: Sequence[int]) -> dict[int, Counts]:
        """Committed outcomes by notification of an app; one that has none is missing."""
        counts: dict[int, Counts] = {}
        if notification_ids:
            for row in await self._database.fetch(_COUNTS, list(notification_ids), app_id):
                own = counts.setdefault(row["id"], {})
                key = (row["gateway"], row["code"])
                own[key] = own.get(key, 0) + int(row["count"])
        return counts

    async def devices(
        self, app_id: int, notification_id: int, wanted: Sequence[tuple[int, int]], after: int, limit: int
    ) -> Sequence[OutcomeDevice]:
        """Devices with ids above `after`, ascending, that ended with one of the (gateway number, code) pairs."""
        pairs = set(wanted)
        found = [
            OutcomeDevice(row["device_id"], row["gateway"], row["code"])
            for row in await self._database.fetch(_ROWS, app_id, notification_id)
            if (row["gateway"], row["code"]) in pairs and row["device_id"] > after
        ]
        for row in await self._database.fetch(_PARTS, app_id, notification_id, (after + 1) >> PART_BITS):
            if (row["gateway"], row["code"]) in pairs:
                devices = _above(Devices.load(row["devices"]), after, limit)
                found += [OutcomeDevice(each, row["gateway"], row["code"]) for each in devices]
        return sorted(found)[:limit]

    async def pending(self, app_id: int, notification_id: int, after: int, limit: int) -> Sequence[int]:
        """Ids above `after`, ascending, of targeted devices without a committed outcome."""
        targets = read_targets(await self._database.fetch(_TARGETS, app_id, notification_id))
        return _above(targets - await self.settled(app_id, notification_id), after, limit)

    async def settled(self, app_id: int, notification_id: int) -> Devices:
        """Every device that has a committed outcome."""
        rows = await self._database.fetch(_ROWS, app_id, notification_id)
        devices = Devices([row["device_id"] for row in rows])
        for row in await self._database.fetch(_PARTS, app_id, notification_id, 0):
            devices |= Devices.load(row["devices"])
        return devices

    async def history(self, app_id: int, device_id: int, limit: int) -> Sequence[Sending]:
        """What was settled for a device, the newest notification first."""
        found = [
            Sending(row["notification_id"], row["gateway"], row["code"], seconds(row["at"]))
            for row in await self._database.fetch(_HISTORY_ROWS, device_id, limit)
        ]
        part, most = device_id >> PART_BITS, self._database.config.history_campaigns_max
        campaigns = [row[0] for row in await self._database.fetch(_CAMPAIGNS, app_id, part, most)]
        newest: list[Sending] = []
        for start in range(0, len(campaigns), CAMPAIGNS_AT_ONCE):
            some = campaigns[start : start + CAMPAIGNS_AT_ONCE]
            newest += [
                Sending(row["notification_id"], row["gateway"], row["code"], seconds(row["at"]))
                for row in await self._database.fetch(_HISTORY_PARTS, some, part)
                if device_id in Devices.load(row["devices"])
            ]
            if len(newest) >= limit:  # the others are older
                break
        found += newest
        return sorted(found, reverse=True)[:limit]


def read_targets(rows: Sequence[Any]) -> Devices:
    """The devices of a notification, from its own row or its parts."""
    targets = Devices()
    for row in rows:
        if row["devices"] is not None:
            targets |= Devices(row["devices"])
        if row["part"] is not None:
            targets |= Devices.load(row["part"])
    return targets


def _above(devices: Devices, after: int, limit: int) -> list[int]:
    """The lowest ids above a number."""
    begin = devices.rank(after)
    return list(devices[begin : begin + limit])
