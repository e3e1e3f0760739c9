"""Registers addresses: folded in Python, written as sets by one call of a function in the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from asyncpg.pgproto.pgproto import UUID
from numpy.typing import NDArray

from pushd.errors import PushdError
from pushd.model.device import Registration
from pushd.model.rows import DeviceRows, UserRows
from pushd.store.columns import DEVICE_KEYS, USER_KEYS, unpack_devices, unpack_users
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.fold import SEEN, Address, Folded, Install
from pushd.store.names import Names
from pushd.store.times import moment
from pushd.store.turns import SLICE_ROWS, Turns

_REGISTER = """
SELECT r.device_ids, r.moved, (r.images).*, (r.users).ids AS u_ids, (r.users).revisions AS u_revisions,
    (r.users).apps AS u_apps, (r.users).deleted AS u_deleted, (r.users).external_ids AS u_external_ids
FROM register_devices($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22, $23)
    AS r (device_ids, images, users, moved)
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
    moved: Sequence[int] = ()
    """Within the caller's transaction: devices that are another user's now, whose badges it has still to clear."""


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
        self._turns = Turns()
        self.committer: Committer[_Item, Registered] = Committer("registrations", database.config, self._write_group)

    async def register(
        self, app_id: int, registrations: Sequence[Registration], now: float, *, in_turn: bool
    ) -> Registered:
        """What the registrations came to, committed; at most `bulk_rows_max` of them.

        `in_turn`: after those of the app that were begun before with `in_turn`, in a transaction of their own; nobody
        else waits for them in a group.
        """
        item = _Item(app_id, registrations, now)
        if in_turn:
            folded = Folded()
            async with self._turns.of(app_id) as turn:
                columns = await self._columns([item], folded)
                await turn.begin()
                row = await self._register(now, columns, self._config.statement_timeout_s)
            (result,) = await self._results([item], folded, row)
            return result
        return await self.committer.submit(item)

    async def register_within(
        self, connection: Any, app_id: int, registrations: Sequence[Registration], now: float
    ) -> Registered:
        """As `register`, in a transaction of the caller's: true once that is committed, and then to be named.

        What is behind ids that the transaction itself made is seen by nobody else before.
        """
        item, folded = _Item(app_id, registrations, now), Folded()
        columns = await self._columns([item], folded)
        timeout_s = self._config.statement_timeout_s
        row = await connection.fetchrow(_REGISTER, moment(now), *columns, True, timeout=timeout_s)
        (result,) = await self._results([item], folded, row, named=False)
        return replace(result, moved=row["moved"] or ())

    async def _write_group(self, items: Sequence[_Item]) -> Sequence[Registered | PushdError]:
        folded = Folded()
        columns = await self._columns(items, folded)
        now = max(item.now for item in items)
        return await self._results(items, folded, await self._register(now, columns, self._config.write_timeout_s))

    async def _register(self, now: float, columns: Sequence[Any], timeout_s: float) -> Any:
        return await self._database.fetchrow(_REGISTER, moment(now), *columns, False, timeout_s=timeout_s)

    async def _columns(self, items: Sequence[_Item], folded: Folded) -> list[Any]:
        """The arguments of register_devices after the time, of what the items come to; made in slices."""
        for item in items:
            for at in range(0, len(item.registrations), SLICE_ROWS):
                folded.take(item.app_id, item.registrations[at : at + SLICE_ROWS])
                if len(item.registrations) > SLICE_ROWS:
                    await asyncio.sleep(0)
        for address in folded.addresses:
            if address.token is not None:
                folded.installs[address.install - 1].mask |= SEEN
        tags = await self._names.tag_ids((each.app_id, each.tags) for each in folded.installs if each.tags)
        routes = await self._names.route_ids(folded)
        profiles = await self._names.profile_ids(folded.installs)
        users: dict[tuple[int, str], int] = {}
        installs: list[list[Any]] = [[] for _ in range(_INSTALL_COLUMNS)]
        for at in range(0, len(folded.installs), SLICE_ROWS):
            if len(folded.installs) > SLICE_ROWS:
                await asyncio.sleep(0)
            part = slice(at, at + SLICE_ROWS)
            _extend(installs, _install_columns(folded.installs[part], users, tags, profiles[part]))
        return [
            [app_id for app_id, _ in users],
            [name for _, name in users],
            # Columns without a value go empty: asyncpg takes a while over each element.
            *(column if column.count(None) < len(column) else [] for column in installs),
            *_address_columns(folded.addresses, routes),
            [UUID(address) for address in folded.claimed],
            [owner.row if owner is not None else 0 for owner in folded.claimed.values()],
        ]

    async def _results(
        self, items: Sequence[_Item], folded: Folded, row: Any, *, named: bool = True
    ) -> list[Registered]:
        rows = unpack_devices({key: row[key] for key in DEVICE_KEYS})
        if named:
            await self._names.name_devices(rows)
        # Users that were just made have neither labels nor anything else yet.
        users = unpack_users({key: row.get(f"u_{key}") for key in USER_KEYS}) if row["u_external_ids"] else None
        ids = np.array(row["device_ids"], np.uint32)[np.array(folded.rows, np.intp) - 1]
        return _share(items, ids, rows, users)


def _share(
    items: Sequence[_Item], ids: NDArray[np.uint32], rows: DeviceRows, users: UserRows | None
) -> list[Registered]:
    """The results of a group: ids to each, images to the first."""
    results = []
    begin = 0
    nothing = unpack_devices(dict.fromkeys(DEVICE_KEYS)) if len(items) > 1 else rows
    for place, item in enumerate(items):
        end = begin + len(item.registrations)
        results.append(Registered(ids[begin:end], nothing if place else rows, None if place else users))
        begin = end
    return results


_INSTALL_COLUMNS = 9


def _extend(columns: list[list[Any]], more: list[list[Any]]) -> None:
    for column, part in zip(columns, more, strict=True):
        column.extend(part)


def _install_columns(
    installs: Sequence[Install],
    users: dict[tuple[int, str], int],
    tags: dict[tuple[int, str], int],
    profiles: Sequence[int],
) -> list[list[Any]]:
    """The columns of installs; users that they name first are added to `users`, which numbers them from 1."""
    return [
        [each.app_id for each in installs],
        [each.name for each in installs],
        [each.mask for each in installs],
        [
            users.setdefault((each.app_id, each.user), len(users) + 1) if each.user is not None else None
            for each in installs
        ],
        [tag_list(each.app_id, each.tags, tags) for each in installs],
        [number or None for number in profiles],
        [each.alias for each in installs],
        [each.push_enabled for each in installs],
        [each.in_app_consent for each in installs],
    ]


def _address_columns(addresses: Sequence[Address], routes: list[int]) -> list[list[Any]]:
    return [
        [each.install for each in addresses],
        [each.kind for each in addresses],
        [each.environment for each in addresses],
        routes,
        [each.token for each in addresses],
        [UUID(each.address) if each.address is not None else None for each in addresses],
        [each.lost for each in addresses] if any(each.lost for each in addresses) else [],
        [each.shape for each in addresses] if any(each.shape is not None for each in addresses) else [],
    ]


def tag_list(app_id: int, names: Sequence[str], tags: dict[tuple[int, str], int]) -> str | None:
    """Tag ids as the text of an int4[], ascending, each once."""
    if not names:
        return None
    ids = sorted({tags[app_id, name.casefold()] for name in names})
    return f"{{{','.join(map(str, ids))}}}"
