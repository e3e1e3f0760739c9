"""Trusted proxies: whose word about the client's address and scheme is believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pushd.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Client(NamedTuple):
    """Where a request really comes from."""

    address: str
    secure: bool
    """The client spoke TLS, to us or to a trusted proxy."""


class Proxies:
    """The networks of trusted proxies."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        try:
            self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        except ValueError as error:
            raise ConfigError(f"http.trusted_proxies: {error}") from None

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusted(self, address: str) -> bool:
        """Whether this address is one of the proxies."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, secure: bool, headers: Mapping[str, str]) -> Client:
        """The client behind a peer: the right-most address of X-Forwarded-For that is not itself a trusted proxy.

        What stands left of it was written by the client and is worth nothing. `headers` are case-insensitive; of
        repeated X-Forwarded-For headers the values are joined, as RFC 9110 section 5.3 allows.
        """
        if not self._networks or not self.trusted(peer):
            return Client(peer, secure)
        address = peer
        for hop in reversed(_all(headers, "X-Forwarded-For")):
            parsed = _parse(hop)
            if parsed is None:
                break
            address = str(parsed)
            if not self.trusted(address):
                break
        scheme = _all(headers, "X-Forwarded-Proto")
        return Client(address, scheme[-1].lower() == "https" if scheme else secure)


def network_of(address: str) -> str:
    """What counts as one address: an IPv6 customer has a /64."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    values: list[str] = getall(name, []) if getall is not None else [headers[name]] if name in headers else []
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _parse(text: str) -> Address | None:
    """The address in a hop, which may carry a port or brackets; IPv4 in IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
