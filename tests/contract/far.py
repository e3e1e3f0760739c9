"""The far side of a gateway: a vendor that answers by device number, each answer in its own words."""

import asyncio
from abc import ABC, abstractmethod

import msgspec
import numpy as np

from pushd.batch import Batch, Lane, Rendered
from pushd.config import TransportConfig
from pushd.gateway import Gateway
from pushd.model.device import Route
from pushd.outcome import Outcome

PATIENT = TransportConfig(
    resolve_timeout_s=30.0,
    connect_timeout_s=30.0,
    settings_timeout_s=30.0,
    response_timeout_s=30.0,
    ping_after_s=30.0,
    ping_timeout_s=30.0,
    drain_timeout_s=30.0,
    window_timeout_s=30.0,
    queue_timeout_s=30.0,
    close_timeout_s=0.2,
    connect_backoff_base_s=0.02,
    connect_backoff_cap_s=0.1,
    connects_per_minute_max=10_000,
)
"""Deadlines that no busy machine reaches."""
SILENT = msgspec.structs.replace(PATIENT, connect_timeout_s=2.0, response_timeout_s=2.0)
"""Where the far side is silent on purpose: long for whatever else is answered, short to wait for."""


class Far(ABC):
    """A gateway and the vendor that it talks to."""

    route: Route
    gateway: Gateway
    payload: Rendered
    dead_since_ms: int | None = 1_700_000_000_000
    """Since when a dead token is dead, as the vendor's answer says; None: it does not, and the gateway reckons."""
    tells_when = True
    """Whether a throttling vendor has words for when to come back."""
    provable = True
    """Whether the vendor can be asked about a credential without a device."""
    many = 5_000
    """Devices that are soon made."""

    unthrottled_s: float | None = None
    """What the gateway itself waits where a throttling vendor names no time."""

    def message(self, number: int) -> Rendered:
        """One of several messages."""
        return Rendered(payload=b'{"aps":{"alert":"%d"}}' % number, headers=self.payload.headers)

    @abstractmethod
    async def start(self, directory, transport: TransportConfig): ...

    @abstractmethod
    async def stop(self): ...

    @abstractmethod
    def token(self, number: int) -> str: ...

    @abstractmethod
    def received(self) -> dict[str, int]:
        """Accepted pushes by token."""

    @abstractmethod
    def refuse(self, number: int): ...

    @abstractmethod
    def kill(self, number: int):
        """The device's token is dead; the answer says since when, in ms, where the vendor says so."""

    @abstractmethod
    def throttle(self, number: int, retry_after: str): ...

    @abstractmethod
    def outage(self): ...

    @abstractmethod
    def silence(self, number: int): ...

    @abstractmethod
    def refuse_credential(self): ...

    @abstractmethod
    def babble(self, number: int):
        """An answer that is no answer of this vendor."""

    @abstractmethod
    def cut(self, number: int):
        """The connection ends when this device's push comes."""

    @abstractmethod
    def leave(self):
        """The vendor takes nothing more on this connection, politely."""

    def batch(self, rows: int, first: int = 1, payloads=None, credential_id: int = 1, lane: Lane = Lane.BULK) -> Batch:
        ids = np.arange(first, first + rows, dtype=np.uint32)
        return Batch(
            route=self.route,
            credential_id=credential_id,
            lane=lane,
            ids=ids,
            tokens=np.array([self.token(number).encode() for number in ids.tolist()]),
            revisions=np.ones(rows, np.int32),
            notifications=11,
            payloads=payloads or self.payload,
        )

    async def send(self, rows: int, first: int = 1, **rest) -> Batch:
        batch = self.batch(rows, first, **rest)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        assert not batch.pending
        return batch

    def outcomes(self, batch: Batch) -> list[Outcome]:
        return [self.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()]
