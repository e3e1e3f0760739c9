"""Watches the end of credentials that have one: a warning in the log and counts in the metrics, in time (A-25).

Warned once per mark: 30, 14, 7 and 1 days before the end, and at the end. No metric names a credential, for their
number has no bound: the log lines do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

import structlog
from prometheus_client import Gauge

from pushd.clock import Clock
from pushd.model.credential import Credential, Secret
from pushd.service import Service
from pushd.telemetry import REGISTRY

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
MARKS_D = (30, 14, 7, 1, 0)
"""Days before the end at which is warned; 0: it is over."""
LOOK_EVERY_S = 3_600.0

EXPIRING = Gauge(
    "pushd_credentials_expiring", "Credentials that end within so many days; 0: ended.", ("days",), registry=REGISTRY
)
NEXT_END = Gauge(
    "pushd_credential_next_end_timestamp_seconds",
    "When the next credential ends that has not yet, in UNIX seconds; 0: none does.",
    registry=REGISTRY,
)


class Ring(Protocol):
    """What is asked of the keyring."""

    def opened(self) -> Iterator[tuple[Credential, Secret]]:
        """Every credential whose secret could be opened."""


class ExpiryWatch(Service):
    """Looks at every credential when it starts, and every hour."""

    def __init__(self, ring: Ring, clock: Clock) -> None:
        super().__init__()
        self._ring = ring
        self._clock = clock
        self._warned: dict[tuple[int, float], int] = {}

    async def start(self) -> None:
        """Looks, and goes on looking."""
        self.look()
        self.spawn(self._watch(), "credential-expiry")

    def look(self) -> None:
        """Sets the metrics, and warns of what passed a mark since the last look."""
        now = self._clock.now()
        counts = dict.fromkeys(MARKS_D, 0)
        ends: list[float] = []
        warned: dict[tuple[int, float], int] = {}
        for credential, secret in self._ring.opened():
            if secret.expires_at is None:
                continue
            left_s = secret.expires_at - now
            if left_s > 0:
                ends.append(secret.expires_at)
            passed = [mark for mark in MARKS_D if left_s <= mark * DAY_S]
            for mark in passed:
                counts[mark] += 1
            if passed:
                key = credential.id, secret.expires_at
                warned[key] = passed[-1]
                if self._warned.get(key) != passed[-1]:
                    self._warn(credential, left_s)
        self._warned = warned
        for mark, count in counts.items():
            EXPIRING.labels(str(mark)).set(count)
        NEXT_END.set(min(ends, default=0.0))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def _warn(self, credential: Credential, left_s: float) -> None:
        tell = log.error if left_s <= DAY_S else log.warning
        tell(
            "credential_expired" if left_s <= 0 else "credential_expires",
            credential=credential.id,
            app=credential.app_id,
            gateway=credential.gateway.value,
            name=credential.name,
            days_left=round(left_s / DAY_S, 1),
        )
