"""One client connection: aiohttp's protocol with the limits and the error shape that it lacks."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pushd.config.http import HttpConfig
from pushd.errors import HeadersTooLargeError, InternalError, InvalidRequestError, PushdError, UnavailableError
from pushd.web import problem
from pushd.web.incoming import Incoming
from pushd.web.proxies import Client, Proxies

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Shared:
    """What the connections of a server have in common."""

    config: HttpConfig
    proxies: Proxies
    open: Counter[str] = field(default_factory=Counter)
    """Connections by address; the trusted proxies' are not counted, for they stand for many clients."""


class Connection(web.RequestHandler):
    """Adds limits to aiohttp's handler, and our error shape.

    The limits: connections per address, bytes and time of headers, time to take an answer. The errors: what goes wrong
    outside of endpoints, which is bad HTTP and bugs.
    """

    __slots__ = ("_address", "_counted", "_head_bytes", "_head_timer", "_secure", "_shared")

    def __init__(self, manager: web.Server, shared: Shared, **options: Any) -> None:
        super().__init__(manager, **options)
        self._shared = shared
        self._address = ""
        self._secure = False
        self._counted = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def client(self, headers: Mapping[str, str]) -> Client:
        """Who sent a request with these headers over this connection."""
        return self._shared.proxies.client(self._address, self._secure, headers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or drops it when its address has too many."""
        shared, config = self._shared, self._shared.config
        self._address = (transport.get_extra_info("peername") or ("",))[0]
        self._secure = transport.get_extra_info("sslcontext") is not None
        if not shared.proxies.trusted(self._address):
            if shared.open[self._address] >= config.connections_per_address_max:
                self._force_close = True
                cast("asyncio.Transport", transport).abort()
                return
            shared.open[self._address] += 1
            self._counted = True
        _limit_unacknowledged(transport, config.write_timeout_s)
        self._await_head()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the address its place back."""
        if self._counted:
            self._counted = False
            self._shared.open[self._address] -= 1
            if not self._shared.open[self._address]:
                del self._shared.open[self._address]
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes bytes to the parser, and keeps count while they do not make up a whole head."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._head_arrived()
        elif (self._waiter is not None or not before) and not self._force_close:
            # It waits for a head. Between a head and the first step of its handler a body may come, too.
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
            if self._head_bytes > self._shared.config.header_bytes_max:
                self._refuse(HeadersTooLargeError())

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
        answer = problem.render(error, reference)
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
            body = problem.encode(error, "")
            head = f"HTTP/1.1 {error.status} {error.title}\r\nContent-Type: {problem.CONTENT_TYPE}\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.force_close()


def _limit_unacknowledged(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Lets the kernel cut off a peer that takes nothing (tcp(7), TCP_USER_TIMEOUT: zero windows count too)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6} and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
