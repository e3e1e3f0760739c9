"""Addresses of a host, asked anew for every connection and spread over what the answer holds."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Address(NamedTuple):
    """Where to connect: an IP address as text, and its family."""

    family: socket.AddressFamily
    host: str
    port: int


class Resolver(Protocol):
    """Who turns a host name into addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """At least one address in the order to try them; OSError when there is none, TimeoutError when late."""


class SystemResolver:
    """The operating system's resolver, which asks anew each time (A-03)."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """The addresses in random order, so that connections spread over them; families stay mixed."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        addresses = list({Address(family, str(where[0]), port) for family, _, _, _, where in answers})
        if not addresses:
            raise OSError(f"{host} has no address")
        random.shuffle(addresses)
        return addresses
