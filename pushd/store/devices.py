"""Devices in the store: registered, read, listed, deleted, revived, and loaded whole for the index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.clock import Clock
from pushd.model.device import Device, Platform, Registration, Shape
from pushd.model.rows import DeviceFlag, DeviceRows
from pushd.service import Service
from pushd.store.badges import BadgeStore
from pushd.store.columns import DEVICE_COLUMNS, join_devices, join_users, split_by_width, unpack_devices
from pushd.store.database import Database
from pushd.store.loading import DEVICE_SPACE, Snapshot, chunks
from pushd.store.names import KINDS, Names, environment_of
from pushd.store.registration import Registered, Registrar
from pushd.store.times import moment, seconds, seconds_or_none

_SELECT = """
SELECT d.id, d.kind, d.flags, d.token, i.tags, d.registered_at, d.retired_at, d.retired_reason, r.environment, r.bundle,
    r.shape, i.name, i.alias, i.push_enabled, i.in_app_consent, i.created_at, u.external_id,
    p.platform, p.locale, p.time_zone, p.app_version, p.os_version, p.country,
    greatest(i.last_seen_at,
        (SELECT max(s.registered_at) FROM devices s WHERE s.install = i.id AND s.deleted_at IS NULL)) AS last_seen_at,
    (SELECT b.seq FROM badge_apps b WHERE b.app_id = $1) AS counted
FROM {devices} d JOIN installs i ON i.id = d.install JOIN routes r ON r.id = d.route_id
    LEFT JOIN users u ON u.id = d.user_id LEFT JOIN profiles p ON p.id = i.profile_id
ORDER BY d.id
"""
_GET = _SELECT.format(
    devices="(SELECT * FROM devices WHERE id = $2 AND app_id = $1 AND deleted_at IS NULL)",
)
_GET_MANY = _SELECT.format(
    devices="(SELECT * FROM devices WHERE id = ANY($2) AND app_id = $1 AND deleted_at IS NULL)",
)
_TOKENS = """
SELECT id, token FROM devices WHERE id = ANY($2) AND app_id = $1 AND deleted_at IS NULL AND token IS NOT NULL
"""
# An app's ids lie in its blocks: they order the listing without an index of their own.
_LIST = _SELECT.format(
    devices="""(
    SELECT d.* FROM id_blocks b CROSS JOIN LATERAL (
        SELECT * FROM devices WHERE id >= b.start AND id < b.next AND id > $2 AND deleted_at IS NULL
        ORDER BY id LIMIT $3
    ) d WHERE b.space = 1 AND b.app_id = $1 AND b.next > $2 ORDER BY b.start, d.id LIMIT $3)""",
)
_LIST_OF = _SELECT.format(
    devices="""(
    SELECT d.* FROM installs i JOIN devices d ON d.install = i.id
    WHERE i.app_id = $1 AND d.id > $2 AND d.deleted_at IS NULL AND ($4::text IS NULL OR i.name = $4)
        AND ($5::text IS NULL
        OR i.user_id = (SELECT id FROM users WHERE app_id = $1 AND external_id = $5 AND deleted_at IS NULL))
    ORDER BY d.id LIMIT $3)""",
)
REVIVED_ROWS = 5_000
"""Devices revived in one transaction."""


@dataclass(frozen=True, slots=True)
class Revived:
    """What a revival came to: how many devices, and their images."""

    count: int
    rows: DeviceRows


class DeviceStore(Service):
    """Devices of every app."""

    def __init__(self, database: Database, names: Names, clock: Clock, badges: BadgeStore) -> None:
        super().__init__()
        self._database = database
        self._names = names
        self._clock = clock
        self._registrar = Registrar(database, names)
        self._badges = badges

    async def start(self) -> None:
        """Begins to take registrations."""
        self._registrar.committer.fatal = self.fatal
        await self._registrar.committer.start()

    async def stop(self) -> None:
        """Takes no more registrations."""
        await self._registrar.committer.stop()
        await super().stop()

    async def register_many(
        self, app_id: int, registrations: Sequence[Registration], now: float, *, in_turn: bool = False
    ) -> Registered:
        """What the registrations came to, committed: in one transaction up to `bulk_rows_max` of them, else in several.

        The newest registration of an address wins, its user included; a user that is not known is created. `in_turn`:
        after what was begun before for this app with `in_turn`; what is large is always written so.
        """
        size = self._database.config.bulk_rows_max
        in_turn = in_turn or len(registrations) * 10 > size
        if 0 < len(registrations) <= size:
            return await self._registrar.register(app_id, registrations, now, in_turn=in_turn)
        parts = [
            await self._registrar.register(app_id, registrations[at : at + size], now, in_turn=in_turn)
            for at in range(0, len(registrations), size)
        ]
        ids = np.concatenate([part.ids for part in parts]) if parts else np.empty(0, np.uint32)
        users = [part.users for part in parts if part.users is not None]
        return Registered(ids, join_devices([part.rows for part in parts]), join_users(users) if users else None)

    async def register_within(
        self, connection: Any, app_id: int, registrations: Sequence[Registration], now: float
    ) -> Registered:
        """As `register_many`, for at most `bulk_rows_max`, in a transaction of the caller's; to be named after it."""
        return await self._registrar.register_within(connection, app_id, registrations, now)

    async def name(self, rows: DeviceRows) -> DeviceRows:
        """The same rows with the names of what their ids mean, which is committed by now."""
        return await self._names.name_devices(rows)

    async def get(self, app_id: int, device_id: int) -> Device | None:
        """The device; None when the app has no such one."""
        found = await self._devices(_GET, app_id, device_id)
        return found[0] if found else None

    async def get_many(self, app_id: int, ids: Sequence[int]) -> Sequence[Device]:
        """Those of these devices that the app has, ascending by id."""
        return await self._devices(_GET_MANY, app_id, ids)

    async def tokens(self, app_id: int, ids: Sequence[int]) -> dict[int, str]:
        """By device, the tokens of those of these devices that have one: for who registered them, and nobody else."""
        rows = await self._database.fetch(_TOKENS, app_id, ids)
        return {row["id"]: row["token"].decode(errors="replace") for row in rows}

    async def list(
        self, app_id: int, after: int, limit: int, *, install_id: str | None = None, user_id: str | None = None
    ) -> Sequence[Device]:
        """Devices with ids above `after`, ascending; of one install or one user when named."""
        if install_id is None and user_id is None:
            return await self._devices(_LIST, app_id, after, limit)
        return await self._devices(_LIST_OF, app_id, after, limit, install_id, user_id)

    async def delete_many(self, app_id: int, ids: Sequence[int], now: float) -> DeviceRows:
        """Tombstones of the devices that existed and are gone now."""
        row = await self._database.fetchrow(
            "SELECT * FROM delete_devices($1, $2, $3)", moment(now), app_id, [int(each) for each in ids]
        )
        return await self._named(row)

    async def forget_addresses(self, app_id: int, install_id: str) -> DeviceRows:
        """The devices of an install that had a token, and have none any more; the install stays as it is."""
        return await self._named(
            await self._database.fetchrow("SELECT * FROM forget_addresses($1, $2)", app_id, install_id)
        )

    async def revive(
        self,
        app_id: int,
        retired_since: float,
        *,
        reason: str | None = None,
        credential_id: int | None = None,
        until: float | None = None,
    ) -> Revived:
        """Devices retired since a time that are taken to be alive again; by reason or credential when named.

        At most `REVIVED_ROWS` of them: with so many, there may be more.
        """
        row = await self._database.fetchrow(
            "SELECT r.count, (r.images).* FROM revive_devices($1, $2, $3, $4, $5, $6) AS r",
            *(app_id, moment(retired_since), moment(until if until is not None else 2**33)),
            *(reason, credential_id, REVIVED_ROWS),
        )
        return Revived(row["count"], await self._named(row))

    async def images(self, ids: NDArray[np.uint32]) -> DeviceRows:
        """Current images of devices, tombstones too; nothing for ids that are not there any more."""
        return await self._named(await self._database.fetchrow("SELECT * FROM device_images($1)", ids.tolist()))

    async def load(self, snapshot: Snapshot | None = None) -> AsyncIterator[DeviceRows]:
        """Every device, as of one moment, in chunks; long tokens come in chunks of their own."""
        query = f"SELECT {DEVICE_COLUMNS} FROM devices d WHERE d.id >= $1 AND d.id < $2 AND d.deleted_at IS NULL"  # noqa: S608  # a constant
        async for packed in chunks(self._database, snapshot, query, DEVICE_SPACE):
            for rows in split_by_width(unpack_devices(packed)):
                yield await self._names.name_devices(rows)

    async def _named(self, packed: Any) -> DeviceRows:
        return await self._names.name_devices(unpack_devices(packed))

    async def _devices(self, query: str, app_id: int, *args: Any) -> Sequence[Device]:
        rows = await self._database.fetch(query, app_id, *args)
        ids = np.array([row["id"] for row in rows], np.uint32)
        badges = await self._badges.of(app_id, ids, rows[0]["counted"] if rows else None)
        names = await self._names.tag_names([tag for row in rows for tag in row["tags"] or ()])
        return [_device(row, names, badge) for row, badge in zip(rows, badges.tolist(), strict=True)]


def _device(row: Any, names: dict[int, str], badge: int) -> Device:
    flags = DeviceFlag(row["flags"])
    token = row["token"]
    return Device(
        id=row["id"],
        install_id=row["name"],
        kind=KINDS[row["kind"]],
        environment=environment_of(row["environment"]),
        bundle=row["bundle"],
        shape=Shape(row["shape"]),
        token_hint=token[-4:].decode(errors="replace") if token else "",
        user_id=row["external_id"],
        platform=Platform(row["platform"]) if row["platform"] else None,
        tags=[names[tag] for tag in row["tags"] or ()],
        locale=row["locale"] or None,
        time_zone=row["time_zone"] or None,
        app_version=row["app_version"] or None,
        os_version=row["os_version"] or None,
        country=row["country"] or None,
        alias=row["alias"],
        push_enabled=row["push_enabled"],
        in_app_consent=row["in_app_consent"],
        reachable=flags & ~DeviceFlag.NO_IN_APP == DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED,
        retired_at=seconds_or_none(row["retired_at"]),
        retired_reason=row["retired_reason"],
        registered_at=seconds(row["registered_at"]),
        first_seen_at=seconds(row["created_at"]),
        last_seen_at=seconds(row["last_seen_at"]),
        badge=badge,
    )
