"""Brief requests: a head that came before, byte for byte, and the whole body with it, on routes that answer at once.

Producers repeat themselves: over a kept connection every send has the same head, and a length that is one of a few.
What aiohttp's parser made of a head is remembered by its octets, so the parser still decides what is HTTP, and a
request that came in one piece goes to its endpoint without parser, stream or task chain of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.http import HttpVersion11

from pushd.errors import PayloadTooLargeError
from pushd.web.incoming import Incoming

if TYPE_CHECKING:
    from pushd.web.connection import Connection
    from pushd.web.router import Route
    from pushd.web.surface import Surface

HEADS_MAX = 1_024
"""Heads that are remembered; past it all are forgotten."""
HEAD_BYTES_MAX = 2_048
BODY_BYTES_MAX = 65_536
"""Longer ones never come in one piece."""
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_ONCE = ("Idempotency-Key", "Traceparent", "X-Request-Id")
"""Headers whose values are another for every request: a head with one never comes again, and takes others' place."""


class Head:
    """What the parser made of a head, and where requests with it go."""

    __slots__ = ("body_bytes", "message", "way")

    def __init__(self, message: Any, body_bytes: int) -> None:
        self.message = message
        self.body_bytes = body_bytes
        self.way: tuple[Surface, Route] | None = None
        """Once one was let in: both follow from path and Host, and the size of the head is the same."""


class Heads:
    """The heads that came before, of all connections."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of a whole request with a known head; None for anything else."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._known.get(data[:end])
        return (head, data[end:]) if head is not None and len(data) - end == head.body_bytes else None

    def note(self, data: bytes, message: Any) -> None:
        """Remembers what the parser made of the head that these bytes begin with, where nothing about it is special."""
        end = data.find(b"\r\n\r\n") + 4
        headers = message.headers
        length = headers.get("Content-Length", "0")
        plain = (
            4 <= end <= HEAD_BYTES_MAX
            and message.method in _METHODS
            and message.version == HttpVersion11
            and not (message.should_close or message.upgrade or message.chunked or message.compression)
            and "Expect" not in headers
            and not any(name in headers for name in _ONCE)
            and length.isascii()
            and length.isdigit()
            and int(length) <= BODY_BYTES_MAX
            and (message.method != "GET" or length == "0")
        )
        if plain:
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[data[:end]] = Head(message, int(length))


class BriefIncoming(Incoming):
    """A request that is all there."""

    def __init__(self, head: Head, body: bytes, connection: Connection) -> None:
        # Not aiohttp's: of what it sets up, endpoints that answer in one piece use this much.
        self.head = head
        self._message = message = head.message
        self._headers = message.headers
        self._method = message.method
        self._version = message.version
        self._protocol = connection
        self._payload_writer = _UNWRITTEN
        self._cache = {}
        self._whole = body

    async def body(self, *, types: frozenset[str], bytes_max: int, timeout_s: float) -> bytes:  # noqa: ARG002  # it came
        """The whole body; UnsupportedMediaTypeError, PayloadTooLargeError."""
        self._check_type(types)
        if len(self._whole) > bytes_max:
            raise PayloadTooLargeError(f"The body is longer than {bytes_max} bytes")
        return self._whole


class _Unwritten:
    """In the place of aiohttp's writer: nothing is written before the answer as a whole is."""

    output_size = 0


_UNWRITTEN: Any = _Unwritten()
