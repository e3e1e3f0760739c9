"""The targeting index in memory, no database: load, resolve, gather, memory, at 1M and (unless quick) 5M devices.

Each size runs in a process of its own, pinned to one core. The population is made here, a chunk of 8,192 rows at a
time, and only `Index.apply_devices` and `Index.apply_users` are timed:

- one app; devices with random 64-character tokens, 90 % `apns` and 10 % `apns_voip`; 4 % disabled, 3 % retired, 1 %
  without a token; 80 % belong to one of half as many users as there are devices;
- 2,000 tags, their popularity by Zipf's law (exponent 1); 3 a device; 1 for every fifth user; external ids of 13 to 14
  bytes ("customer-" and the number);
- all times are CPU times of the process, so that other work on the machine does not count;
- `load_slice_ms` is how long a chunk holds the event loop;
- `load_devices_per_s` is all of that, after its users were loaded; `load_untagged_per_s` the same devices without
  tags, after which the tagged ones are loaded into another index.

`resolve` is the median of 31 runs of each of five audiences, skipped counts and missing ids included. `one_*` are
single rows and ids, as a registration (one tag changes) and a transactional send need them. `columns`, `routes` and
`still` are what the fan-out asks.

Bytes per device are what an index takes beside the addresses themselves (64 bytes a token, and the text of its users'
external ids), users and everything about them included, measured twice: resident memory of the process, after loading
less before, each time when what was freed has gone back to the system (the chunks that are made here leave holes in the
heap); and the sum of the bytes that columns, look-up tables, tag lists and bitmaps hold, room to grow included.

Then twelve audiences over everything that devices can be told apart by, and the same as SQL: `bench.audiences`, with
100,000 devices (quick) or 5 million.

The ratio is the smallest margin of all targets at the largest size, at least 1.0 where all are met. Of the
plain index: load rate over 500,000/s, 5 ms over the slowest of the five audiences, 60 bytes over the resident bytes per
device. Of the twelve audiences: load rate over 300,000/s, 5 ms over the median, 50 ms over the slowest, 20 ms over the
longest slice, 100 µs over an update of a location, 100 ms over one tag more on 100,000 devices, 160 bytes over the
resident bytes per device.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import measure
from pushd.config import StoreConfig
from pushd.model.audience import And, Audience, Broadcast, DeviceIds, Not, Or, Tags, UserIds
from pushd.model.device import ALERT_KINDS, Environment, Kind, Route
from pushd.model.rows import DeviceFlag, DeviceRows, Postings, UserRows
from pushd.targeting import Index

SEED = 7
CHUNK_ROWS = StoreConfig().load_rows_max
WARM_ROWS = 65_536
TAGS = 2_000
TAGS_PER_DEVICE = 3
TOKEN_BYTES = 64
RUNS = 31
LOAD_TARGET, RESOLVE_TARGET_MS, BYTES_TARGET = 500_000, 5.0, 60
TARGETS = {
    "resolve_median_ms": 5.0,
    "resolve_worst_ms": 50.0,
    "slice_ms": 20.0,
    "location_us": 100.0,
    "tag_100k_ms": 100.0,
    "bytes_per_device": 160.0,
}
"""Of the twelve audiences, at most."""
ROUTES = {
    1: Route(1, Kind.APNS, Environment.PRODUCTION, "com.example.shop"),
    2: Route(1, Kind.APNS_VOIP, Environment.PRODUCTION, "com.example.shop"),
}
NAMES = {tag: f"Tag-{tag}" for tag in range(1, TAGS + 1)}
LIVE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)


def run(quick: bool) -> dict[str, Any]:
    """The figures of one size (quick) or two, and how far within its targets the larger one is."""
    sizes = [1_000_000] if quick else [1_000_000, 5_000_000]
    results = {size: measure.child_json([sys.executable, "-m", "bench.index", str(size)]) for size in sizes}
    largest = results[sizes[-1]]
    slowest = max(value for name, value in largest.items() if name.startswith("resolve_"))
    everything = measure.child_json(
        [sys.executable, "-m", "bench.audiences", str(100_000 if quick else sizes[-1]), _cores()], timeout_s=3_600
    )
    margins = {
        "load": largest["load_devices_per_s"] / LOAD_TARGET,
        "resolve": RESOLVE_TARGET_MS / slowest,
        "memory": BYTES_TARGET / largest["rss_bytes_per_device"],
        "audiences: load": everything["load_devices_per_s"] / 300_000,
        **{f"audiences: {name}": target / everything[name] for name, target in TARGETS.items()},
    }
    if quick:  # what libraries take is not spread over enough devices
        del margins["audiences: bytes_per_device"]
    return {
        "name": "index",
        "ratio": min(margins.values()),
        "target": f"within its targets, the tightest ({min(margins, key=margins.__getitem__)}); at least 1.0",
        "figures": {
            **{f"{size // 1_000_000}M_{name}": value for size in sizes for name, value in results[size].items()},
            **{f"audiences_{name}": value for name, value in everything.items()},
            **{f"margin of {name}": value for name, value in margins.items()},
        },
        "table": [
            {"figure": name, **{f"{size // 1_000_000}M": results[size][name] for size in sizes}} for name in largest
        ]
        + [_row(f"audiences: {name}", value, sizes) for name, value in everything.items()],
    }


def _row(name: str, value: float, sizes: list[int]) -> dict[str, float | str]:
    return {"figure": name, **{f"{size // 1_000_000}M": value if size == sizes[-1] else "" for size in sizes}}


def _cores() -> str:
    """Those that PostgreSQL may run on."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


def size_figures(devices: int) -> dict[str, float]:
    """Every figure of a population of this many devices."""
    _load_users(Index(), WARM_ROWS)
    _load_devices(Index(), WARM_ROWS, TAGS_PER_DEVICE)
    index, before = Index(), resident()
    users = _load_users(index, devices // 2)
    tagged = _load_devices(index, devices, TAGS_PER_DEVICE)
    taken = resident() - before
    stats = index.stats()
    addresses = ("token_bytes", "external_id_bytes")
    held = sum(value for name, value in stats.items() if name.endswith("_bytes") and name not in addresses)
    text = TOKEN_BYTES * devices + sum(len(f"customer-{number:05}") for number in range(1, devices // 2 + 1))
    untagged = _load_devices(Index(), devices, tags=0)
    return {
        "load_devices_per_s": devices / tagged.seconds,
        "load_untagged_per_s": devices / untagged.seconds,
        "load_users_per_s": devices / 2 / users.seconds,
        "load_slice_ms": 1e3 * max(tagged.slice_s, users.slice_s),
        **{f"resolve_{name}_ms": 1e3 * _median(_resolve(index, audience)) for name, audience in _audiences().items()},
        **_small(index, devices),
        **_fan_out(index),
        "rss_bytes_per_device": (taken - text) / devices,
        "held_bytes_per_device": held / devices,
        "devices": stats["devices"],
        "users": stats["users"],
        "tags": stats["tags"],
    }


def _audiences() -> dict[str, Audience]:
    return {
        "broadcast": Broadcast(),
        "any_of_five_tags": Tags(any=["tag-1", "tag-3", "tag-10", "tag-50", "tag-400"]),
        "all_but": Tags(all=["tag-1", "tag-2"], exclude=["tag-5"], of="device"),
        "nested": And([Or([Tags(any=["tag-1"]), Tags(any=["tag-7"], of="user")]), Not(Tags(any=["tag-4", "tag-9"]))]),
        "thousand_users": UserIds([f"customer-{number:05}" for number in range(1, 1_001)]),
    }


def _small(index: Index, devices: int) -> dict[str, float]:
    row = next(_device_chunks(1, TAGS_PER_DEVICE))
    row.revisions[0] = 1_000

    def register() -> None:
        row.revisions[0] += 1
        row.tags.ids[0] = row.revisions[0] % TAGS + 1
        index.apply_devices(row)

    one_device, one_user = DeviceIds([devices // 2]), UserIds([f"customer-{devices // 4:05}"])
    return {
        "one_registration_us": 1e6 * _median(register, 2_001),
        "one_device_us": 1e6 * _median(_resolve(index, one_device), 2_001),
        "one_user_us": 1e6 * _median(_resolve(index, one_user), 2_001),
    }


def _fan_out(index: Index) -> dict[str, float]:
    sent = index.resolve(1, Broadcast(), ALERT_KINDS).devices
    batch = sent.column()[:2_000].copy()
    return {
        "columns_2000_us": 1e6 * _median(lambda: index.columns(batch), 201),
        "routes_ms": 1e3 * _median(lambda: index.routes(1, sent)),
        "still_ms": 1e3 * _median(lambda: index.still(1, sent, Broadcast(), ALERT_KINDS)),
    }


def _resolve(index: Index, audience: Audience) -> Callable[[], object]:
    return lambda: index.resolve(1, audience, ALERT_KINDS)


def _median(work: Callable[[], object], runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return measure.median(times)


class Load(NamedTuple):
    """What a load took: in all, and the chunk at the 99th percentile, for other work holds single ones up."""

    seconds: float
    slice_s: float


def _load_devices(index: Index, devices: int, tags: int) -> Load:
    times = []
    for rows in _device_chunks(devices, tags):
        begun = time.process_time()
        index.apply_devices(rows)
        times.append(time.process_time() - begun)
    return Load(sum(times), measure.percentile(times, 99))


def _load_users(index: Index, users: int) -> Load:
    times, random = [], np.random.default_rng(SEED)
    for ids in _id_chunks(users):
        counts = (ids % 5 == 0).astype(np.int32)
        rows = UserRows(
            ids=ids,
            revisions=np.ones(len(ids), np.int32),
            app_ids=np.ones(len(ids), np.int32),
            external_ids=[f"customer-{number:05}" for number in ids.tolist()],
            deleted=np.zeros(len(ids), np.bool_),
            tags=_postings(random, counts),
        )
        begun = time.process_time()
        index.apply_users(rows)
        times.append(time.process_time() - begun)
    return Load(sum(times), measure.percentile(times, 99))


def _device_chunks(devices: int, tags: int) -> Iterator[DeviceRows]:
    random = np.random.default_rng(SEED)
    for ids in _id_chunks(devices):
        flags = np.full(len(ids), LIVE, np.uint8)
        draw = random.random(len(ids))
        flags[draw < 0.04] = DeviceFlag.HAS_TOKEN
        flags[(draw >= 0.04) & (draw < 0.07)] |= int(DeviceFlag.RETIRED)
        flags[(draw >= 0.07) & (draw < 0.08)] = DeviceFlag.PUSH_ENABLED
        tokens = np.frombuffer(random.bytes(TOKEN_BYTES // 2 * len(ids)).hex().encode(), f"S{TOKEN_BYTES}").copy()
        tokens[flags & DeviceFlag.HAS_TOKEN == 0] = b""
        owned = random.random(len(ids)) < 0.8
        yield DeviceRows(
            ids=ids,
            revisions=np.ones(len(ids), np.int32),
            route_ids=np.where(random.random(len(ids)) < 0.9, 1, 2).astype(np.int32),
            user_ids=np.where(owned, random.integers(1, devices // 2 + 2, len(ids)), 0).astype(np.uint32),
            flags=flags,
            tokens=tokens,
            tags=_postings(random, np.full(len(ids), tags, np.int32)),
            routes=ROUTES,
        )


def _id_chunks(count: int) -> Iterator[NDArray[np.uint32]]:
    for start in range(1, count + 1, CHUNK_ROWS):
        yield np.arange(start, min(start + CHUNK_ROWS, count + 1), dtype=np.uint32)


def _postings(random: np.random.Generator, counts: NDArray[np.int32]) -> Postings:
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    weights = np.cumsum(1 / np.arange(1, TAGS + 1))
    drawn = np.searchsorted(weights, random.random(int(offsets[-1])) * weights[-1]) + 1
    return Postings(offsets=offsets, ids=np.minimum(drawn, TAGS).astype(np.int32), names=NAMES)


def resident() -> int:
    """Bytes of this process's memory, once what was freed has gone back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


if __name__ == "__main__":
    print(json.dumps(size_figures(int(sys.argv[1]))))
