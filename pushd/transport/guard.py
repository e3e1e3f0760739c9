"""The guard: the only way to an address that a tenant named (W-40…W-48).

Three gates, and nothing is connected to that did not pass them all:

1. `parse`: a URL is https, a host name and a path; no user, fragment, literal address or anything that two parsers
   could read in two ways. Whoever checks and whoever connects use this one parser, and its result, not the text.
2. `Guard.allows`: the host is one that the operator named, label by label; or any host, where the operator said so.
3. `Guard.check`: the address is public. It is asked of everything that a name resolves to, before a connect, and again
   of the socket that was really connected, so that no answer of DNS can change in between.

Redirects are never followed: a connection carries one request target, and an answer is only classified.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pushd.config.webpush import WebPushConfig
from pushd.errors import ConfigError
from pushd.transport.resolve import Address, Resolver

URL_CHARS_MAX = 2048
HTTPS_PORT = 443
_URL = re.compile(r"https://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-\[\]-~]+")
"""ASCII without spaces, controls and the backslash, which some parsers take for a slash."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a host an IPv4 address in some notation (WHATWG URL, "ends in a number")."""

_CLOSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
"""RFC 6890 and IANA's special-purpose registry, with all of multicast and what is reserved."""

_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is global unicast; the mapped, translated, unique local, link-local and site-local forms lie outside."""
_CLOSED_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
"""Teredo, ORCHID and benchmarking, documentation, 6to4: all of them special, the first and the last wrap IPv4."""
_ISATAP = frozenset((0x00005EFE, 0x02005EFE))
"""Interface ids that wrap IPv4 (RFC 5214 section 6.1)."""


class ForbiddenError(OSError):
    """An address that nothing may be connected to; the text names neither host nor address (W-46)."""

    def __init__(self) -> None:
        super().__init__("not an address that may be connected to")


class Target(NamedTuple):
    """A URL, parsed once."""

    host: str
    """Lower case."""
    port: int
    path: str
    """With the query string, exactly as given (W-30)."""

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own."""
        return self.host if self.port == HTTPS_PORT else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin as RFC 6454 writes it."""
        return f"https://{self.authority}"

    @property
    def url(self) -> str:
        """The URL in its one form."""
        return self.origin + self.path


def parse(url: str) -> Target:
    """The parts of an https URL; ValueError says what is wrong with it and does not quote it (W-41, W-42)."""
    if len(url) > URL_CHARS_MAX:
        raise ValueError(f"has more than {URL_CHARS_MAX} characters")
    if not _PRINTABLE.fullmatch(url):
        raise ValueError("has characters that no URL has; a host that is not ASCII is written in its xn-- form")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("is not an https URL, or has a fragment")
    authority, path = match[1].lower(), match[2] or "/"
    if "@" in authority:
        raise ValueError("must not name a user")
    host, colon, port = authority.partition(":")
    if "[" in authority or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise ValueError("must name a host, not an address")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("does not name a host")
    if colon and not (port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise ValueError("does not name a port")
    return Target(host, int(port) if colon else HTTPS_PORT, path if path[0] == "/" else "/" + path)


class HostRules:
    """Host names and patterns: `push.example.org`, `*.push.example.org` for one label more, `:port` behind either."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[tuple[str, int]] = set()
        self._wild: set[tuple[str, int]] = set()
        for pattern in patterns:
            host, _, port = pattern.strip().lower().partition(":")
            if port and not port.isdigit():
                raise ValueError(f"{pattern!r} is not a host, or a host and a port")
            rest = host.removeprefix("*.")
            if not all(_LABEL.fullmatch(label) for label in rest.split(".")):
                raise ValueError(f"{pattern!r} is not a host name, or *. and a domain")
            place = (rest, int(port or HTTPS_PORT))
            (self._exact if rest == host else self._wild).add(place)

    def allows(self, host: str, port: int) -> bool:
        """Whether a host of this name and port is meant, label by label (W-41)."""
        return (host, port) in self._exact or (host.partition(".")[2], port) in self._wild


class _Allowed(Protocol):
    """What a section of the configuration says of where one may connect to."""

    @property
    def any_host(self) -> bool: ...

    @property
    def networks_allowed(self) -> Iterable[str]: ...


class Guard:
    """What may be connected to on a tenant's word. ValueError for a pattern or network that is none."""

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        any_host: bool = False,
        networks: Iterable[str] = (),
        hosts_of_apps: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self._hosts = HostRules(hosts)
        self._any_host = any_host
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._of_apps = {int(app_id): HostRules(patterns) for app_id, patterns in (hosts_of_apps or {}).items()}

    @classmethod
    def of(cls, config: WebPushConfig) -> Guard:
        """The guard of Web Push as the operator configured it; ConfigError for a host or network that is none."""
        return cls.configured("webpush", config, (*config.hosts, *config.hosts_added), config.hosts_of_apps)

    @classmethod
    def configured(
        cls,
        section: str,
        config: _Allowed,
        hosts: Iterable[str],
        hosts_of_apps: Mapping[str, Iterable[str]] | None = None,
    ) -> Guard:
        """The guard of a section of the configuration; ConfigError names it for a host or network that is none."""
        try:
            return cls(hosts, any_host=config.any_host, networks=config.networks_allowed, hosts_of_apps=hosts_of_apps)
        except ValueError as error:
            raise ConfigError(f"{section}: {error}") from error

    def names(self, target: Target) -> bool:
        """Whether the operator named this host, so that what it answers may be believed of more than itself."""
        return self._hosts.allows(target.host, target.port)

    def allows(self, target: Target, app_id: int | None = None) -> bool:
        """Whether this host may be tried; its addresses are looked at when they are known."""
        if self.names(target) or (self._any_host and target.port == HTTPS_PORT and "." in target.host):
            return True
        own = self._of_apps.get(app_id) if app_id is not None else None
        return own is not None and own.allows(target.host, target.port)

    def check(self, address: str) -> None:
        """Nothing, or ForbiddenError for an address that is neither public nor of a network that is allowed (W-44)."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            raise ForbiddenError from None
        if not is_public(ip) and not any(ip in network for network in self._networks):
            raise ForbiddenError

    def check_peer(self, peer: object) -> None:
        """The same of what a connected socket says of its other end."""
        if not isinstance(peer, tuple) or not peer:
            raise ForbiddenError
        self.check(str(peer[0]))

    def resolver(self, inner: Resolver) -> GuardedResolver:
        """A resolver that hands on what may be connected to."""
        return GuardedResolver(inner, self)


class GuardedResolver:
    """Resolves a name and refuses it if any of its addresses is not public (W-43)."""

    def __init__(self, inner: Resolver, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of a host; ForbiddenError, which is an OSError, when one of them is forbidden."""
        addresses = await self._inner.resolve(host, port)
        for address in addresses:
            self._guard.check(address.host)
        return addresses


def is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the public internet, in its own right and not wrapped in another (W-44)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _CLOSED_V4)
    wraps = int(ip) >> 32 & 0xFFFFFFFF in _ISATAP
    return ip in _OPEN_V6 and not wraps and ip.scope_id is None and not any(ip in network for network in _CLOSED_V6)
