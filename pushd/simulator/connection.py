"""One connection of a client: the socket, its streams and timers; what requests mean is a subclass's business."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import h2.events as h2
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from pushd.model.device import Environment
from pushd.simulator import scripts
from pushd.simulator.faults import Window
from pushd.simulator.record import Link
from pushd.simulator.rules import Request
from pushd.simulator.wire import GOAWAY_PING, Part, Wire
from pushd.simulator.world import World

TICK_S = 0.004
"""Answers that are due within one tick leave in one write."""
TOO_MANY_STREAMS = b"Too many active streams"
"""Seen from Apple in this sense, with error code 7 (A-61)."""


class Connection(asyncio.Protocol, ABC):
    """The server side of one connection."""

    def __init__(self, world: World, environment: Environment, open_connections: set[Connection]) -> None:
        self.world = world
        self.environment = environment
        self.wire = Wire(world.behaviour)
        self.link: Link
        self.requests: dict[int, Request] = {}
        """Streams that are open."""
        self.last_stream = scripts.LAST_MAX
        """Requests above it are not answered (GOAWAY)."""
        self.stream_credit: Window | None = None
        self._open_connections = open_connections
        self._loop = asyncio.get_running_loop()
        self._highest = 0
        self._goaway_seen = False
        self._ending = False
        self._blamed: set[str] = set()
        self._due: dict[int, list[tuple[int, deque[Part]]]] = {}
        self._ticks: dict[int, asyncio.TimerHandle] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._acts: dict[type[h2.Event], Callable[[Any], None]] = {
            h2.RequestReceived: self._on_request,
            h2.DataReceived: self._on_data,
            h2.StreamEnded: self._on_end,
            h2.StreamReset: self._on_reset,
            h2.WindowUpdated: self._on_credit,
            h2.RemoteSettingsChanged: self._on_credit,
            h2.SettingsAcknowledged: self._on_settings_ack,
            h2.PingReceived: self._on_ping,
            h2.PingAckReceived: self._on_ping_ack,
            h2.PriorityUpdated: self._on_priority,
            h2.ConnectionTerminated: self._on_goaway,
        }

    def certified(self, certificate: bytes) -> None:
        """TLS has verified this certificate of the client, in DER."""

    @abstractmethod
    def begin(self, request: Request) -> None:
        """A request's header fields have come."""

    @abstractmethod
    def read(self, request: Request) -> None:
        """More of a request's body has come, or its end."""

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says what a server says first, or what a fault has it say."""
        transport = cast("asyncio.Transport", transport)
        self.link = self.world.record.connect(self.environment, self.world.now_ms())
        self._open_connections.add(self)
        self.link.peer = "{}:{}".format(*transport.get_extra_info("peername", ("", 0))[:2])
        transport.set_write_buffer_limits(self.world.behaviour.write_high_water_bytes)
        self.wire.open(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.link.tls = tls.version() or ""
            if tls.selected_alpn_protocol() != "h2":
                self.violate("alpn", "h2 was not negotiated")
                self.end("alpn", abort=True)
                return
            if certificate := tls.getpeercert(binary_form=True):
                self.certified(certificate)
        for action in self.world.faults.strike_connection(self.environment):
            scripts.play(self, action, 0)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Takes what arrived and answers it in one write."""
        if self._ending:
            return
        try:
            events = self.wire.h2.receive_data(data)
        except ProtocolError as error:
            self.violate(type(error).__name__, str(error))
            self.end("protocol_error")
            return
        self._act_on(events)

    def _act_on(self, events: list[h2.Event]) -> None:
        acts = self._acts
        for event in events:
            if self._ending:
                return
            act = acts.get(event.__class__)
            if act is not None:
                act(event)
        self._watch_header_table()
        if not self._ending:
            self.flush()

    def pause_writing(self) -> None:
        """Reads no more while the client does not read either."""
        if self.wire.transport is not None:
            self.wire.transport.pause_reading()

    def resume_writing(self) -> None:
        """Reads again."""
        if self.wire.transport is not None and not self.wire.transport.is_closing():
            self.wire.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closes the books on this connection."""
        for timer in (*self._timers, *self._ticks.values()):
            timer.cancel()
        self._timers.clear()
        self._ticks.clear()
        self._ending = True
        self._open_connections.discard(self)
        self.link.closed_ms = self.world.now_ms()
        self.link.ended = self.link.ended or ("lost" if exc is not None else "client_closed")
        cut_off = sum(not request.settled for request in self.requests.values())
        if cut_off:
            self.world.record.unprocessed["cut_off"] += cut_off
        self.requests.clear()
        self.link.open_streams = 0

    def flush(self) -> None:
        """Writes what is queued."""
        self.link.open_streams = len(self.requests)
        self.wire.flush()

    def end(self, why: str, *, abort: bool = False) -> None:
        """Closes the connection once what is queued was written, or at once."""
        self._ending = True
        self.link.ended = self.link.ended or why
        transport = self.wire.transport
        if transport is None or transport.is_closing():
            return
        if abort:
            transport.abort()
        else:
            self.flush()
            transport.close()

    def later(self, delay_ms: float, act: Callable[[], None]) -> None:
        """Calls `act` after so many milliseconds and flushes, unless the connection has ended."""

        def run() -> None:
            self._timers.discard(timer)
            act()
            if not self._ending:
                self.flush()

        timer = self._loop.call_later(delay_ms / 1000, run)
        self._timers.add(timer)

    # Answers

    def say(self, request: Request, parts: deque[Part], delay_ms: float) -> None:
        """Queues an answer, now or after so many milliseconds."""
        if delay_ms <= 0:
            if self.wire.say(request.stream_id, parts):
                self._said(request.stream_id)
            return
        tick = int((self._loop.time() + delay_ms / 1000) / TICK_S) + 1
        if tick not in self._due:
            self._due[tick] = []
            self._ticks[tick] = self._loop.call_at(tick * TICK_S, self._on_tick, tick)
        self._due[tick].append((request.stream_id, parts))

    def _on_tick(self, tick: int) -> None:
        self._ticks.pop(tick, None)
        for stream_id, parts in self._due.pop(tick):
            alive = stream_id in self.requests and stream_id <= self.last_stream and not self._ending
            if alive and self.wire.say(stream_id, parts):
                self._said(stream_id)
        if not self._ending:
            self.flush()

    def _said(self, stream_id: int) -> None:
        """An answer is whole: the stream is closed, by RST_STREAM(NO_ERROR) if the client still writes."""
        request = self.requests.pop(stream_id)
        if request.ended:
            self.wire.closed()
        else:
            self.wire.reset(stream_id, ErrorCodes.NO_ERROR)

    # What a client says

    def _on_request(self, event: h2.RequestReceived) -> None:
        stream_id = event.stream_id
        self.link.requests += 1
        streams = len(self.requests) + self.wire.closed_unflushed
        if streams >= self.wire.stream_limit:
            self._excess(stream_id)
            return
        self.link.open_streams_peak = max(self.link.open_streams_peak, streams + 1)
        self._highest = stream_id
        if self._goaway_seen:
            self.violate("stream_after_goaway", f"stream {stream_id}")
        request = self.world.rules.read(stream_id, event.headers)
        if request.terms.malformed:
            self.violate("malformed", request.terms.malformed)
            self.wire.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        self.requests[stream_id] = request
        if self.stream_credit is not None:
            credit = self.stream_credit.stream_credit
            self.later(self.stream_credit.stream_credit_after_ms, lambda: self._credit(stream_id, credit))
        self.begin(request)

    def _excess(self, stream_id: int) -> None:
        """A stream too many: refused while the client cannot know the limit, else the end of the connection."""
        if not self.wire.settled:
            self.violate("streams_before_settings", f"stream {stream_id} before the first SETTINGS was acknowledged")
            self.world.record.unprocessed["refused"] += 1
            self.wire.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self.violate("too_many_streams", f"stream {stream_id} while {self.wire.stream_limit} are allowed")
        self.wire.goaway(self._highest, ErrorCodes.REFUSED_STREAM, TOO_MANY_STREAMS)
        self.end("too_many_streams")

    def _on_data(self, event: h2.DataReceived) -> None:
        self.wire.consume(event.flow_controlled_length or 0)
        request = self.requests.get(event.stream_id)
        if request is not None:
            data = event.data or b""
            request.size += len(data)
            request.body = request.body + data if request.body else data
            self.read(request)

    def _on_end(self, event: h2.StreamEnded) -> None:
        request = self.requests.get(event.stream_id)
        if request is not None:
            request.ended = True
            self.read(request)

    def _on_reset(self, event: h2.StreamReset) -> None:
        self.link.resets += 1
        stream_id = event.stream_id
        self.wire.forget(stream_id)
        request = self.requests.pop(stream_id, None)
        if request is not None and not request.settled:
            self.world.record.unprocessed["cancelled"] += 1

    def _on_settings_ack(self, _event: h2.SettingsAcknowledged) -> None:
        self.wire.h2.ordered.judge()

    def _on_ping(self, _event: h2.PingReceived) -> None:
        self.link.pings += 1

    def _on_ping_ack(self, event: h2.PingAckReceived) -> None:
        self._goaway_seen |= event.ping_data == GOAWAY_PING

    def _on_goaway(self, _event: h2.ConnectionTerminated) -> None:
        self.link.ended = self.link.ended or "client_goaway"

    def _on_priority(self, _event: h2.PriorityUpdated) -> None:
        self.blame("priority", "PRIORITY is not to be sent (A-43)")

    def _on_credit(self, _event: h2.Event) -> None:
        for stream_id in self.wire.resume():
            self._said(stream_id)

    def _watch_header_table(self) -> None:
        """A-42: device paths and provider tokens do not belong into the dynamic table."""
        for name, _value in self.wire.new_table_entries():
            if name in (b":path", b"authorization"):
                self.blame("indexed_" + name.decode().removeprefix(":"), "added to the dynamic table (A-42)")

    def violate(self, kind: str, detail: str) -> None:
        """Notes something that a client must not do."""
        self.world.record.violate(self.link.id, kind, detail, self.world.now_ms())

    def blame(self, kind: str, detail: str) -> None:
        """Notes once what a connection may do again and again."""
        if kind not in self._blamed:
            self._blamed.add(kind)
            self.violate(kind, detail)

    # What scripts need

    def drop_above(self, last: int) -> None:
        """Answers no stream above `last`, now or later; a last id only goes down."""
        self.last_stream = min(self.last_stream, last)

    def highest_stream(self) -> int:
        """The highest stream id that was taken."""
        return self._highest

    def give_stream_credit(self, size: int) -> None:
        """Gives every stream whose body is incomplete so much credit."""
        for stream_id in list(self.requests):
            self._credit(stream_id, size)

    def _credit(self, stream_id: int, size: int) -> None:
        request = self.requests.get(stream_id)
        if request is not None and not request.ended and size:
            self.wire.credit(stream_id, size)
