"""Broadcast channels of Live Activities in the store: kept, found by their device or their key, listed, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pushd.errors import IdempotencyMismatchError
from pushd.model.live_activity import LiveActivityChannel
from pushd.model.rows import DeviceFlag
from pushd.store.database import Database
from pushd.store.fold import ENVIRONMENT_NUMBERS
from pushd.store.names import environment_of
from pushd.store.times import moment, seconds

_SELECT = """
SELECT c.*, d.flags FROM live_activity_channels c LEFT JOIN devices d ON d.id = c.device_id AND d.deleted_at IS NULL
WHERE c.app_id = $1
"""
_GET = f"{_SELECT} AND c.device_id = $2"
_FIND = f"{_SELECT} AND c.key = $2"
_LIST = f"""{_SELECT} AND c.device_id > $2 AND ($4::text IS NULL OR c.bundle = $4)
    AND ($5::smallint IS NULL OR c.environment = $5) ORDER BY c.device_id LIMIT $3"""
# Two conflicts are possible: the device is there (a channel taken over again), or its key brought another channel.
_PUT = """
WITH known AS (UPDATE live_activity_channels SET stores = $6 WHERE device_id = $2 RETURNING 1), made AS (
    INSERT INTO live_activity_channels
        (app_id, device_id, channel_id, environment, bundle, stores, created_at, key, body_hash)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT 1 FROM known UNION ALL SELECT 1 FROM made
"""
_DELETE = "DELETE FROM live_activity_channels WHERE app_id = $1 AND device_id = $2"

_REACHABLE = DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED


class LiveActivityChannelStore:
    """Channels of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, app_id: int, channel: LiveActivityChannel, idempotency: tuple[str, bytes] | None = None
    ) -> LiveActivityChannel:
        """The channel as it is kept; another one where the same key brought it first. IdempotencyMismatchError."""
        key, body_hash = idempotency or (None, None)
        kept = await self._database.fetchval(
            _PUT,
            *(app_id, channel.id, channel.channel_id, ENVIRONMENT_NUMBERS[channel.environment], channel.bundle),
            *(channel.stores, moment(channel.created_at), key, body_hash),
        )
        if kept is None and idempotency is not None and (first := await self.find(app_id, *idempotency)) is not None:
            return first
        return await self.get(app_id, channel.id) or channel  # as it will be read: times have microseconds there

    async def get(self, app_id: int, device_id: int) -> LiveActivityChannel | None:
        """The channel that a device stands for; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, device_id)
        return None if row is None else _channel(row)

    async def find(self, app_id: int, key: str, body_hash: bytes) -> LiveActivityChannel | None:
        """The channel that a key brought; None when it is new. IdempotencyMismatchError for another request's."""
        row = await self._database.fetchrow(_FIND, app_id, key)
        if row is None:
            return None
        if row["body_hash"] != body_hash:
            raise IdempotencyMismatchError
        return _channel(row)

    async def list(
        self, app_id: int, after: int, limit: int, *, bundle: str | None = None, environment: int | None = None
    ) -> Sequence[LiveActivityChannel]:
        """Channels whose devices have ids above `after`, ascending; of one bundle or environment where named."""
        return [_channel(row) for row in await self._database.fetch(_LIST, app_id, after, limit, bundle, environment)]

    async def delete(self, app_id: int, device_id: int) -> None:
        """Nothing, once the channel is forgotten."""
        await self._database.execute(_DELETE, app_id, device_id)


def _channel(row: Any) -> LiveActivityChannel:
    return LiveActivityChannel(
        id=row["device_id"],
        channel_id=row["channel_id"],
        bundle=row["bundle"],
        environment=environment_of(row["environment"]),
        stores=row["stores"],
        reachable=row["flags"] == _REACHABLE,
        created_at=seconds(row["created_at"]),
    )
