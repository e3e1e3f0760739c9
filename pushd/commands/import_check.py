"""A dry run of an import of records: what its lines would come to, by reading alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.commands import devices, import_records
from pushd.commands.context import Context
from pushd.commands.import_lines import LineFault
from pushd.commands.import_records import UNKNOWN_INSTALL, name_of
from pushd.model.device import Registration
from pushd.model.imports import CheckCounts, RecordLine
from pushd.store.fold import ENVIRONMENT_NUMBERS, KIND_NUMBERS, address_of
from pushd.store.imports import Known

SLICE_LINES = 250


class Seen:
    """Names that were seen before, as 64-bit hashes in sorted runs: some 8 bytes for each, however many come."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def fresh(self, names: Sequence[object]) -> list[bool]:
        """For each name whether it comes for the first time."""
        hashes = np.fromiter((hash(name) for name in names), np.int64, len(names))
        once, first = np.unique(hashes, return_index=True)
        new = ~self._has(once)
        if new.any():
            self._add(once[new])
        mask = np.zeros(len(names), bool)
        mask[first[new]] = True
        found: list[bool] = mask.tolist()
        return found

    def has(self, names: Sequence[object]) -> list[bool]:
        """For each name whether it was seen."""
        found: list[bool] = self._has(np.fromiter((hash(name) for name in names), np.int64, len(names))).tolist()
        return found

    def _has(self, hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
        found = np.zeros(len(hashes), bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            found |= run[places] == hashes
        return found

    def _add(self, hashes: NDArray[np.int64]) -> None:
        """Runs grow as numbers of base two do, so that there are few."""
        while self._runs and len(self._runs[-1]) < 2 * len(hashes):
            hashes = np.sort(np.concatenate((self._runs.pop(), hashes)), kind="stable")
        self._runs.append(hashes)


class Checked(NamedTuple):
    """What some lines would come to."""

    counts: CheckCounts
    """So far, of all lines."""
    faults: list[LineFault]
    """Of these lines, by number."""


@dataclass(slots=True)
class Check:
    """One file that is checked, chunk by chunk."""

    context: Context
    app_id: int
    create_channels: bool
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CheckCounts.__struct_fields__, 0))
    _users: Seen = field(default_factory=Seen)
    _installs: Seen = field(default_factory=Seen)
    _owned: Seen = field(default_factory=Seen)
    _devices: Seen = field(default_factory=Seen)
    _addresses: Seen = field(default_factory=Seen)
    _channels: set[str] = field(default_factory=set)
    """Those that were made further up: as many as an app may have."""

    async def take(self, first: int, lines: Sequence[bytes]) -> Checked:
        """Goes on with lines, the first of which has this number; those of some thousand at a time."""
        rules = devices.rules(self.context, self.app_id)
        records: list[tuple[RecordLine, int]] = []
        faults: list[LineFault] = []
        for at in range(0, len(lines), SLICE_LINES):
            some = import_records.records_of(first + at, lines[at : at + SLICE_LINES], rules)
            records += zip(some.records, some.numbers, strict=True)
            faults += some.faults
            await asyncio.sleep(0)
        records = await self._with_channels(records, faults)
        await self._count(records, faults)
        self._counts["lines"] += len(lines)
        self._counts["rejected"] += len({each.line for each in faults})
        return Checked(CheckCounts(**self._counts), sorted(faults))

    async def _with_channels(
        self, records: list[tuple[RecordLine, int]], faults: list[LineFault]
    ) -> list[tuple[RecordLine, int]]:
        """The records whose channels are there, or would be made; faults for the lines of others."""
        made = {record.channel.uuid for record, _ in records if record.channel is not None and record.channel.uuid}
        uuids = import_records.named(record for record, _ in records)
        everything = sorted(uuids | made)
        there = set(await self.context.store.channels.ids(self.app_id, everything)) if everything else set()
        fresh = ((made | uuids) if self.create_channels else made) - there - self._channels
        self._counts["channels_made"] += len(fresh)
        self._channels |= fresh
        there |= self._channels
        kept = []
        for record, line in records:
            missing = next((uuid for uuid in sorted(import_records.named([record])) if uuid not in there), None)
            if missing is None:
                kept.append((record, line))
            else:
                faults.append(LineFault(line, 1, f"there is no channel {missing}", name_of(record)))
        return kept

    async def _count(self, records: Sequence[tuple[RecordLine, int]], faults: list[LineFault]) -> None:
        registrations = [device for record, _ in records for device in record.devices]
        users = [record.user.external_id for record, _ in records if record.user is not None]
        installs = [record.install.install_id for record, _ in records if record.install is not None]
        owners = [each.user_id for each in registrations if isinstance(each.user_id, str)]
        keys = [_key(self.app_id, each) for each in registrations]
        known = await self.context.store.imports.known(
            self.app_id,
            {*users, *owners},
            {*installs, *(each.install_id for each in registrations)},
            {key for key in keys if key is not None},
        )
        self._count_users([*users, *owners], known)
        self._count_installs(registrations, known)
        self._count_addresses(registrations, keys, known)
        seen = self._installs.has(installs)
        lost = {name for name, there in zip(installs, seen, strict=True) if not there and name not in known.installs}
        for record, line in records:
            if record.install is not None and record.install.install_id in lost:
                faults.append(LineFault(line, 1, UNKNOWN_INSTALL, record.install.install_id))
        for each in import_records.wanted(records):
            self._counts["subscriptions"] += len(each.lines) if each.on else 0

    def _count_users(self, names: Sequence[str], known: Known) -> None:
        for name in _first(names, self._users.fresh(names)):
            self._counts["users_changed" if name in known.users else "users_made"] += 1

    def _count_installs(self, registrations: Sequence[Registration], known: Known) -> None:
        names = [each.install_id for each in registrations]
        for name in _first(names, self._installs.fresh(names)):
            self._counts["installs_changed" if name in known.installs else "installs_made"] += 1
        moved = [
            each.install_id
            for each in registrations
            if isinstance(each.user_id, str) and known.installs.get(each.install_id) not in (None, each.user_id)
        ]
        self._counts["installs_moved"] += sum(self._owned.fresh(moved))

    def _count_addresses(
        self, registrations: Sequence[Registration], keys: Sequence[bytes | None], known: Known
    ) -> None:
        """Addresses on devices that are new or not, and those that somebody else has, or had further up."""
        named = [(each, key) for each, key in zip(registrations, keys, strict=True) if key is not None]
        places = [(each.install_id, each.kind) for each, _ in named]
        fresh = self._devices.fresh(places)
        first = self._addresses.fresh([key for _, key in named])
        pairs = self._addresses.fresh([(key, place) for (_, key), place in zip(named, places, strict=True)])
        for (_, key), place, new, once, pair in zip(named, places, fresh, first, pairs, strict=True):
            if new:
                self._counts["addresses_changed" if place in known.devices else "addresses_made"] += 1
            taken = known.addresses.get(key, place) != place if once else pair
            self._counts["addresses_moved"] += taken


def _key(app_id: int, each: Registration) -> bytes | None:
    """What a registration's address is known by; None where it names none."""
    if each.token is None:
        return None
    return address_of(app_id, KIND_NUMBERS[each.kind], ENVIRONMENT_NUMBERS[each.environment], each.token.encode())


def _first(names: Iterable[str], fresh: Iterable[bool]) -> list[str]:
    return [name for name, new in zip(names, fresh, strict=True) if new]
