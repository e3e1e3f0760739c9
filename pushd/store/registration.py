"""Registers addresses: folded in Python, written as sets by one call of a function in the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from asyncpg.pgproto.pgproto import UUID
from numpy.typing import NDArray

from pushd.errors import PushdError
from pushd.model.device import Registration
from pushd.model.rows import DeviceRows, UserRows
from pushd.store.columns import unpack_devices, unpack_users
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.fold import Folded, fold
from pushd.store.names import Names
from pushd.store.times import moment

_REGISTER = """
SELECT r.device_ids, (r.images).*, (r.users).ids AS u_ids, (r.users).revisions AS u_revisions, (r.users).apps AS u_apps,
    (r.users).deleted AS u_deleted, (r.users).external_ids AS u_external_ids, (r.users).tag_counts AS u_tag_counts,
    (r.users).tags AS u_tags
FROM register_devices($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23) AS r (device_ids, images, users)
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering came to."""

    ids: NDArray[np.uint32]
    """Device ids, one per registration, in order."""
    rows: DeviceRows
    """Every image that changed: also a device that lost its token to a newer one, and the install's other devices. Of
    calls that shared a transaction one gets the images of all, the others none: it applies them first."""
    users: UserRows | None
    """Users that were created."""


@dataclass(frozen=True, slots=True)
class _Item:
    app_id: int
    registrations: Sequence[Registration]
    now: float


class Registrar:
    """The writer of registrations; small calls share transactions."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database = database
        self._names = names
        self._config = database.config
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self.committer: Committer[_Item, Registered] = Committer("registrations", database.config, self._write_group)

    async def register(self, app_id: int, registrations: Sequence[Registration], now: float) -> Registered:
        """What the registrations came to, committed; at most `bulk_rows_max` of them."""
        item = _Item(app_id, registrations, now)
        # A chunk of thousands is a transaction of its own: nobody else waits for it in a group.
        if len(registrations) * 10 > self._config.bulk_rows_max:
            folded = _fold([item])
            async with self._turn(app_id):
                (result,) = await self._write([item], folded, self._config.statement_timeout_s)
            return result
        return await self.committer.submit(item)

    async def _write_group(self, items: Sequence[_Item]) -> Sequence[Registered | PushdError]:
        return await self._write(items, _fold(items), self._config.write_timeout_s)

    def _turn(self, app_id: int) -> asyncio.Lock:
        """Chunks of one app are written in the order they came, and prepared while those before them are written."""
        return self._turns.setdefault(app_id, asyncio.Lock())

    async def _write(self, items: Sequence[_Item], folded: Folded, timeout_s: float) -> Sequence[Registered]:
        tags = await self._names.tag_ids((each.app_id, each.tags) for each in folded.installs if each.tags)
        routes = await self._names.route_ids(folded)
        now = max(item.now for item in items)
        columns = _columns(folded, tags, routes)
        row = await self._database.fetchrow(_REGISTER, moment(now), *columns, timeout_s=timeout_s)
        rows = await self._names.name_devices(unpack_devices({key: row[key] for key in _DEVICE_KEYS}))
        users = unpack_users({key: row[f"u_{key}"] for key in _USER_KEYS}) if row["u_external_ids"] else None
        ids = np.array(row["device_ids"], np.uint32)[np.array(folded.rows, np.intp) - 1]
        return _share(items, ids, rows, users)


def _fold(items: Sequence[_Item]) -> Folded:
    return fold([(item.app_id, each) for item in items for each in item.registrations])


_DEVICE_KEYS = ("ids", "revisions", "routes", "users", "flags", "token_bytes", "tokens", "tag_counts", "tags")
_USER_KEYS = ("ids", "revisions", "apps", "deleted", "external_ids", "tag_counts", "tags")


def _share(
    items: Sequence[_Item], ids: NDArray[np.uint32], rows: DeviceRows, users: UserRows | None
) -> list[Registered]:
    """The results of a group: ids to each, images to the first."""
    results = []
    begin = 0
    nothing = unpack_devices(dict.fromkeys(_DEVICE_KEYS)) if len(items) > 1 else rows
    for place, item in enumerate(items):
        end = begin + len(item.registrations)
        results.append(Registered(ids[begin:end], nothing if place else rows, None if place else users))
        begin = end
    return results


def _columns(folded: Folded, tags: dict[tuple[int, str], int], routes: list[int]) -> list[Any]:
    """The arguments of register_devices after the time."""
    installs, addresses = folded.installs, folded.addresses
    users: dict[tuple[int, str], int] = {}
    user_rows = [
        users.setdefault((each.app_id, each.user), len(users) + 1) if each.user is not None else 0 for each in installs
    ]
    return [
        [app_id for app_id, _ in users],
        [name for _, name in users],
        [each.app_id for each in installs],
        [each.name for each in installs],
        [each.mask for each in installs],
        user_rows,
        [each.platform for each in installs],
        [tag_list(each.app_id, each.tags, tags) for each in installs],
        [each.locale for each in installs],
        [each.time_zone for each in installs],
        [each.app_version for each in installs],
        [each.push_enabled for each in installs],
        [each.in_app_consent for each in installs],
        [each.install for each in addresses],
        [each.kind for each in addresses],
        [each.environment for each in addresses],
        routes,
        [each.token for each in addresses],
        [UUID(each.address) if each.address is not None else None for each in addresses],
        [each.lost for each in addresses],
        [UUID(address) for address in folded.claimed],
        [owner.row if owner is not None else 0 for owner in folded.claimed.values()],
    ]


def tag_list(app_id: int, names: Sequence[str], tags: dict[tuple[int, str], int]) -> str | None:
    """Tag ids as the text of an int4[], ascending, each once."""
    if not names:
        return None
    ids = sorted({tags[app_id, name.casefold()] for name in names})
    return f"{{{','.join(map(str, ids))}}}"
