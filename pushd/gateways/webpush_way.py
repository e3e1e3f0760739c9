"""The way to one push service with one credential in one lane: HTTP/2 links, or HTTP/1.1 where it knows no other."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import msgspec
from aiohttp import ClientSession

from pushd.batch import Lane
from pushd.config.transport import TransportConfig
from pushd.config.webpush import WebPushConfig
from pushd.credentials.vapid_keys import VapidTokens
from pushd.gateways.webpush_exchange import WebPushExchange
from pushd.gateways.webpush_forms import Form
from pushd.gateways.webpush_http1 import Http1Sender
from pushd.gateways.webpush_judge import FORBIDDEN, ORIGIN_RESTS, Judge
from pushd.transport import guard_http
from pushd.transport.dial import Dialer, DialError
from pushd.transport.guard import Guard, Target
from pushd.transport.pool import Pool
from pushd.transport.queue import Load, Sending
from pushd.transport.resolve import Resolver

PROBE_ROWS = 32
"""Rows that may wait for a service that cannot be connected to: enough to see when it comes back."""
STALLED_S = 2.0
"""Rows that wait longer without any of them moving are not counted against the room of others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reach:
    """What every way is made of."""

    config: WebPushConfig
    transport: TransportConfig
    guard: Guard
    resolver: Resolver
    tokens: VapidTokens
    context: ssl.SSLContext
    """For HTTP/2 and HTTP/1.1: which of them the service speaks shows in the handshake."""
    context_http1: ssl.SSLContext


class Origin:
    """A push service, as far as it is known."""

    __slots__ = ("http1_until", "judge", "target")

    def __init__(self, target: Target, judge: Judge) -> None:
        self.target = target
        self.judge = judge
        self.http1_until = 0.0
        """Loop time until which it is not asked for HTTP/2 again."""


class Way:
    """Takes loads for one origin, and counts what waits."""

    def __init__(self, origin: Origin, label: str, lane: Lane, reach: Reach) -> None:
        self.origin = origin
        self.retired = False
        self._label = label
        self._lane = lane
        self._reach = reach
        self._loop = asyncio.get_running_loop()
        self._pool: Pool | None = None
        self._http1: Http1Sender | None = None

    def put(self, load: Load) -> None:
        """Queues rows, over whichever protocol the service speaks; they go home to wait while it rests."""
        assert isinstance(load.form, Form)
        if rests_s := self.origin.judge.rests_s(load.form.shape.key):
            load.sending.batch.wait_alone(load.rows[load.at :].tolist(), rests_s)
            load.settle_left(ORIGIN_RESTS.code)
        elif self._loop.time() < self.origin.http1_until:
            self._over_http1().put(load)
        else:
            self._over_http2().put(load)

    def drop(self, sending: Sending) -> None:
        """Sends the waiting rows of one batch home unprocessed."""
        for sender in self._senders():
            sender.drop(sending)

    def reconsider(self) -> None:
        """Sends home what waits for an origin that has begun to rest."""
        for load in [load for sender in self._senders() for load in sender.surrender()]:
            self.put(load)

    def room(self) -> int:
        """How many rows may join those that wait: few while it cannot be connected to or does not move (W-47)."""
        slow = any(sender.failing for sender in self._senders()) or self.stalled
        return max(0, (PROBE_ROWS if slow else self._reach.config.origin_rows_max) - self.waiting)

    @property
    def failing(self) -> bool:
        """Whether connects fail."""
        return any(sender.failing for sender in self._senders())

    @property
    def stalled(self) -> bool:
        """Whether rows wait and none of them moves."""
        return any(sender.stalled_s() > STALLED_S for sender in self._senders())

    @property
    def waiting(self) -> int:
        """Rows that no connection took yet."""
        pool, http1 = self._pool, self._http1
        return (0 if pool is None else pool.waiting) + (0 if http1 is None else http1.waiting)

    @property
    def moving(self) -> int:
        """The same, none of them while they do not move: those hold up nobody but their own origin."""
        waiting = self.waiting
        return waiting if waiting and not (self.failing or self.stalled) else 0

    @property
    def idle(self) -> bool:
        """Whether nothing of it is alive but what it remembers."""
        return all(sender.idle for sender in self._senders())

    def retire(self) -> None:
        """Takes nothing more: waiting rows go home unprocessed, what flies lands."""
        self.retired = True
        for sender in self._senders():
            sender.retire()

    async def stop(self, drain_s: float) -> None:
        """Retires it and waits for what flies; after `drain_s` seconds that is lost."""
        self.retired = True
        if self._pool is not None:
            await self._pool.stop(drain_s)
        if self._http1 is not None:
            await self._http1.drain(drain_s)

    # -- inside

    def _senders(self) -> list[Pool | Http1Sender]:
        return [sender for sender in (self._pool, self._http1) if sender is not None]

    def _over_http2(self) -> Pool:
        if self._pool is None:
            self._pool = self._new_pool()
            if self.retired:
                self._pool.retire()
        return self._pool

    def _over_http1(self) -> Http1Sender:
        if self._http1 is None:
            reach, transport = self._reach, self._reach.transport

            def session() -> ClientSession:
                return guard_http.session(
                    reach.guard,
                    reach.resolver,
                    reach.context_http1,
                    connections=reach.config.http1_connections,
                    connect_s=transport.connect_timeout_s,
                    total_s=transport.connect_timeout_s + transport.response_timeout_s,
                )

            self._http1 = Http1Sender(
                session, self.origin.judge, reach.tokens, reach.config.http1_connections, transport
            )
            if self.retired:
                self._http1.retire()
        return self._http1

    def _new_pool(self) -> Pool:
        reach, target = self._reach, self.origin.target
        config, transport = reach.config, reach.transport

        def exchange(stateless_headers: bool) -> WebPushExchange:
            return WebPushExchange(
                target.authority.encode(),
                self.origin.judge,
                reach.tokens,
                config,
                transport.server_errors_max,
                stateless_headers=stateless_headers,
            )

        links = transport.bulk_links if self._lane is Lane.BULK else transport.transactional_links
        return Pool(
            self._label,
            Dialer(
                target.host, target.port, reach.context, reach.guard.resolver(reach.resolver), transport, reach.guard
            ),
            exchange,
            links,
            msgspec.structs.replace(transport, idle_close_s=config.idle_close_s),
            self._undialled,
        )

    def _undialled(self, error: DialError) -> int:
        """HTTP/1.1 takes over where the service knows no HTTP/2; rows of a forbidden address go home."""
        if error.kind == "forbidden":
            return FORBIDDEN.code
        if error.kind == "alpn" and self._pool is not None:
            self.origin.http1_until = self._loop.time() + self._reach.config.http1_remember_s
            pool, self._pool = self._pool, None
            for load in pool.surrender():
                self._over_http1().put(load)
            pool.retire()
        return 0
