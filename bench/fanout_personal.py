"""Personal messages at speed: broadcasts whose payload differs by device, beside one that all devices share.

In turns, against the same far side and in the same run: a message that all share; one that puts a name, a city and a
tag in; variants in three languages; general Liquid, with conditions and filters; and badges that pushd counts. The
ratio is the second's rate over the first's. Every user has attributes: one of 5,000 names, one of 100 cities, a number
of points.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench import measure, population
from bench.fanout import World, new_world

TARGET = 0.4
_ATTRIBUTES = """
UPDATE users SET attributes = jsonb_build_object('first_name', 'Name' || id % 5000, 'city', 'City' || id % 100,
    'points', id % 1000)::text, revision = revision + 1 WHERE app_id = $1
"""
_CLOSING = ", a benchmark notification"
MESSAGES: dict[str, dict[str, Any]] = {
    "shared": {},
    "substituted": {
        "message": {
            "title": "Hello {{ user.first_name | default: 'you' }}",
            "body": "from {{ place }} in {{ user.city }}" + _CLOSING,
            "data": {"n": 1},
        },
        "liquid": True,
        "content_tags": {"place": "the market"},
    },
    "locales": {
        "message": {"title": "Hello {{ user.first_name }}", "body": "from pushd" + _CLOSING, "data": {"n": 1}},
        "liquid": True,
        "locales": {"de": {"title": "Hallo {{ user.first_name }}"}, "pt-BR": {"title": "Oi {{ user.first_name }}"}},
    },
    "general": {
        "message": {
            "title": "Hello {{ user.first_name | upcase }}",
            "body": "{% if user.points > 500 %}many{% else %}few{% endif %} of {{ user.points }}" + _CLOSING,
            "data": {"n": 1},
        },
        "liquid": True,
    },
    "counted": {"badge_from": "device.badge"},
}


async def measured(root: Path, devices: int, rounds: int) -> dict[str, Any]:
    """The figures of each message."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in MESSAGES}
    async with new_world(root, devices) as world:
        with world.daemon():
            await world.make_credential()
        await population.load(world.database, world.app_id, devices, per_user=2)
        await world.database.execute(_ATTRIBUTES, world.app_id, timeout=600)
        await world.database.execute("VACUUM ANALYZE users", timeout=600)
        await world.database.execute("CHECKPOINT")
        with world.daemon(), world.far("h2o", mixed=False) as far:
            await world.warm_up(far)
            for _ in range(rounds):
                for name, fields in MESSAGES.items():
                    runs[name].append(await _broadcast(world, far, fields))
    found = {
        name: {key: measure.median([each[key] for each in some]) for key in some[0]} for name, some in runs.items()
    }
    return _result(found, devices, rounds)


async def _broadcast(world: World, far: Any, fields: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    done = await world.broadcast(far, **fields)
    assert done["accepted"] == done["targeted"] >= 0.95 * world.devices, done
    return {**done, "whole_s": time.perf_counter() - began}


def _result(found: dict[str, dict[str, Any]], devices: int, rounds: int) -> dict[str, Any]:
    shared = found["shared"]
    ratios = {name: each["per_s"] / shared["per_s"] for name, each in found.items()}
    shown = ("per_s", "first_push_ms", "lag_p99_ms", "lag_max_ms", "daemon_us", "postgresql_us", "far_side_us")
    return {
        "ratio": ratios["substituted"],
        "target": f"of the rate of a payload that all share, in the same run; the target is at least {TARGET}",
        "table": [{"figure": "ratio", **ratios}]
        + [{"figure": key, **{name: each[key] for name, each in found.items()}} for key in shown],
        **{f"{name}_ratio": ratio for name, ratio in ratios.items()},
        **{f"{name}_{key}": each[key] for name, each in found.items() for key in shown},
        "devices": devices,
        "runs": rounds,
    }
