"""Dialling: from a host name to a link on an open TLS connection that speaks HTTP/2."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pushd.config.transport import TransportConfig
from pushd.transport.guard import ForbiddenError, Guard
from pushd.transport.resolve import Address, Resolver
from pushd.transport.tls import ALPN_H2, refuses_certificate

if TYPE_CHECKING:
    from pushd.transport.calls import Line
    from pushd.transport.link import Link

CLIENT_CERTIFICATE = "client_certificate"


class DialError(Exception):
    """No connection came to be; `kind` says where it ended (G-10).

    dns, forbidden, tcp, certificate (the peer's), client_certificate (ours, which the peer refuses), tls or alpn.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Dialer:
    """How to reach one host."""

    host: str
    port: int
    context: ssl.SSLContext
    resolver: Resolver
    config: TransportConfig
    guard: Guard | None = None
    """For hosts that a tenant named: what addresses may be connected to."""

    async def dial(self, link: Link | Line) -> None:
        """Opens the link on the first address that answers as it should; DialError of the last one when none does."""
        try:
            addresses = await self.resolver.resolve(self.host, self.port)
        except ForbiddenError as error:
            raise DialError("forbidden", str(error)) from error
        except OSError as error:  # TimeoutError is one
            raise DialError("dns", f"{type(error).__name__} for {self.host}") from error
        deadline = asyncio.get_running_loop().time() + self.config.connect_timeout_s
        failure = DialError("dns", f"{self.host} has no address")
        for tried, address in enumerate(addresses):
            # A dead address must not use up the time of the others.
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(left_s / (len(addresses) - tried)):
                    transport = await self._connect(address, link)
            except (OSError, ssl.SSLError) as error:
                failure = _describe(error)
            except DialError as error:
                failure = error
            else:
                link.open(transport)
                return
        raise failure

    async def _connect(self, address: Address, link: Link | Line) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        if self.guard is not None:
            self.guard.check(address.host)
        plain, _ = await loop.create_connection(asyncio.Protocol, address.host, address.port, family=address.family)
        plain.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure: asyncio.Transport | None = None
        try:
            if self.guard is not None:
                self.guard.check_peer(plain.get_extra_info("peername"))
            secure = await loop.start_tls(
                plain,
                link,
                self.context,
                server_hostname=self.host,
                ssl_handshake_timeout=self.config.connect_timeout_s,
                ssl_shutdown_timeout=self.config.close_timeout_s,
            )
        except ConnectionError as error:
            raise DialError("tls", f"{type(error).__name__} during the handshake") from error
        finally:
            if secure is None:
                plain.abort()
        if secure is None or secure.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN_H2:
            plain.abort()
            raise DialError("alpn", "the peer does not speak h2")
        return secure


def _describe(error: OSError) -> DialError:
    if isinstance(error, ForbiddenError):
        return DialError("forbidden", str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialError("certificate", error.verify_message)
    if refuses_certificate(error):
        return DialError(CLIENT_CERTIFICATE, "the peer does not take our certificate")
    if isinstance(error, ssl.SSLError):
        return DialError("tls", error.reason or type(error).__name__)
    if isinstance(error, TimeoutError):
        return DialError("tcp", "no connection in time")
    return DialError("tcp", error.strerror or type(error).__name__)
