"""Quiet hours, frequency caps and preferred hours of everyone, on the embedded PostgreSQL 18.

Devices of one app in 38 zones, two to a user, are judged as the runner does before a release:

- `zones`: by the app's quiet hours, and 20 users in a million have their own;
- `own`: every user has quiet hours of his own, 300 different ones;
- `cap`: at most 3 a day, and nobody had any yet; `full`: everybody had them; `anew`: as `full`, by a daemon that was
  just started and reads the three sends from PostgreSQL first;
- `hours`: the preferred hour of each device, where a tenth of the users has opened something.

`learn` folds opens of 100,000 users that receipts left, four to a user, into their hours; `again` does so once they
have some. Milliseconds are CPU times of this process (`ms`) and of PostgreSQL (`postgres_ms`); `slice_ms` the longest
that one of its callbacks held the event loop, in CPU time too. `bytes_per_user` is what the columns for caps take.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from zoneinfo import available_timezones

import numpy as np

from bench import measure
from pushd.bitset import Devices
from pushd.clock import SystemClock
from pushd.config import StoreConfig
from pushd.model.app import App, Settings
from pushd.model.audience import Broadcast
from pushd.model.caps import Cap
from pushd.model.device import Environment, Kind, Profile, Route
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.quiet import QuietHours, pack
from pushd.model.rows import DeviceFlag, DeviceRows, Postings, UserRows
from pushd.scheduler.gate import Admission, Gate
from pushd.scheduler.habits import Habits
from pushd.store.database import Database
from pushd.store.embedded import EmbeddedServer
from pushd.store.habits import HabitStore
from pushd.store.migrations import migrate
from pushd.store.tallies import TallyStore, keep
from pushd.targeting.index import Index

T = TypeVar("T")
ZONES = sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc"))[::15][:38]
NIGHT = QuietHours(from_minute=22 * 60, to_minute=7 * 60)
LIVE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)
CHUNK_ROWS = 65_536
OPENS_PER_USER, OPENS_PER_DELTA = 4, 2_000
_USERS = """
INSERT INTO users (id, app_id, external_id)
SELECT n.id, $1, 'user-' || n.id FROM unnest(allocate_ids(2::smallint, $1, $2)) AS n (id) RETURNING id
"""
_DELTAS = (
    "INSERT INTO open_deltas (app_id, opens, at) SELECT $1, n, now() - interval '1 hour' FROM unnest($2::bytea[]) n"
)


def run(quick: bool) -> dict[str, Any]:
    """The figures; quick: with a fifth of the devices."""
    devices = 200_000 if quick else 1_000_000
    figures = asyncio.run(_measured(devices, 20_000 if quick else 100_000))
    names = ("zones", "own", "cap", "full", "anew", "hours", "learn", "again")
    return {
        "ratio": figures["own_ms"] / devices * 1_000,
        "target": "µs a device where every user has quiet hours of his own; slices are to be under 20 ms",
        "figures": {"devices": devices, **figures},
        "table": [
            {
                "gate": name,
                "CPU ms": figures[f"{name}_ms"],
                "PostgreSQL ms": figures[f"{name}_postgres_ms"],
                "longest slice ms": figures[f"{name}_slice_ms"],
            }
            for name in names
        ],
    }


class _Meter:
    """What pieces of work take of this process, of the event loop and of PostgreSQL."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.figures: dict[str, float] = {}

    async def of(self, name: str, work: Awaitable[T]) -> T:
        """What the work comes to."""
        longest, run = 0.0, asyncio.Handle._run  # noqa: SLF001  # where every callback passes

        def timed(handle: asyncio.Handle) -> None:
            nonlocal longest
            before = time.process_time()
            run(handle)
            longest = max(longest, time.process_time() - before)

        with mock.patch.object(asyncio.Handle, "_run", timed):
            await asyncio.sleep(0)
            begun, postgres = time.process_time(), measure.cpu_of_family(self._server)
            found = await work
            took = time.process_time() - begun
            await asyncio.sleep(0)
        self.figures |= {
            f"{name}_ms": took * 1e3,
            f"{name}_postgres_ms": (measure.cpu_of_family(self._server) - postgres) * 1e3,
            f"{name}_slice_ms": longest * 1e3,
        }
        return found


@contextmanager
def _directory() -> Iterator[Path]:
    """A directory that the account of PostgreSQL can pass."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


async def _measured(devices: int, openers: int) -> dict[str, float]:
    with _directory() as directory:
        server = EmbeddedServer(directory, config=StoreConfig())
        database = Database(StoreConfig(), await server.start())
        await database.start()
        try:
            await migrate(database)
            await database.execute("INSERT INTO apps (name, settings) VALUES ('Orchard', '{}')")
            assert server.pid is not None
            meter = _Meter(server.pid)
            users = [row[0] for row in await database.fetch(_USERS, 1, devices // 2, timeout_s=600)]
            await _judge(meter, database, devices)
            await _learn(meter, database, users[:openers], devices)
            return meter.figures
        finally:
            await database.stop()
            await server.stop()


async def _judge(meter: _Meter, database: Database, devices: int) -> None:
    store, now = TallyStore(database), time.time()
    send, everyone = Send(audience=Broadcast(), message=Message(title="Hello"), category="offers"), _devices(devices)
    index = _index(devices, own=0.00004)
    night = _app(quiet_hours=NIGHT)
    zones = await meter.of("zones", Gate(index, store, 1).judge(night, send, everyone, now))
    _whole(zones, devices)
    own = await meter.of("own", Gate(_index(devices, own=1.0), store, 1).judge(_app(), send, everyone, now))
    _whole(own, devices)
    capped, gate = _app(caps={"offers": Cap(messages=3, window_s=86_400)}), Gate(index, store, 1)
    for number in range(3):
        work = gate.judge(capped, send, everyone, now + number)
        admission = await (meter.of("cap", work) if not number else work)
        assert len(admission.go) > 0.99 * devices
        assert admission.tally is not None
        async with database.transaction() as connection:
            await keep(connection, 1, [admission.tally])
        gate.sent(admission)
    for name, asked in (("full", gate), ("anew", Gate(index, store, 2))):
        admission = await meter.of(name, asked.judge(capped, send, everyone, now + 4))
        assert not admission.go or len(admission.go) + len(admission.held) < devices / 100
    meter.figures["bytes_per_user"] = gate.nbytes / (devices // 2)


async def _learn(meter: _Meter, database: Database, users: list[int], devices: int) -> None:
    habits, random = HabitStore(database, SystemClock()), np.random.default_rng(7)
    zones = [await database.fetchval("SELECT profile_of(1, '', '', '', '', '', $1)", name) for name in ZONES]
    for name in ("learn", "again"):
        opens = np.stack(
            [
                np.repeat(np.array(users), OPENS_PER_USER),
                random.choice(zones, OPENS_PER_USER * len(users)),
                int(time.time()) - random.integers(0, 7 * 86_400, OPENS_PER_USER * len(users)),
            ],
            axis=1,
        ).astype(">i4")
        random.shuffle(opens)
        deltas = [opens[at : at + OPENS_PER_DELTA].tobytes() for at in range(0, len(opens), OPENS_PER_DELTA)]
        await database.execute(_DELTAS, 1, deltas)
        await meter.of(name, habits.fold(1, 0.0))
    together = await habits.crowd(1, time.time())
    assert together.sum() > 1.5 * OPENS_PER_USER * len(users)
    index = _index(devices, own=0.0)
    ids, hours = await meter.of("hours", Habits(index, habits).hours(1, _devices(devices), time.time()))
    assert len(ids) == len(hours) == devices


def _whole(admission: Admission, devices: int) -> None:
    assert len(admission.go) + sum(len(some) for _, some in admission.held) == devices


def _app(**settings: Any) -> App:
    return App(id=1, name="Orchard", settings=Settings(**settings), created_at=0.0)


def _devices(count: int) -> Devices:
    return Devices(range(1, count + 1))


def _index(devices: int, *, own: float) -> Index:
    """An index of so many devices, two to a user; a share of the users has quiet hours of its own."""
    index, random = Index(), np.random.default_rng(7)
    hours = np.array(
        [
            pack(QuietHours(from_minute=m * 30, to_minute=(m * 30 + w * 60) % 1440))
            for m in range(48)
            for w in range(5, 11)
        ]
    ).astype(np.uint32)
    for ids in _chunks(devices // 2):
        quiet = np.where(random.random(len(ids)) < own, random.choice(hours, len(ids)), 0).astype(np.uint32)
        index.apply_users(
            UserRows(
                ids=ids,
                revisions=np.ones(len(ids), np.int32),
                app_ids=np.ones(len(ids), np.int32),
                external_ids=[f"user-{each}" for each in ids.tolist()],
                deleted=np.zeros(len(ids), np.bool_),
                tags=_no_tags(len(ids)),
                quiet=quiet,
            )
        )
    for ids in _chunks(devices):
        index.apply_devices(
            DeviceRows(
                ids=ids,
                revisions=np.ones(len(ids), np.int32),
                route_ids=np.ones(len(ids), np.int32),
                user_ids=np.minimum((ids + 1) // 2, devices // 2).astype(np.uint32),
                flags=np.full(len(ids), LIVE, np.uint8),
                tokens=np.full(len(ids), b"t" * 32, "S32"),
                tags=_no_tags(len(ids)),
                installs=ids.astype(np.int32),
                profile_ids=random.integers(0, len(ZONES) + 1, len(ids)).astype(np.int32),
                routes={1: Route(1, Kind.APNS, Environment.PRODUCTION, "one")},
                profiles={n: Profile(1, "", "", "", "", "", zone) for n, zone in enumerate(ZONES, 1)},
            )
        )
    return index


def _chunks(count: int) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(1, count + 1, CHUNK_ROWS):
        yield np.arange(start, min(start + CHUNK_ROWS, count + 1), dtype=np.uint32)


def _no_tags(count: int) -> Postings:
    return Postings(offsets=np.zeros(count + 1, np.int32), ids=np.zeros(0, np.int32), names={})
