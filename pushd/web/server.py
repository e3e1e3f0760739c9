"""The HTTP server: plain and TLS listeners over one router, and the canonical line of every request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain
from time import monotonic
from typing import Any

import structlog
from aiohttp import web

from pushd.config.http import HttpConfig
from pushd.errors import HeadersTooLargeError, PushdError
from pushd.service import Service
from pushd.telemetry import log_request
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.connection import Connection, Shared
from pushd.web.incoming import Incoming
from pushd.web.proxies import Proxies
from pushd.web.router import Router
from pushd.web.surface import Native, Surface, Surfaces
from pushd.web.tls import Certificates

log = structlog.get_logger("pushd.web")

BACKLOG = 1024
"""Connections that the kernel holds until we accept them."""
HEADERS_MAX = 100
GONE = 499
"""Status in the log of a request whose client left before its answer."""
FAILED: tuple[int, str | None] = 500, "internal"
"""Status and code in the log of one that failed; a line of its own says how."""


class HttpServer(Service):
    """Serves a router, and the surfaces beside it, on the listeners of the configuration.

    Bound sockets may be given instead of addresses (socket activation, tests); they are closed by `stop`.
    """

    def __init__(
        self,
        config: HttpConfig,
        router: Router,
        *,
        surfaces: Sequence[Surface] = (),
        plain_socket: socket.socket | None = None,
        tls_socket: socket.socket | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._surfaces = Surfaces(Native(router), surfaces)
        self._plain_socket = plain_socket
        self._tls_socket = tls_socket
        self._shared = Shared(config, Proxies(config.trusted_proxies), self._surfaces.is_brief)
        self._manager: _Manager | None = None
        self._listeners: list[asyncio.Server] = []
        self._certificates: Certificates | None = None
        self.port = 0
        """Of the plain listener, once started; 0: none."""
        self.tls_port = 0
        """Of the TLS listener, once started; 0: none."""

    async def start(self) -> None:
        """Listens; ConfigError when a certificate cannot be used, OSError when an address is taken."""
        config = self._config
        self._manager = _Manager(self._answer, self._shared)
        if config.tls_port or self._tls_socket is not None:
            self._certificates = Certificates(config.tls)
        if config.port or self._plain_socket is not None:
            self.port = await self._listen(config.host, config.port, self._plain_socket)
        if self._certificates is not None:
            self.tls_port = await self._listen(config.tls_host, config.tls_port, self._tls_socket, self._certificates)
        log.info("listening", host=config.host, port=self.port, tls_host=config.tls_host, tls_port=self.tls_port)

    async def stop(self) -> None:
        """Stops accepting, closes idle connections, and finishes requests within the deadline."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._manager is not None:
            self._manager.pre_shutdown()
            await self._manager.shutdown(self._config.stop_timeout_s)
        await super().stop()

    def reload(self) -> None:
        """Reads the certificates again (SIGHUP); ConfigError, and no change, when one cannot be used."""
        if self._certificates is not None:
            self._certificates.reload()

    async def _listen(
        self, host: str, port: int, bound: socket.socket | None, certificates: Certificates | None = None
    ) -> int:
        assert self._manager is not None
        options: dict[str, Any] = {"backlog": BACKLOG}
        if certificates is not None:
            options |= {
                "ssl": certificates.context,
                "ssl_handshake_timeout": self._config.tls_handshake_timeout_s,
                "ssl_shutdown_timeout": self._config.linger_s,
            }
        options |= {"sock": bound} if bound is not None else {"host": host, "port": port}
        listener = await asyncio.get_running_loop().create_server(self._manager, **options)
        self._listeners.append(listener)
        taken: int = listener.sockets[0].getsockname()[1]
        return taken

    async def _answer(self, incoming: Incoming) -> Answer | web.StreamResponse:
        started = monotonic()
        status, code = FAILED
        surface: Surface | None = None
        try:
            head = incoming.head
            if head is not None and head.way is not None:
                surface, route = head.way
                incoming.surface = surface
            else:
                if sum(map(len, chain.from_iterable(incoming.raw_headers))) > self._config.header_bytes_max:
                    raise HeadersTooLargeError  # the check belongs with what renders it
                incoming.surface = surface = self._surfaces.find(incoming)
                route = surface.router.find(incoming.method, incoming.raw_path)
                if head is not None:
                    head.way = surface, route
            incoming.route, incoming.path_values = route.template, route.values
            response = await route.endpoint(incoming)
            status, code = response.status, None
        except (asyncio.CancelledError, ConnectionError):
            status, code = GONE, None
            raise
        except PushdError as error:
            response = problem.render(error, incoming.id) if surface is None else surface.problem(error, incoming)
            status, code = response.status, error.code
            if status >= 500:
                log.warning("request_error", id=incoming.id, code=code, detail=error.detail)
        finally:
            log_request(
                {
                    "id": incoming.id,
                    "method": incoming.method,
                    "route": incoming.route,
                    "status": status,
                    "code": code,
                    "ms": round((monotonic() - started) * 1000, 2),
                    "address": incoming.client.address,
                    "key": incoming.caller,
                }
            )
        return response


class _Manager(web.Server):
    """aiohttp's server, with our connections and requests."""

    def __init__(self, handler: Any, shared: Shared) -> None:
        config = shared.config
        super().__init__(
            handler,
            request_factory=self._incoming,
            keepalive_timeout=config.keepalive_timeout_s,
            max_line_size=config.header_bytes_max,
            max_field_size=config.header_bytes_max,
            max_headers=HEADERS_MAX,
            lingering_time=config.linger_s,
            access_log=None,
            logger=_Quiet(),
        )
        self._shared = shared

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._shared, loop=self._loop, **self._kwargs)

    def _incoming(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return Incoming(message, payload, protocol, writer, task, self._loop)


class _Quiet:
    """What aiohttp logs its own view of failures to: `Connection.handle_error` has logged them in our words."""

    def debug(self, *_: Any, **__: Any) -> None:
        """Nothing: it concerns clients that went away."""

    warning = debug

    def exception(self, message: str, *_: Any, exc_info: BaseException | None = None, **__: Any) -> None:
        """A failure of the connection's own loop."""
        log.error("connection_failed", message=message, exc_info=exc_info)

    error = exception
