"""Users in the store: written, read, listed, deleted, and loaded whole for the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
from msgspec import UNSET
from numpy.typing import NDArray

from pushd.clock import Clock
from pushd.model.quiet import pack, unpack
from pushd.model.rows import DeviceRows, UserRows
from pushd.model.user import User, UserChange
from pushd.service import Service
from pushd.store.columns import USER_COLUMNS, USER_KEYS, join_users, unpack_devices, unpack_users
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.loading import USER_SPACE, Snapshot, chunks
from pushd.store.names import Names
from pushd.store.registration import tag_list
from pushd.store.times import moment, seconds
from pushd.store.turns import SLICE_ROWS, Turns

_PUT = "SELECT r.user_ids, (r.images).* FROM put_users($1, $2, $3, $4, $5, $6, $7, $8) AS r (user_ids, images)"
_SELECT = "SELECT id, external_id, email, tags, attributes, quiet, created_at FROM users"
_GET = f"{_SELECT} WHERE app_id = $1 AND external_id = $2 AND deleted_at IS NULL"  # a constant
_GET_MANY = f"{_SELECT} WHERE app_id = $1 AND id = ANY($2) AND deleted_at IS NULL ORDER BY id"  # a constant
_LIST = f"""{_SELECT} WHERE id IN (
    SELECT u.id FROM id_blocks b CROSS JOIN LATERAL (
        SELECT id FROM users WHERE id >= b.start AND id < b.next AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3
    ) u WHERE b.space = 2 AND b.app_id = $1 AND b.next > $2 ORDER BY b.start, u.id LIMIT $3
) ORDER BY id"""  # noqa: S608  # a constant

_EMAIL, _TAGS, _ATTRIBUTES, _QUIET = 1, 2, 4, 8
"""Bits of put_users' p_mask."""


class Deleted(NamedTuple):
    """What deleting a user came to: a tombstone, and the devices that belong to nobody now."""

    users: UserRows
    devices: DeviceRows


Put: TypeAlias = tuple[NDArray[np.uint32], UserRows]
"""Ids of users, one per change, and the images that changed."""


@dataclass(frozen=True, slots=True)
class _Item:
    app_id: int
    changes: Sequence[UserChange]
    now: float


class UserStore(Service):
    """Users of every app."""

    def __init__(self, database: Database, names: Names, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._names = names
        self._clock = clock
        self._committer: Committer[_Item, Put] = Committer("users", database.config, self._write)
        self._turns = Turns()

    async def start(self) -> None:
        """Begins to take changes."""
        self._committer.fatal = self.fatal
        await self._committer.start()

    async def stop(self) -> None:
        """Takes no more changes."""
        await self._committer.stop()
        await super().stop()

    async def put_many(self, app_id: int, changes: Sequence[UserChange], *, in_turn: bool = False) -> Put:
        """Ids of the users, one per change, in order, and the images that changed; committed.

        In one transaction up to `bulk_rows_max` changes, else in several. Of calls that shared a transaction one gets
        the images of all. `in_turn`: after what was begun before for this app with `in_turn`; what is large is always
        written so.
        """
        size = self._database.config.bulk_rows_max
        parts = []
        for at in range(0, max(1, len(changes)), size):
            item = _Item(app_id, changes[at : at + size], self._clock.now())
            if in_turn or len(item.changes) * 10 > size:
                parts.append(await self._put(item))
            elif item.changes:
                parts.append(await self._committer.submit(item))
        ids = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.uint32)
        return ids, join_users([part[1] for part in parts])

    async def put_within(self, connection: Any, app_id: int, changes: Sequence[UserChange]) -> UserRows:
        """The images that changed, in a transaction of the caller's: they are true once that is committed."""
        _, columns = await self._columns([_Item(app_id, changes, self._clock.now())])
        return await self._named(await connection.fetchrow(_PUT, *columns))

    async def get(self, app_id: int, external_id: str) -> User | None:
        """The user of an external id; None when the app has no such one."""
        found = await self._users(_GET, app_id, external_id)
        return found[0] if found else None

    async def get_many(self, app_id: int, ids: Sequence[int]) -> Sequence[User]:
        """Those of these users, by numeric id, that the app has, ascending."""
        return await self._users(_GET_MANY, app_id, ids)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[User]:
        """Users with numeric ids above `after`, ascending."""
        return await self._users(_LIST, app_id, after, limit)

    async def delete(self, app_id: int, external_id: str) -> Deleted | None:
        """The images that changed when the user went; None when there was no such one."""
        row = await self._database.fetchrow(
            "SELECT (r.images).*, r.devices FROM delete_user($1, $2, $3) AS r",
            *(moment(self._clock.now()), app_id, external_id),
        )
        if row["ids"] is None:
            return None
        devices = await self._names.name_devices(unpack_devices(row["devices"]))
        return Deleted(await self._named(row), devices)

    async def images(self, ids: NDArray[np.uint32]) -> UserRows:
        """Current images of users, tombstones too; nothing for ids that are not there any more."""
        return await self._named(await self._database.fetchrow("SELECT * FROM user_images($1)", ids.tolist()))

    async def load(self, snapshot: Snapshot | None = None) -> AsyncIterator[UserRows]:
        """Every user, as of one moment, in chunks."""
        query = f"SELECT {USER_COLUMNS} FROM users u WHERE u.id >= $1 AND u.id < $2 AND u.deleted_at IS NULL"  # noqa: S608  # a constant
        async for packed in chunks(self._database, snapshot, query, USER_SPACE):
            yield await self._named(packed)

    async def _put(self, item: _Item) -> Put:
        """A chunk of thousands: a transaction of its own, prepared while the one before is written."""
        async with self._turns.of(item.app_id) as turn:
            rows, columns = await self._columns([item])
            await turn.begin()
            row = await self._database.fetchrow(_PUT, *columns, timeout_s=self._database.config.statement_timeout_s)
        return np.array(row["user_ids"], np.uint32)[np.array(rows, np.intp)], await self._named(row)

    async def _write(self, items: Sequence[_Item]) -> Sequence[Put]:
        rows, columns = await self._columns(items)
        row = await self._database.fetchrow(_PUT, *columns, timeout_s=self._database.config.write_timeout_s)
        images = await self._named(row)
        ids = np.array(row["user_ids"], np.uint32)[np.array(rows, np.intp)]
        results, begin = [], 0
        for item in items:
            results.append((ids[begin : begin + len(item.changes)], images))
            begin += len(item.changes)
            images = unpack_users(dict.fromkeys(USER_KEYS)) if len(items) > 1 else images
        return results

    async def _columns(self, items: Sequence[_Item]) -> tuple[Sequence[int], Sequence[Any]]:
        """For each change the row of its user, and the arguments of put_users; made in slices."""
        merged: dict[tuple[int, str], _Merged] = {}
        rows = []
        for item in items:
            for at in range(0, len(item.changes), SLICE_ROWS):
                rows += [
                    merged.setdefault((item.app_id, change.external_id), _Merged(len(merged))).take(change)
                    for change in item.changes[at : at + SLICE_ROWS]
                ]
                if len(item.changes) > SLICE_ROWS:
                    await asyncio.sleep(0)
        tags = await self._names.tag_ids((app_id, user.tags) for (app_id, _), user in merged.items() if user.tags)
        return rows, [
            moment(max(item.now for item in items)),
            [app_id for app_id, _ in merged],
            [external_id for _, external_id in merged],
            [user.mask for user in merged.values()],
            [user.email for user in merged.values()],
            [tag_list(app_id, user.tags, tags) for (app_id, _), user in merged.items()],
            [user.attributes for user in merged.values()],
            [user.quiet for user in merged.values()] if any(user.quiet for user in merged.values()) else [],
        ]

    async def _named(self, packed: Any) -> UserRows:
        rows = unpack_users(packed)
        await self._names.name_tags(rows.tags)
        return rows

    async def _users(self, query: str, *args: Any) -> Sequence[User]:
        rows = await self._database.fetch(query, *args)
        names = await self._names.tag_names([tag for row in rows for tag in row["tags"] or ()])
        return [_user(row, names) for row in rows]


class _Merged:
    """What a sequence of changes says of one user."""

    __slots__ = ("attributes", "email", "mask", "quiet", "row", "tags")

    def __init__(self, row: int) -> None:
        self.row = row
        self.mask = 0
        self.email: str | None = None
        self.tags: Sequence[str] = ()
        self.attributes: str | None = None
        self.quiet: int | None = None

    def take(self, change: UserChange) -> int:
        """Overwrites what the change names; the row that this user has."""
        if change.email is not UNSET:
            self.email = change.email
            self.mask |= _EMAIL
        if change.tags is not UNSET:
            self.tags = change.tags
            self.mask |= _TAGS
        if change.attributes is not UNSET:
            self.attributes = orjson.dumps(change.attributes).decode() if change.attributes else None
            self.mask |= _ATTRIBUTES
        if change.quiet_hours is not UNSET:
            self.quiet = pack(change.quiet_hours) or None
            self.mask |= _QUIET
        return self.row


def _user(row: Any, names: dict[int, str]) -> User:
    return User(
        id=row["id"],
        external_id=row["external_id"],
        email=row["email"],
        tags=[names[tag] for tag in row["tags"] or ()],
        attributes=orjson.loads(row["attributes"]) if row["attributes"] else {},
        quiet_hours=unpack(row["quiet"] or 0),
        created_at=seconds(row["created_at"]),
    )
