"""One client connection: aiohttp's protocol with the limits and the error shape that it lacks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from pushd.config.http import HttpConfig
from pushd.errors import (
    HeadersTooLargeError,
    InternalError,
    InvalidRequestError,
    PushdError,
    TooManyRequestsError,
    UnavailableError,
)
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.brief import BriefIncoming, Heads
from pushd.web.incoming import Incoming
from pushd.web.proxies import Client, Proxies, network_of

log = structlog.get_logger(__name__)

TURNED_AWAY_MAX = 256
"""Connections above the limit that are told why they cannot stay; more are dropped."""


@dataclass(slots=True)
class Shared:
    """What the connections of a server have in common."""

    config: HttpConfig
    proxies: Proxies
    is_brief: Callable[[str, str], bool]
    """Whether a method and a raw path lead to an endpoint that takes whole bodies and answers in one piece."""
    open: Counter[str] = field(default_factory=Counter)
    """Connections by network; the trusted proxies' are not counted, for they stand for many clients."""
    connections: int = 0
    """Of all, the proxies' too."""
    heads: Heads = field(default_factory=Heads)


class Connection(web.RequestHandler):
    """Adds limits to aiohttp's handler, and our error shape.

    The limits: connections per address, bytes and time of headers, time to take an answer. The errors: what goes wrong
    outside of endpoints, which is bad HTTP and bugs.
    """

    __slots__ = (
        "_address",
        "_brief",
        "_counted",
        "_head_bytes",
        "_head_timer",
        "_held",
        "_network",
        "_secure",
        "_shared",
    )

    def __init__(self, manager: web.Server, shared: Shared, **options: Any) -> None:
        super().__init__(manager, **options)
        self._shared = shared
        self._address = self._network = ""
        self._secure = False
        self._counted = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._brief: asyncio.Task[Any] | None = None
        self._held = b""

    def client(self, headers: Mapping[str, str]) -> Client:
        """Who sent a request with these headers over this connection."""
        return self._shared.proxies.client(self._address, self._secure, headers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or drops it when its address has too many."""
        shared, config = self._shared, self._shared.config
        self._address = (transport.get_extra_info("peername") or ("",))[0]
        self._secure = transport.get_extra_info("sslcontext") is not None
        shared.connections += 1
        if not shared.proxies.trusted(self._address):
            self._network = network_of(self._address)
            if shared.open[self._network] >= config.connections_per_address_max:
                error = TooManyRequestsError("Too many connections from this address", retry_after_s=config.linger_s)
                self._turn_away(transport, error)
                return
            shared.open[self._network] += 1
            self._counted = True
        if shared.connections > config.connections_max:
            self._turn_away(transport, UnavailableError("Too many connections", retry_after_s=config.linger_s))
            return
        _limit_unacknowledged(transport, config.write_timeout_s)
        self._await_head()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the address its place back."""
        self._shared.connections -= 1
        if self._counted:
            self._counted = False
            self._shared.open[self._network] -= 1
            if not self._shared.open[self._network]:
                del self._shared.open[self._network]
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes, once what came before them is answered or handed over."""
        if self._brief is not None or self._held:
            self._hold(data)
        elif self._waiter is None and not (self._request_in_progress or self._messages):
            # aiohttp waits for them again a turn of the event loop after its answer left: a quick client
            # would come too early each time, and none of its requests would be brief.
            self._hold(data)
            self._loop.call_soon(self._let_go)
        else:
            self._take(data)

    def _let_go(self) -> None:
        """Takes what was held."""
        held, self._held = self._held, b""
        if held and self.transport is not None:
            self.transport.resume_reading()
            self._take(held)

    def _take(self, data: bytes) -> None:
        """Passes bytes to the parser, and keeps count while they do not make up a whole head."""
        idle = self._waiter is not None and not self._waiter.done() and not self._head_bytes
        if idle and not (self._paused or self._close or self._force_close):
            found = self._shared.heads.find(data)
            if found is not None:
                self._begin_brief(BriefIncoming(*found, self))
                return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            if idle and self._request_count == before + 1:
                self._note_head(data)
            self._head_arrived()
        elif (not before or (self._waiter is not None and not self._waiter.done())) and not self._force_close:
            # It waits for a head. Between one and the first step of its handler, who was told, its body may come.
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
            if self._head_bytes > self._shared.config.header_bytes_max:
                self._refuse(HeadersTooLargeError())

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Finishes what is being answered within the time, and closes."""
        await super().shutdown(timeout)
        if self._brief is not None:
            self._brief.cancel()

    # Brief requests -----------------------------------------------------------------------------------------------

    def _note_head(self, data: bytes) -> None:
        message = self._messages[-1][0] if self._messages else None
        if isinstance(message, RawRequestMessage) and self._shared.is_brief(
            message.method, message.path.partition("?")[0]
        ):
            self._shared.heads.note(data, message)

    def _begin_brief(self, incoming: BriefIncoming) -> None:
        """Has the endpoint answer; what comes meanwhile waits, so that answers keep the order of requests."""
        assert self._manager is not None
        self._head_arrived()
        self._request_count += 1
        self._manager.requests_count += 1
        self._request_in_progress = True
        self._brief = self._loop.create_task(self._answer_brief(incoming))
        self._brief.add_done_callback(partial(self._fail_brief, incoming))

    async def _answer_brief(self, incoming: BriefIncoming) -> None:
        """Has the endpoint answer, and writes that in the same turn."""
        assert self._request_handler is not None
        # aiohttp types its handlers by what it makes of requests itself.
        self._end_brief(incoming, cast("Answer", await self._request_handler(incoming)))

    def _fail_brief(self, incoming: BriefIncoming, task: asyncio.Task[None]) -> None:
        """Answers for an endpoint that did not."""
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        answer = None
        if isinstance(error, Exception):
            with contextlib.suppress(ConnectionResetError):  # nobody is there to take it
                status = 504 if isinstance(error, TimeoutError) else 500
                answer = cast("Answer", self.handle_error(incoming, status, error))
        self._end_brief(incoming, answer)

    def _end_brief(self, incoming: BriefIncoming, answer: Answer | None) -> None:
        self._brief = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if answer is not None:
            self.transport.write(answer.whole(incoming))
        keep = answer is not None and answer.keep_alive
        if not keep or self._close or self._force_close:
            self.force_close()
            return
        self._keep_on()
        self._let_go()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if self.transport is not None:
            self.transport.pause_reading()

    def _keep_on(self) -> None:
        """Starts to wait for the next request, as after any."""
        self._keepalive = True
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _process_keepalive(self) -> None:
        if self._brief is not None:  # to aiohttp the connection looks idle
            self._keepalive_handle = None
            self._keep_on()
            return
        super()._process_keepalive()

    # Errors -------------------------------------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's signature
    ) -> web.StreamResponse:
        """The answer to what no endpoint has caught; the connection closes after it."""
        gone = request.transport is None or request.transport.is_closing()
        if request.writer.output_size > 0 or (gone and isinstance(exc, ConnectionError)):
            if not gone:
                log.error("request_broken", error=repr(exc), exc_info=exc)
            raise ConnectionResetError("the answer has begun, or nobody is there to take it")
        reference = cast("Incoming", request).id
        error: PushdError
        if status == 400:
            error = HeadersTooLargeError() if isinstance(exc, LineTooLong) else InvalidRequestError("This is not HTTP")
        elif status == 504:
            error = UnavailableError("Something that this needs did not answer in time")
        else:
            error = InternalError()
            log.error("request_failed", reference=reference, exc_info=exc)
        surface = cast("Incoming", request).surface
        answer = (
            problem.render(error, reference) if surface is None else surface.problem(error, cast("Incoming", request))
        )
        answer.force_close()
        return cast("web.StreamResponse", answer)

    def _await_head(self) -> None:
        timeout_s = self._shared.config.header_timeout_s
        self._head_timer = self._loop.call_later(timeout_s, self.force_close)

    def _head_arrived(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: PushdError) -> None:
        """Answers without a request, and closes."""
        if self.transport is not None:
            self.transport.write(_bare(error))
        self.force_close()

    def _turn_away(self, transport: asyncio.BaseTransport, error: PushdError) -> None:
        """Tells a client why it cannot stay, and closes once it has had the time to read that."""
        self._force_close = True
        stream = cast("asyncio.Transport", transport)
        if self._shared.connections > self._shared.config.connections_max + TURNED_AWAY_MAX:
            stream.abort()
            return
        stream.write(_bare(error))
        # Closed at once with a request unread, TCP would reset the connection and the answer with it.
        self._head_timer = self._loop.call_later(self._shared.config.linger_s, stream.abort)


def _bare(error: PushdError) -> bytes:
    """The answer to no request; the connection closes after it."""
    body = problem.encode(error, "")
    lines = [f"HTTP/1.1 {error.status} {error.title}", f"Content-Type: {problem.CONTENT_TYPE}"]
    lines += [f"{name}: {value}" for name, value in problem.headers(error).items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _limit_unacknowledged(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Lets the kernel cut off a peer that takes nothing (tcp(7), TCP_USER_TIMEOUT: zero windows count too)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6} and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
