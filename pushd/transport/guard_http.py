"""An HTTP/1.1 client behind the guard, for tenant-given addresses whose servers know no HTTP/2, and for webhooks.

No redirects, no proxies of the environment, no cookies, no cache of addresses; what was resolved is checked, and each
socket is checked again before it connects (W-45).
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pushd.service import Service
from pushd.transport.guard import Guard
from pushd.transport.resolve import Resolver
from pushd.transport.tls import client_context

AddrInfo = tuple[Any, ...]


def session(
    guard: Guard, resolver: Resolver, context: ssl.SSLContext, *, connections: int, connect_s: float, total_s: float
) -> aiohttp.ClientSession:
    """A session for one origin with at most so many connections and these deadlines; requests go out by `post`."""

    def make_socket(info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        guard.check_peer(where)  # also of a literal, which passes by the resolver
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=_Resolver(guard, resolver),
        socket_factory=make_socket,
        use_dns_cache=False,
        ssl=context,
        limit=connections,
        limit_per_host=connections,
        keepalive_timeout=30.0,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=total_s, connect=connect_s),
        max_line_size=8190,
        max_field_size=8190,
    )


class GuardedClient(Service):
    """A client for addresses that tenants named, whose session is there from start to stop."""

    def __init__(
        self, guard: Guard, resolver: Resolver, *, ca_file: str, connections: int, connect_s: float, total_s: float
    ) -> None:
        super().__init__()
        self.guard = guard
        self._resolver = resolver
        self._ca_file = ca_file
        self._bounds: dict[str, Any] = {"connections": connections, "connect_s": connect_s, "total_s": total_s}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Makes ready to connect."""
        context = client_context(self._ca_file)
        context.set_alpn_protocols(["http/1.1"])
        self._session = session(self.guard, self._resolver, context, **self._bounds)

    async def stop(self) -> None:
        """Closes every connection."""
        await super().stop()
        open_session, self._session = self._session, None
        if open_session is not None:
            await open_session.close()


class _Resolver(AbstractResolver):
    """aiohttp's way of asking for addresses."""

    def __init__(self, guard: Guard, inner: Resolver) -> None:
        self._resolver = guard.resolver(inner)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses of a host; OSError where there is none that may be connected to."""
        return [
            ResolveResult(
                hostname=host,
                host=address.host,
                port=port,
                family=address.family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._resolver.resolve(host, port)
            if family in (socket.AF_UNSPEC, address.family)
        ]

    async def close(self) -> None:
        """Nothing is held."""
