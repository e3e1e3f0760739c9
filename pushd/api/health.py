"""Whether the daemon is alive and ready, and its metrics: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from pushd import telemetry
from pushd.scheduler.zones import database
from pushd.telemetry import TIME_ZONES
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming
from pushd.web.router import Router

READY_TIMEOUT_S = 2.0
"""Balancers give up at about this; later than never is not ready."""

Ready = Callable[[], Awaitable[list[str]]]
"""Reasons why the daemon should get no traffic now; none: it is ready."""

_encode = msgspec.json.Encoder().encode
_FRESH = {"Cache-Control": "no-store"}


def mount(router: Router, ready: Ready) -> None:
    """Routes the three; they need no key and show nothing of any tenant."""
    zones = database()
    TIME_ZONES.info({"source": zones.source, "version": zones.version})
    alive = _encode({"status": "ok", "time_zones": zones.version})

    async def healthz(_: Incoming) -> Answer:
        # That this runs at all says that the process lives and the loop turns.
        return Answer(alive, headers=_FRESH)

    async def readyz(_: Incoming) -> Answer:
        reasons = await _reasons(ready)
        if reasons:
            body = _encode({"status": "not ready", "reasons": reasons})
            return Answer(body, status=503, headers=_FRESH | {"Retry-After": "1"})
        return Answer(_encode({"status": "ready"}), headers=_FRESH)

    async def metrics(_: Incoming) -> Answer:
        return Answer(telemetry.metrics(), headers=_FRESH, content_type=telemetry.METRICS_CONTENT_TYPE)

    router.add("GET", "/healthz", healthz)
    router.add("GET", "/readyz", readyz)
    router.add("GET", "/metrics", metrics)


async def _reasons(ready: Ready) -> list[str]:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            return await ready()
    except TimeoutError:
        return [f"the check took longer than {READY_TIMEOUT_S:g} s"]
