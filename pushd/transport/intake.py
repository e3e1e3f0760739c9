"""What TLS decrypts for links: one buffer for all of them, copied out in one piece of just its size."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

READ_BYTES = 262_144
"""What uvloop takes from a socket at a time, and as much as it could decrypt of it."""

_incoming = memoryview(bytearray(READ_BYTES))
"""Of the process: TLS fills it and says so in one call of the event loop, before it does with the next link."""


class Intake(asyncio.BufferedProtocol, ABC):
    """A protocol whose reads end up in a buffer that is there already.

    For an ordinary `asyncio.Protocol` uvloop makes bytes of 256 kB for each TLS record, and then cuts them to its size:
    with a server that answers in one record each that is as often as there are pushes. What came to lie between them in
    the heap left holes there, some megabytes more in every quarter of an hour.
    """

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # it is large enough for all that may come
        """Where to put what is read."""
        return _incoming

    def buffer_updated(self, nbytes: int) -> None:
        """Hands on what was put there."""
        self.data_received(bytes(_incoming[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Takes what was read."""
