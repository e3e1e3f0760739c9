import asyncio

import pytest

from pushd.api import health
from pushd.scheduler.zones import database
from pushd.web.router import Router

pytestmark = pytest.mark.asyncio


def routes(ready):
    router = Router()
    health.mount(router, ready)
    return router


async def test_alive_and_ready(serve_router):
    async def ready():
        return []

    async with serve_router(routes(ready)) as call:
        alive = (await call("GET", "/healthz", key=None))[2]
        assert alive == {"status": "ok", "time_zones": database().version}
        status, headers, body = await call("GET", "/readyz", key=None)
        assert (status, body, headers["Cache-Control"]) == (200, {"status": "ready"}, "no-store")


async def test_alive_and_not_ready_says_why(serve_router):
    async def ready():
        return ["PostgreSQL is away", "stopping"]

    async with serve_router(routes(ready)) as call:
        status, headers, body = await call("GET", "/readyz", key=None)
        assert (status, body["reasons"]) == (503, ["PostgreSQL is away", "stopping"])
        assert headers["Retry-After"]
        assert (await call("GET", "/healthz", key=None))[0] == 200


async def test_a_check_that_hangs_is_not_ready(serve_router, monkeypatch):
    monkeypatch.setattr(health, "READY_TIMEOUT_S", 0.05)

    async def ready():
        await asyncio.Event().wait()

    async with serve_router(routes(ready)) as call:
        status, _, body = await call("GET", "/readyz", key=None)
        assert (status, len(body["reasons"])) == (503, 1)


async def test_metrics_are_prometheus_text(serve_router):
    async with serve_router(routes(None)) as call:
        status, headers, body = await call("GET", "/metrics", key=None)
        assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "# TYPE pushd_accepted_total counter" in body
        assert f'pushd_time_zones_info{{source="{database().source}",version="{database().version}"}} 1.0' in body
