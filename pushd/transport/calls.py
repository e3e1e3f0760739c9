"""Calls: single requests over HTTP/2 to a control interface of a vendor, with whole answers, one after the other.

Theory of operation. A `Caller` keeps one connection to one host and asks one thing at a time; who waits for a turn
waits within the deadline of the call. A connection that is idle for long is closed. What was surely not processed
(GOAWAY below the stream, REFUSED_STREAM, a connection that had been closed) is asked once more on a new connection, and
so is what may be asked twice; anything else ends as `CallError`. The protocol is `h2`'s: what the fan-out needs of
speed is not needed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, cast

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from hpack import NeverIndexedHeaderTuple

from pushd.service import Contained
from pushd.transport.dial import Dialer, DialError
from pushd.transport.tls import refuses_certificate

Header = tuple[str, str]

REPEATABLE = frozenset({"GET", "DELETE"})
"""Methods that may be asked twice (RFC 9110 section 9.2.2)."""
FRAME_BYTES = 16_384
"""Of payload, either way: what RFC 9113 section 4.2 lets a peer send that was not told otherwise."""
FRAME_HEAD_BYTES = 9
GOAWAY = 0x07
LAST_STREAM_MAX = 2**31 - 1


class Call(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Sequence[Header] = ()
    body: bytes = b""


class Reply(NamedTuple):
    """The answer to a request, whatever its status."""

    status: int
    headers: dict[str, str]
    body: bytes


class CallError(Exception):
    """No answer came; `kind` says why, in words for an operator.

    Those of `DialError`, or: timeout, lost, reset, malformed, too_large, stopped.
    """

    def __init__(self, kind: str, *, unprocessed: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.unprocessed = unprocessed
        """Whether the peer surely did nothing."""


class Caller:
    """Asks one host. `timeout_s` covers a call whole: turn, connection, request and answer."""

    def __init__(self, dialer: Dialer, *, timeout_s: float, idle_close_s: float, answer_bytes_max: int) -> None:
        port = "" if dialer.port == 443 else f":{dialer.port}"
        self._authority = f"{dialer.host}{port}"
        self._dialer = dialer
        self._timeout_s = timeout_s
        self._idle_close_s = idle_close_s
        self._answer_bytes_max = answer_bytes_max
        self._turn = asyncio.Lock()
        self._line: Line | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._stopped = False

    async def ask(self, call: Call) -> Reply:
        """The answer to a call; CallError when there is none in time."""
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                return await self._ask(call)
        except TimeoutError:
            self._drop()
            raise CallError("timeout") from None

    def stop(self) -> None:
        """Closes the connection; what is under way ends."""
        self._stopped = True
        self._drop()

    async def _ask(self, call: Call) -> Reply:
        try:
            return await self._once(call)
        except CallError as error:
            self._drop()
            if not (error.unprocessed or (error.kind == "lost" and call.method in REPEATABLE)):
                raise
        return await self._once(call)

    async def _once(self, call: Call) -> Reply:
        if self._stopped:
            raise CallError("stopped", unprocessed=True)
        line = self._line
        if line is None or not line.usable:
            self._drop()
            line = self._line = await self._dial()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        reply = await line.ask(call, self._authority, self._answer_bytes_max)
        self._idle = asyncio.get_running_loop().call_later(self._idle_close_s, self._drop)
        return reply

    async def _dial(self) -> Line:
        line = Line()
        try:
            await self._dialer.dial(line)
        except DialError as error:
            raise CallError(error.kind) from None
        return line

    def _drop(self) -> None:
        line, self._line = self._line, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if line is not None:
            line.close()


class _Answer:
    """What has come of an answer so far."""

    def __init__(self, bytes_max: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.bytes_max = bytes_max

    def fail(self, error: CallError) -> None:
        """Ends it without an answer."""
        if not self.done.done():
            self.done.set_exception(error)


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: _Answer | None = None
        self._stream = 0
        self._unsent = b""
        self._contained = Contained("call", self._fail)
        self.usable = True
        """Whether another request may be made."""

    def open(self, transport: asyncio.Transport) -> None:
        """Begins to speak HTTP/2 on a transport whose TLS handshake is done."""
        self._transport = transport
        self._h2.initiate_connection()
        self._flush()
        self.data_received(b"")  # what came with the end of the handshake

    async def ask(self, call: Call, authority: str, bytes_max: int) -> Reply:
        """The answer to one call; CallError."""
        self._answer = answer = _Answer(bytes_max)
        fields = [
            (":method", call.method),
            (":scheme", "https"),
            # A-42; h2 sees to authorization itself.
            cast("Header", NeverIndexedHeaderTuple(":path", call.path)),
            (":authority", authority),
        ]
        try:
            if not self.usable:
                raise CallError("lost", unprocessed=True)
            self._stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(self._stream, [*fields, *call.headers], end_stream=not call.body)
            self._unsent = call.body
            self._send_body()
            self._flush()
            await answer.done
        except H2Error:
            self.usable = False
            raise CallError("malformed", unprocessed=True) from None
        finally:
            self._answer = None
            if not answer.done.done():
                answer.done.cancel()
        return Reply(answer.status, answer.headers, bytes(answer.body))

    def close(self) -> None:
        """Says goodbye."""
        self.usable = False
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._h2.close_connection()
            self._flush()
        except H2Error:
            pass  # it is over either way
        self._transport.close()

    # -- the socket

    def data_received(self, data: bytes) -> None:
        """Takes what the peer says."""
        with self._contained:
            self._received += data
            if self._transport is None:
                return
            try:
                self._read()
                self._send_body()
            except (H2Error, ValueError):
                self._end("malformed")
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends what is under way."""
        self.usable = False
        kind = "client_certificate" if refuses_certificate(exc) else "lost"
        if self._answer is not None:
            self._answer.fail(CallError(kind))

    # -- HTTP/2

    def _read(self) -> None:
        """Hands whole frames to h2, all but GOAWAY: behind that h2 would read nothing, and answers may follow."""
        received = self._received
        while len(received) >= FRAME_HEAD_BYTES:
            size = FRAME_HEAD_BYTES + int.from_bytes(received[:3], "big")
            if size > FRAME_HEAD_BYTES + FRAME_BYTES:
                raise ValueError("a frame is larger than we allow")
            if len(received) < size:
                return
            frame = bytes(received[:size])
            del received[:size]
            if frame[3] == GOAWAY:
                self._going_away(int.from_bytes(frame[9:13], "big") & LAST_STREAM_MAX)
                continue
            for event in self._h2.receive_data(frame):
                self._on(event)

    def _going_away(self, last_stream: int) -> None:
        self.usable = False
        # Streams above the last id are dropped: nothing was done for them (RFC 9113 section 6.8).
        if self._answer is not None and self._stream > last_stream:
            self._unsent = b""
            self._answer.fail(CallError("lost", unprocessed=True))

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        answer = self._answer
        if answer is None or getattr(event, "stream_id", None) != self._stream:
            return
        if isinstance(event, h2.events.ResponseReceived):
            headers = dict(cast("list[tuple[str, str]]", event.headers))
            answer.status = int(headers.pop(":status"))
            answer.headers = headers
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data or b""
            if len(answer.body) > answer.bytes_max:
                self._end("too_large")
        elif isinstance(event, h2.events.StreamReset):
            self._reset(answer, event.error_code or 0)
        elif isinstance(event, h2.events.StreamEnded) and not answer.done.done():
            self._unsent = b""
            answer.done.set_result(None)

    def _reset(self, answer: _Answer, code: int) -> None:
        self._unsent = b""
        answer.fail(CallError("reset", unprocessed=code == ErrorCodes.REFUSED_STREAM))

    def _send_body(self) -> None:
        """As much of the body as the peer's windows let through."""
        while self._unsent:
            room = min(self._h2.local_flow_control_window(self._stream), FRAME_BYTES, self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            part, self._unsent = self._unsent[:room], self._unsent[room:]
            self._h2.send_data(self._stream, part, end_stream=not self._unsent)

    def _fail(self, error: Exception) -> None:  # noqa: ARG002  it is logged
        self._end("lost")

    def _end(self, kind: str) -> None:
        self.usable = False
        self._unsent = b""
        if self._answer is not None:
            self._answer.fail(CallError(kind))
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
