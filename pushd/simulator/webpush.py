"""A local push service: HTTP/2 on one port, HTTP/1.1 alone on another, strict, scripted like the other gateways.

It plays the browsers of the subscriptions that it makes itself, and opens what they get. A real Firefox can subscribe
too (`simulator.browsers`); what it is pushed is handed on to it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter, deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from h2.errors import ErrorCodes

from protocols import aes128gcm
from pushd.clock import Clock, SystemClock
from pushd.errors import ConfigError
from pushd.model.device import Environment
from pushd.service import Service
from pushd.simulator import answers, scripts
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.browsers import Browsers, Subscription
from pushd.simulator.connection import Connection
from pushd.simulator.faults import (
    Action,
    Answer,
    Block,
    Close,
    ConnectionAction,
    FaultBook,
    Goaway,
    Reset,
    Silence,
    Slow,
)
from pushd.simulator.identity import Identity
from pushd.simulator.provider import ProviderTokens
from pushd.simulator.record import Record
from pushd.simulator.rules import Request
from pushd.simulator.webpush_rules import (
    BODY_MAX,
    PUSH_PATH,
    Inspector,
    PushRules,
    Refusal,
    Subscriber,
    played,
    ttl_of,
)
from pushd.simulator.wire import Data, Headers, Part
from pushd.simulator.world import World

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
STREAMS_MAX = 100
"""What push services have been seen to allow."""
KEPT = 10_000
BODY_READ_MAX = 16_384


class Push(NamedTuple):
    """One push that was taken."""

    name: str
    text: bytes | None
    """What the browser read; None where a real one does the reading."""
    headers: dict[str, str]
    protocol: str
    """h2 or http/1.1."""


class PushService(Service):
    """A push service. `faults` scripts it, by names of subscriptions; `pushes` says what arrived."""

    def __init__(
        self,
        identity: Identity | Path,
        *,
        port: int = 0,
        http1_port: int = 0,
        browser_port: int = 0,
        host: str = "127.0.0.1",
        name: str = "localhost",
        seed: str = "",
        clock: Clock | None = None,
        behaviour: Behaviour | None = None,
    ) -> None:
        super().__init__()
        self.host, self.name = host, name
        self.port, self.http1_port, self.browser_port = port, http1_port, browser_port
        self.identity = identity if isinstance(identity, Identity) else Identity(identity)
        self.clock = clock or SystemClock()
        self.behaviour = behaviour or Behaviour(streams_max=STREAMS_MAX, streams_before_token=STREAMS_MAX)
        self.faults = FaultBook(0)
        self.record = Record(self.behaviour)
        """Connections and what clients must not do."""
        self.subscribers: dict[str, Subscriber] = {}
        self.pushes: deque[Push] = deque(maxlen=KEPT)
        self.accepted: Counter[str] = Counter()
        """Pushes that were taken, by subscription."""
        self.statuses: Counter[int] = Counter()
        self.browsers = Browsers(self._issue, self._revoke)
        self.inspector = Inspector(self.clock, self.subscribers)
        self._seed = seed
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        self._world = World(
            behaviour=self.behaviour,
            clock=self.clock,
            tokens=ProviderTokens(self.identity, self.behaviour, self.clock),
            faults=self.faults,
            record=self.record,
            dice=random.Random(0),  # noqa: S311 - dice, not secrets
            rules=PushRules(),
        )

    @property
    def origin(self) -> str:
        """The origin of endpoints over HTTP/2."""
        return f"https://{self.name}:{self.port}"

    @property
    def http1_origin(self) -> str:
        """The origin of endpoints over HTTP/1.1."""
        return f"https://{self.name}:{self.http1_port}"

    async def start(self) -> None:
        """Listens for HTTP/2, for HTTP/1.1, and for browsers."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _PushConnection(self, self._world, self._open),
                self.host,
                self.port,
                ssl=self.identity.tls(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
            self.port = self._server.sockets[0].getsockname()[1]
            app = web.Application(client_max_size=BODY_READ_MAX)
            app.router.add_route("*", "/{path:.*}", self._serve_http1)
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
            await self._runner.setup()
            tls = self.identity.tls(("http/1.1",))
            await web.TCPSite(self._runner, self.host, self.http1_port, ssl_context=tls).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {self.host}: {error.strerror}") from error
        self.http1_port = self._runner.addresses[0][1]
        self.browser_port = await self.browsers.start(self.browser_port)

    async def stop(self) -> None:
        """Closes listeners and connections."""
        await self.browsers.stop()
        if self._server is not None:
            self._server.close()
            for connection in list(self._open):
                connection.end("dropped", abort=True)
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_TIMEOUT_S)
        if self._runner is not None:
            await self._runner.cleanup()
        await super().stop()

    # -- subscriptions

    def subscribe(self, key: bytes = b"", *, name: str = "", http1: bool = False) -> Subscriber:
        """A new subscription whose browser is played here, made with that application server key."""
        name = name or secrets.token_urlsafe(24)
        origin = self.http1_origin if http1 else self.origin
        subscriber = played(name, f"{origin}{PUSH_PATH.decode()}{name}", key, self._seed)
        self.subscribers[name] = subscriber
        return subscriber

    def _issue(self, subscription: Subscription) -> str:
        name = secrets.token_urlsafe(24)
        endpoint = f"{self.origin}{PUSH_PATH.decode()}{name}"
        self.subscribers[name] = Subscriber(name, endpoint, subscription.key, browser=subscription)
        return endpoint

    def _revoke(self, subscription: Subscription) -> None:
        for subscriber in self.subscribers.values():
            if subscriber.browser is subscription:
                subscriber.gone = True

    # -- pushes

    def take(self, name: str, fields: list[tuple[bytes, bytes]], body: bytes, protocol: str) -> None:
        """Delivers what passed every check."""
        subscriber = self.subscribers[name]
        subscriber.pushes += 1
        self.accepted[name] += 1
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in fields}
        text: bytes | None = b""
        if subscriber.browser is not None:
            text = None
            self.spawn(self._hand_on(subscriber.browser, body), "deliver")
        elif body and subscriber.private is not None:
            try:
                text = aes128gcm.decrypt(body, subscriber.private, subscriber.auth)
            except ValueError as error:
                self.record.violate(0, "undecryptable", str(error), int(self.clock.now() * 1000))
        self.pushes.append(Push(name, text, headers, protocol))

    def _hand_on(self, browser: Subscription, body: bytes) -> Coroutine[Any, Any, str]:
        return self.browsers.deliver(browser, body, "aes128gcm")

    async def _serve_http1(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read(BODY_READ_MAX)
        name = request.path.removeprefix(PUSH_PATH.decode())
        fields = [(key.lower(), value) for key, value in request.raw_headers]
        action = self.faults.strike(name.encode(), b"", Environment.PRODUCTION)
        if isinstance(action, Answer):
            said = Request(1, fields)
            head, *rest = answers.scripted(said, action, sandbox=False, now_ms=int(self.clock.now() * 1000))
            assert isinstance(head, Headers)
            page = b"".join(part.data for part in rest if isinstance(part, Data))
            self.statuses[answers.status_of(action)] += 1
            extra = {key.decode(): value.decode() for key, value in head.fields[1:]}
            return web.Response(status=answers.status_of(action), body=page, headers=extra)
        if isinstance(action, Silence):
            await asyncio.sleep(3600)
        if isinstance(action, Close):
            assert request.transport is not None
            request.transport.abort()
        refusal = self.inspector.check(self.http1_origin, request.method.encode(), name, fields, body)
        self.statuses[201 if refusal is None else refusal.status] += 1
        if refusal is not None:
            return web.Response(status=refusal.status, body=refusal.body)
        self.take(name, fields, body, "http/1.1")
        return web.Response(status=201, headers={"location": f"{self.http1_origin}/m/{secrets.token_hex(8)}"})


class _PushConnection(Connection):
    """An application server's connection over HTTP/2."""

    def __init__(self, service: PushService, world: World, open_connections: set[Connection]) -> None:
        super().__init__(world, Environment.PRODUCTION, open_connections)
        self.service = service

    def begin(self, request: Request) -> None:
        """Looks whether a fault strikes."""
        request.action = self.world.faults.strike(request.token, b"", self.environment)
        if isinstance(request.action, (Answer, Reset)) and request.action.early:
            self._settle(request)

    def read(self, request: Request) -> None:
        """Settles a request whose body is complete, or hopeless."""
        if not request.settled and (request.ended or request.size > BODY_READ_MAX):
            self._settle(request)

    def _watch_header_table(self) -> None:
        """Nothing: push services do not ask what stays out of the table."""

    def _settle(self, request: Request) -> None:
        request.settled = True
        if request.stream_id > self.last_stream:
            self.world.record.unprocessed["above_goaway"] += 1
        elif request.action is None:
            self._answer(request)
        else:
            self._strike(request, request.action)

    def _answer(self, request: Request, delay_ms: float = 0.0) -> None:
        service, fields = self.service, list(request.fields)
        method = dict(fields).get(b":method", b"")
        name = request.token.decode("latin-1")
        refusal = service.inspector.check(service.origin, method, name, fields, request.body)
        service.statuses[201 if refusal is None else refusal.status] += 1
        if refusal is None:
            service.take(name, fields, request.body, "h2")
            parts = self._created(dict(fields))
        else:
            parts = _refused(refusal)
        self.say(request, parts, delay_ms + self.world.behaviour.latency_ms)

    def _created(self, values: dict[bytes, bytes]) -> deque[Part]:
        location = f"{self.service.origin}/m/{secrets.token_hex(8)}".encode()
        fields = [(b":status", b"201"), (b"location", location), (b"ttl", b"%d" % ttl_of(values))]
        return deque((Headers(fields, end=True),))

    def _strike(self, request: Request, action: Action) -> None:
        match action:
            case Answer():
                self.service.statuses[answers.status_of(action)] += 1
                parts = answers.scripted(request, action, sandbox=False, now_ms=self.world.now_ms())
                self.say(request, parts, self.world.behaviour.latency_ms + action.latency_ms)
            case Slow():
                self._answer(request, action.latency_ms + self.world.dice.uniform(0, action.jitter_ms))
            case Silence():
                pass
            case Reset():
                self._reset(request, action)
            case Block():
                self.wire.block(request.stream_id, bytes.fromhex(action.hex))
                del self.requests[request.stream_id]
            case _:
                self._strike_connection(request, action)

    def _strike_connection(self, request: Request, action: ConnectionAction) -> None:
        scripts.play(self, action, request.stream_id)
        silent = isinstance(action, Close) or (isinstance(action, Goaway) and request.stream_id > self.last_stream)
        if not silent:
            self._answer(request)

    def _reset(self, request: Request, action: Reset) -> None:
        if action.code == ErrorCodes.REFUSED_STREAM:
            self.world.record.unprocessed["refused"] += 1
        self.wire.reset(request.stream_id, action.code)
        del self.requests[request.stream_id]


def _refused(refusal: Refusal) -> deque[Part]:
    fields = [(b":status", b"%d" % refusal.status), (b"content-type", b"application/json")]
    return deque((Headers(fields), Data(refusal.body, end=True)))


__all__ = ["BODY_MAX", "Push", "PushService", "Subscriber"]
