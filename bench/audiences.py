"""Twelve audiences in memory and as SQL on the same PostgreSQL, with everything that devices can be told apart by.

The population (`bench.audience_population`) is written into an embedded PostgreSQL 18 and loaded from there as a daemon
does at its start, by a process pinned to one core; the server has all cores.

- `start_devices_per_s`: devices over the seconds that users and devices took, reading them included;
  `load_devices_per_s`: over those of `Index.apply_users` and `Index.apply_devices` alone.
- `resolve_*`: the median of 31 runs as a send resolves, in slices; `slice_ms` is the longest slice of an audience in
  nine runs of ten.
- `sql_*`: the same as `SELECT count(*)`, so that no ids have to travel, the better of two runs after a first one; with
  the indexes that it needs. The counts have to be equal. `sql_ratio` is the median of SQL over index.
- `tag_100k_ms`: images of 100,000 devices with one tag more, all work of taking them in, and of as many users' (`by
  user`) tags; CPU time.
- `location_us`: an update within 200 fences one over the other, the slower of circles and polygons.
- `bytes_per_device`: resident memory after the load less before, without tokens and external ids.

What happens in memory is told in CPU time of this process, so that other work on the machine does not count; reading
from PostgreSQL, and SQL, in time that passed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import numpy as np
import uvloop

from bench import measure, places
from bench.audience_population import FIRST_ID, TOKEN_BYTES, fill, index_for_sql
from bench.index import resident
from pushd.clock import Clock, SystemClock
from pushd.commands.definitions import Definitions
from pushd.commands.places import PlaceKeeper
from pushd.config import PlacesConfig, StoreConfig
from pushd.model.app import Settings
from pushd.model.audience import (
    And,
    AppVersion,
    Attribute,
    Audience,
    Broadcast,
    Channels,
    Countries,
    InGeofences,
    Not,
    Or,
    PreferredKind,
    Seen,
    Segment,
    Tags,
    UserIds,
    UserKnown,
)
from pushd.model.device import ALERT_KINDS, Kind
from pushd.model.rows import DeviceRows, Postings, UserRows
from pushd.store.embedded import EmbeddedServer
from pushd.store.store import Store
from pushd.targeting import Index
from tests.audience_sql import Catalog, reached

RUNS = 31
CHANGED = 100_000
CHANGE_ROWS = 2_000
SQL_TIMEOUT_S = 120.0
SERVER = {
    "fsync": "off",
    "autovacuum": "off",
    "shared_buffers": "2GB",
    "work_mem": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "16GB",
    "max_parallel_workers_per_gather": "2",
}


def audiences() -> dict[str, Audience]:
    """The twelve."""
    return {
        "broadcast": Broadcast(),
        "any_of_five_tags": Tags(any=["tag-1", "tag-3", "tag-10", "tag-50", "tag-400"]),
        "all_but": Tags(all=["tag-1", "tag-2"], exclude=["tag-5"], of="device"),
        "nested": And([Or([Tags(any=["tag-1"]), Tags(any=["tag-7"], of="user")]), Not(Tags(any=["tag-4", "tag-9"]))]),
        "channels": Channels(any=["channel-1", "channel-20", "channel-300"], exclude=["channel-2"]),
        "segment": Segment("segment-1"),
        "version_and_country": And([AppVersion("lt", "2.3"), Countries(["DE", "US", "BR"])]),
        "seen_this_week": Seen(which="last", within_days=7),
        "twenty_fences": InGeofences(tags=["group-3"]),
        "attribute": And([Attribute(name="plan", op="eq", value="gold"), UserKnown(is_=True)]),
        "preferred_kind": PreferredKind(of=Tags(any=["tag-2"]), kinds=[Kind.APNS_VOIP, Kind.APNS]),
        "everything": And(
            [
                Or([Segment("segment-2"), Segment("segment-3"), InGeofences(any=True)]),
                Channels(any=["channel-1", "channel-4"]),
                Not(Attribute(name="plan", op="eq", value="free")),
                Not(UserIds([f"customer-{number:08}" for number in range(1, 1_001)])),
            ]
        ),
    }


async def figures(devices: int, cores: set[int]) -> dict[str, Any]:
    """Every figure of a population of this many devices."""
    with tempfile.TemporaryDirectory(prefix="pushd-bench-") as directory:
        os.chmod(directory, 0o711)  # noqa: PTH101  # nobody runs the server, and nothing else waits
        server = EmbeddedServer(directory, settings=SERVER)
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        dsn = await server.start()
        os.sched_setaffinity(0, own)
        try:
            return await _measured(dsn, devices)
        finally:
            await server.stop()


async def _measured(dsn: str, devices: int) -> dict[str, Any]:
    store = Store(StoreConfig(pool_size=4, statement_timeout_s=1_200, bulk_timeout_s=1_200), dsn)
    await store.start()
    app_id = (await store.apps.create("bench", Settings())).id
    connection = await asyncpg.connect(dsn)
    try:
        began = time.perf_counter()
        await fill(connection, app_id, devices)
        await connection.execute("ANALYZE users, installs, devices, install_locations")
        filled_s = time.perf_counter() - began
        now = time.time()
        index, loaded = await _load(store, _Still(now))
        began = time.perf_counter()
        await index_for_sql(connection)
        indexed_s = time.perf_counter() - began
        return {
            **loaded,
            **await _compared(connection, index, app_id, now),
            "tag_100k_ms": await _tag_devices(store, index, devices),
            "tag_100k_users_ms": await _tag_users(store, index, devices),
            "location_us": _location(),
            "fill_s": filled_s,
            "sql_indexes_s": indexed_s,
        }
    finally:
        await connection.close()
        await store.stop()


async def _load(store: Store, clock: Clock) -> tuple[Index, dict[str, float]]:
    """The index, as a daemon makes it at its start."""
    index, spent, before = Index(clock), [0.0], resident()
    definitions = Definitions(store, index)
    keeper = PlaceKeeper(store, index, clock, PlacesConfig())
    began = time.perf_counter()
    async with store.snapshot() as snapshot:
        async for users in store.users.load(snapshot):
            _timed(spent, lambda rows=users: index.apply_users(rows))
        async for rows in store.devices.load(snapshot):
            _timed(spent, lambda rows=rows: index.apply_devices(rows))
        rows_s = time.perf_counter() - began
        began = time.perf_counter()
        await keeper.load(snapshot)
    await keeper.settle()
    await definitions.load()
    del users, rows
    places_s = time.perf_counter() - began
    stats = index.stats()
    text = TOKEN_BYTES * stats["devices"] + len("customer-00000000") * stats["users"]
    figures = {
        "devices": stats["devices"],
        "start_devices_per_s": stats["devices"] / rows_s,
        "load_devices_per_s": stats["devices"] / spent[0],
        "places_s": places_s,
        "bytes_per_device": (resident() - before - text) / stats["devices"],
    }
    addresses = ("token_bytes", "external_id_bytes")
    held = {name: value for name, value in stats.items() if name.endswith("_bytes") and name not in addresses}
    print({name: round(value / stats["devices"], 1) for name, value in held.items()}, file=sys.stderr)
    return index, figures


def _timed(spent: list[float], work: Callable[[], None]) -> None:
    began = time.process_time()
    work()
    spent[0] += time.process_time() - began


async def _compared(connection: Any, index: Index, app_id: int, now: float) -> dict[str, Any]:
    catalog = await Catalog.read(connection, app_id, now)
    found: dict[str, Any] = {}
    medians, ratios, longest = [], [], 0.0
    for name, audience in audiences().items():
        count, took, slices = _resolved(index, app_id, audience)
        sql_s, plan = await _sql(connection, catalog, audience, count)
        print(f"{name}: {count:,} devices, {1e3 * took:.2f} ms, SQL {1e3 * sql_s:.0f} ms, {plan}", file=sys.stderr)
        medians.append(took)
        ratios.append(sql_s / took)
        longest = max(longest, slices)
        found |= {f"resolve_{name}_ms": 1e3 * took, f"sql_{name}_ms": 1e3 * sql_s}
    return {
        **found,
        "resolve_median_ms": 1e3 * measure.median(medians),
        "resolve_worst_ms": 1e3 * max(medians),
        "slice_ms": 1e3 * longest,
        "sql_ratio": measure.median(ratios),
    }


class _Still(SystemClock):
    """One moment, so that windows of time are the same for both."""

    def __init__(self, time: float) -> None:
        self._time = time

    def now(self) -> float:
        return self._time


def _resolved(index: Index, app_id: int, audience: Audience) -> tuple[int, float, float]:
    """How many devices, the median time, and the longest slice at the 90th percentile of runs."""
    times, slices, count = [], [], 0
    for _ in range(RUNS):
        steps = index.resolve_in_slices(app_id, audience, ALERT_KINDS)
        parts = []
        while True:
            began = time.process_time()
            try:
                steps.send(None)
            except StopIteration as end:
                parts.append(time.process_time() - began)
                count = len(end.value.devices)
                break
            parts.append(time.process_time() - began)
        times.append(sum(parts))
        slices.append(max(parts))
    return count, measure.median(times), measure.percentile(slices, 90)


async def _sql(connection: Any, catalog: Catalog, audience: Audience, expected: int) -> tuple[float, str]:
    """Seconds of the audience as SQL, and how the server goes about it; the answer has to be the index's."""
    query, arguments = reached(catalog, audience, sorted(ALERT_KINDS, key=lambda kind: kind.number))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        found = await connection.fetchval(f"SELECT count(*) FROM ({query}) audience", *arguments, timeout=SQL_TIMEOUT_S)
        times.append(time.perf_counter() - began)
        if found != expected:
            raise RuntimeError(f"SQL says {found:,}, the index {expected:,}: {str(audience)[:300]}")
        if times[0] > 10:
            break
    explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
    return min(times[1:] or times), ", ".join(_scans(json.loads(explained)[0]["Plan"]))


def _scans(plan: dict[str, Any]) -> list[str]:
    """What a plan reads, each once."""
    found = []
    if "Scan" in plan["Node Type"]:
        found.append(plan["Node Type"] + " " + str(plan.get("Index Name") or plan.get("Relation Name") or ""))
    for child in plan.get("Plans", ()):
        found += _scans(child)
    return list(dict.fromkeys(found))


async def _tag_devices(store: Store, index: Index, devices: int) -> float:
    """Milliseconds of giving one tag more to devices."""
    ids = np.arange(FIRST_ID, FIRST_ID + min(CHANGED, devices), dtype=np.uint32)
    names = await store.names.tag_names([2_000])
    parts = []
    for start in range(0, len(ids), CHANGE_ROWS):
        rows: DeviceRows = await store.devices.images(ids[start : start + CHANGE_ROWS])
        rows.tags = _longer(rows.tags, 2_000, names)
        rows.revisions += 1
        parts.append(rows)
    began = time.process_time()
    for rows in parts:
        index.apply_devices(rows)
    return 1e3 * (time.process_time() - began) * CHANGED / len(ids)


async def _tag_users(store: Store, index: Index, devices: int) -> float:
    """Milliseconds of giving one tag more to users, as many as have so many devices."""
    users = min(CHANGED // 2, devices // 2)
    ids = np.arange(FIRST_ID, FIRST_ID + users, dtype=np.uint32)
    names = await store.names.tag_names([2_000])
    parts = []
    for start in range(0, users, CHANGE_ROWS):
        rows: UserRows = await store.users.images(ids[start : start + CHANGE_ROWS])
        rows.tags = _longer(rows.tags, 2_000, names)
        rows.revisions += 1
        parts.append(rows)
    began = time.process_time()
    for rows in parts:
        index.apply_users(rows)
    return 1e3 * (time.process_time() - began) * CHANGED / 2 / users


def _longer(tags: Postings, tag: int, names: dict[int, str]) -> Postings:
    """The same lists, each with one tag more."""
    ids = np.insert(tags.ids, tags.offsets[1:], tag)
    offsets = tags.offsets + np.arange(len(tags.offsets), dtype=np.int32)
    return Postings(offsets=offsets, ids=ids.astype(np.int32), names={**tags.names, **names})


def _location() -> float:
    """Microseconds of an update."""
    found = places.figures(20_000)
    return max(found["circles"]["update_us"], found["polygons"]["update_us"])


if __name__ == "__main__":
    every = {int(core) for core in sys.argv[2].split(",")}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(figures(int(sys.argv[1]), every))))
