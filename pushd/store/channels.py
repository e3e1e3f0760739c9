"""Channels in the store, and who is subscribed to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import asyncpg
import orjson
from msgspec import UNSET

from pushd.clock import Clock
from pushd.errors import ConflictError, Fault, NotFoundError, PushdError
from pushd.model.channel import SUBSCRIPTIONS_MAX, Channel, ChannelChange, NewChannel
from pushd.model.rows import DeviceRows, UserRows
from pushd.store.columns import unpack_devices, unpack_users
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.names import Names
from pushd.store.times import moment, seconds

_COLUMNS = "id, uuid, name, show_in_portal, meta, created_at, updated_at"
_CREATE = f"SELECT {_COLUMNS}, label FROM create_channel($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608  # constants
_UPDATE = f"SELECT {_COLUMNS} FROM update_channel($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608  # constants
_GET = f"SELECT {_COLUMNS} FROM channels WHERE app_id = $1 AND uuid = $2 AND deleted_at IS NULL"  # noqa: S608  # constants
_GET_ID = f"SELECT {_COLUMNS} FROM channels WHERE app_id = $1 AND id = $2 AND deleted_at IS NULL"  # noqa: S608  # constants
_LIST = f"""SELECT {_COLUMNS} FROM channels WHERE app_id = $1 AND id > $2 AND deleted_at IS NULL
    ORDER BY id LIMIT $3"""  # noqa: S608  # constants
_PORTAL = f"""SELECT {_COLUMNS} FROM channels WHERE app_id = $1 AND show_in_portal AND deleted_at IS NULL
    ORDER BY id LIMIT $2"""  # noqa: S608  # constants
_IDS = "SELECT uuid, id FROM channels WHERE app_id = $1 AND uuid = ANY($2) AND deleted_at IS NULL"
_LABELS = (
    "SELECT app_id, uuid, label FROM channels WHERE deleted_at IS NULL AND ($1::int[] IS NULL OR app_id = ANY($1))"
)
_OF = """SELECT c.id, c.uuid, c.name, c.show_in_portal, c.meta, c.created_at, c.updated_at
    FROM {table} s JOIN channels c ON c.label = ANY (s.channels) AND c.app_id = s.app_id AND c.deleted_at IS NULL
    WHERE s.app_id = $1 AND s.{name} = $2 {alive} ORDER BY c.id"""
_OF_USER = _OF.format(table="users", name="external_id", alive="AND s.deleted_at IS NULL")
_OF_INSTALL = _OF.format(table="installs", name="name", alive="")
_USERS = "SELECT unknown, full_up, (images).* FROM subscribe_users($1, $2, $3, $4, $5)"
_INSTALLS = "SELECT unknown, full_up, (images).* FROM subscribe_installs($1, $2, $3, $4, $5)"
_CHANGE = "SELECT users, devices FROM change_channels($1, $2, $3, $4, $5, $6, $7)"
_SUBSCRIBERS = """SELECT s.id, s.{name} AS name FROM channels c JOIN {table} s ON s.channels @> ARRAY[c.label]
    WHERE c.app_id = $1 AND c.id = $2 AND c.deleted_at IS NULL AND s.id > $3 ORDER BY s.id LIMIT $4"""
_SUBSCRIBED_USERS = _SUBSCRIBERS.format(table="users", name="external_id")
_SUBSCRIBED_INSTALLS = _SUBSCRIBERS.format(table="installs", name="name")


Subscribers: TypeAlias = Literal["users", "installs"]


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What subscribing came to: who was not there, who has all the channels that one may have, and the images."""

    unknown: Sequence[str]
    full: Sequence[str]
    users: UserRows | None = None
    devices: DeviceRows | None = None


class ChannelStore:
    """Channels of every app."""

    def __init__(self, database: Database, names: Names, clock: Clock) -> None:
        self._database = database
        self._names = names
        self._clock = clock

    async def create(self, app_id: int, uuid: str, new: NewChannel) -> Channel:
        """The new channel. ConflictError where the uuid is taken, or the app has as many as it may."""
        most = self._database.config.channels_max
        now = moment(self._clock.now())
        row = await self._asked(_CREATE, now, app_id, uuid, new.name, new.show_in_portal, _json(new.meta), most)
        return _channel(row)

    async def update(self, app_id: int, channel_id: int, change: ChannelChange) -> Channel | None:
        """The changed channel; None when there is no such one. ConflictError where the uuid is taken."""
        row = await self._asked(
            _UPDATE,
            *(moment(self._clock.now()), app_id, channel_id),
            *(_given(change.uuid), _given(change.name), _given(change.show_in_portal)),
            *(change.meta is not UNSET, _json(_given(change.meta))),
        )
        return None if row is None else _channel(row)

    async def delete(self, app_id: int, channel_id: int) -> bool:
        """Whether there was such a channel; its subscribers are relieved of it in the background."""
        now = moment(self._clock.now())
        row = await self._asked("SELECT delete_channel($1, $2, $3) AS done", now, app_id, channel_id)
        return bool(row["done"])

    async def get(self, app_id: int, channel: str | int) -> Channel | None:
        """The channel of a uuid or an id; None when the app has no such one."""
        row = await self._database.fetchrow(_GET if isinstance(channel, str) else _GET_ID, app_id, channel)
        return None if row is None else _channel(row)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[Channel]:
        """Channels with ids above `after`, ascending."""
        return [_channel(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def in_portal(self, app_id: int, limit: int) -> Sequence[Channel]:
        """Channels that apps list to their users, by id."""
        return [_channel(row) for row in await self._database.fetch(_PORTAL, app_id, limit)]

    async def labels(self, app_ids: Sequence[int] | None) -> Mapping[int, Mapping[str, int]]:
        """By app, the label of each channel by its uuid; of every app where none is named."""
        found: dict[int, dict[str, int]] = {app_id: {} for app_id in app_ids or ()}
        for row in await self._database.fetch(_LABELS, None if app_ids is None else list(app_ids)):
            found.setdefault(row["app_id"], {})[row["uuid"]] = row["label"]
        return found

    async def of_user(self, app_id: int, external_id: str) -> Sequence[Channel]:
        """The channels that a user is subscribed to, by id."""
        return [_channel(row) for row in await self._database.fetch(_OF_USER, app_id, external_id)]

    async def of_install(self, app_id: int, install_id: str) -> Sequence[Channel]:
        """The channels that an install is subscribed to itself, by id."""
        return [_channel(row) for row in await self._database.fetch(_OF_INSTALL, app_id, install_id)]

    async def users(self, app_id: int, channel_id: int, after: int, limit: int) -> Sequence[tuple[int, str]]:
        """Subscribed users as (numeric id, external id), ids above `after`, ascending."""
        rows = await self._database.fetch(_SUBSCRIBED_USERS, app_id, channel_id, after, limit)
        return [(row["id"], row["name"]) for row in rows]

    async def installs(self, app_id: int, channel_id: int, after: int, limit: int) -> Sequence[tuple[int, str]]:
        """Installs that are subscribed themselves as (number, install id), numbers above `after`, ascending."""
        rows = await self._database.fetch(_SUBSCRIBED_INSTALLS, app_id, channel_id, after, limit)
        return [(row["id"], row["name"]) for row in rows]

    async def subscribe_users(self, app_id: int, channel_id: int, names: Sequence[str], *, on: bool) -> Subscribed:
        """What became of subscribing users (`on`) or taking them off, committed; by external id. NotFoundError."""
        return await self._subscribed(await self._write(_USERS, app_id, channel_id, names, on), "users")

    async def subscribe_installs(self, app_id: int, channel_id: int, names: Sequence[str], *, on: bool) -> Subscribed:
        """As `subscribe_users`, for installs."""
        return await self._subscribed(await self._write(_INSTALLS, app_id, channel_id, names, on), "installs")

    async def subscribe_within(
        self, connection: Any, app_id: int, channel_id: int, names: Sequence[str], *, of: Subscribers, on: bool
    ) -> Subscribed:
        """As `subscribe_users`, or for installs, in a transaction of the caller's: true once that is committed.

        Images of devices are to be named then: what the transaction itself made is seen by nobody else before.
        """
        once = list(dict.fromkeys(names))
        query = _USERS if of == "users" else _INSTALLS
        try:
            row = await connection.fetchrow(query, app_id, channel_id, once, on, SUBSCRIPTIONS_MAX)
        except asyncpg.PostgresError as error:
            raise _refused(error) from error
        return await self._subscribed(row, of, named=False)

    async def ids(self, app_id: int, uuids: Sequence[str]) -> Mapping[str, int]:
        """The ids of those of these channels that the app has, by uuid."""
        return {row["uuid"]: row["id"] for row in await self._database.fetch(_IDS, app_id, list(uuids))}

    async def change(
        self,
        app_id: int,
        *,
        user: str | None = None,
        install: str | None = None,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        replace: bool = False,
    ) -> Subscribed:
        """The images that changed, committed: one user, or one install, is off channels and on others, by uuid.

        `replace`: off all but those of `add`. NotFoundError for a channel that is not there, or nobody to subscribe.
        """
        row = await self._asked(_CHANGE, app_id, user, install, list(add), list(remove), replace, SUBSCRIPTIONS_MAX)
        users = devices = None
        if row["users"] is not None and row["users"]["ids"] is not None:
            users = unpack_users(row["users"])
            await self._names.name_tags(users.tags)
        if row["devices"] is not None and row["devices"]["ids"] is not None:
            devices = await self._names.name_devices(unpack_devices(row["devices"]))
        return Subscribed((), (), users=users, devices=devices)

    async def _subscribed(self, row: Any, of: Subscribers, *, named: bool = True) -> Subscribed:
        if of == "installs":
            devices = unpack_devices(row)
            if named:
                await self._names.name_devices(devices)
            return Subscribed(row["unknown"], row["full_up"], devices=devices)
        users = unpack_users(row)
        await self._names.name_tags(users.tags)
        return Subscribed(row["unknown"], row["full_up"], users=users)

    async def _write(self, query: str, app_id: int, channel_id: int, names: Sequence[str], on: bool) -> Any:
        once = list(dict.fromkeys(names))
        return await self._asked(query, app_id, channel_id, once, on, SUBSCRIPTIONS_MAX)

    async def _asked(self, query: str, *args: Any) -> Any:
        try:
            return await self._database.fetchrow(query, *args)
        except asyncpg.PostgresError as error:
            raise _refused(error) from error


def _refused(error: asyncpg.PostgresError) -> PushdError:
    """What a refusal of the functions means to whoever asked; InternalError for what is our fault."""
    known = _REFUSALS.get(error.sqlstate or "")
    return known() if known is not None else refusal(error)


_REFUSALS: Mapping[str, Callable[[], PushdError]] = {
    "PD409": lambda: ConflictError("A channel has this uuid", faults=[Fault("/uuid", "is another channel's")]),
    "PD410": lambda: NotFoundError("There is no such channel"),
    "PD411": lambda: NotFoundError("There is nobody of this name to subscribe"),
    "PD429": lambda: ConflictError("There are as many channels as there may be"),
}


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _json(meta: Mapping[str, Any] | None) -> str | None:
    return None if meta is None else orjson.dumps(meta).decode()


def _channel(row: Any) -> Channel:
    return Channel(
        id=row["id"],
        uuid=row["uuid"],
        name=row["name"],
        show_in_portal=row["show_in_portal"],
        meta=None if row["meta"] is None else orjson.loads(row["meta"]),
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
    )
