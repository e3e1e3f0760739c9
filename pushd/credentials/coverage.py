"""Watches for devices that no credential serves: a warning in the log and a count in the metrics, before a send (A-18).

Looked at when the daemon starts, soon after a credential changed, and every hour. Warned once per app, gateway,
environment and bundle, until a credential serves it. The metric names no app, for their number has no bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Protocol

import structlog
from prometheus_client import Gauge

from pushd.credentials.keyring import Listener
from pushd.model.device import GatewayName, Route
from pushd.service import Service, is_set_within
from pushd.telemetry import REGISTRY

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 3_600.0
SOON_S = 1.0
"""After a change of a credential: several come together."""
ROUTES_AT_ONCE = 100
"""Between two of them the event loop has its turn."""
WARNINGS_MAX = 20
"""Lines per look; how many more there are stands in one line of its own."""

UNSERVED = Gauge(
    "pushd_devices_without_credential",
    "Reachable devices whose app has no credential for their gateway, environment and bundle.",
    ("gateway",),
    registry=REGISTRY,
)


class Ring(Protocol):
    """What is asked of the keyring."""

    def unresolved(self, routes: Iterable[Route]) -> list[Route]:
        """Those of the routes that no credential serves."""

    def listen(self, listener: Listener) -> None:
        """Calls it after every change of a credential."""


class Population(Protocol):
    """What is asked of the index."""

    def every_route(self) -> Iterator[tuple[Route, int]]:
        """Every route of every app, and how many of its devices are reachable."""


class CoverageWatch(Service):
    """Looks at every route that has devices."""

    def __init__(self, ring: Ring, population: Population) -> None:
        super().__init__()
        self._ring = ring
        self._population = population
        self._warned: frozenset[Route] = frozenset()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Looks, and goes on looking."""
        await self.look()
        self._ring.listen(lambda *_: self._changed.set())
        self.spawn(self._watch(), "credential-coverage")

    async def look(self) -> None:
        """Sets the metric, and warns of routes that nothing serves and that were not warned of yet."""
        unserved: dict[Route, int] = {}
        for number, (route, count) in enumerate(self._population.every_route(), 1):
            if count and self._ring.unresolved((route,)):
                unserved[route] = count
            if number % ROUTES_AT_ONCE == 0:
                await asyncio.sleep(0)
        counts = dict.fromkeys(GatewayName, 0)
        for route, count in unserved.items():
            counts[route.kind.gateway] += count
        for gateway, count in counts.items():
            UNSERVED.labels(gateway.value).set(count)
        fresh = sorted((route for route in unserved if route not in self._warned), key=unserved.__getitem__)
        self._warned = frozenset(unserved)
        for route in fresh[: -WARNINGS_MAX - 1 : -1]:
            log.warning(
                "no_credential_for_devices",
                app=route.app_id,
                gateway=route.kind.gateway.value,
                environment=route.environment.value,
                bundle=route.bundle,
                devices=unserved[route],
            )
        if len(fresh) > WARNINGS_MAX:
            log.warning("no_credential_for_more_devices", routes=len(fresh) - WARNINGS_MAX)

    async def _watch(self) -> None:
        while True:
            if await is_set_within(self._changed, LOOK_EVERY_S):  # else devices may have come all the same
                await asyncio.sleep(SOON_S)
            self._changed.clear()
            await self.look()
