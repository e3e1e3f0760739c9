"""The HTTP/2 client connection: requests in, octets out; octets in, results out.

Theory of operation. A `Connection` composes the parts of this folder and touches no socket and no clock. Its owner
calls `initiate`, then at will `request_*`, `receive` and `data_to_send`. It opens streams in runs and never beyond
what `room` says: streams that count as open are rows without an answer, resets that the peer has not confirmed (A-67)
and answered streams whose body is still being sent. After GOAWAY, either way, `room` is 0 (*draining*). When the peer
breaks the protocol, `receive` queues a GOAWAY and raises; the connection is then *broken* and raises the same again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import HeaderListError, LocalProtocolError, NoRoomError, RemoteProtocolError
from protocols.http2 import frames, requests
from protocols.http2.bodies import Bodies
from protocols.http2.cancels import Cancels
from protocols.http2.control import Control
from protocols.http2.encoding import Compiled, Encoder
from protocols.http2.frames import ErrorCode
from protocols.http2.guard import Guard
from protocols.http2.outbox import Outbox
from protocols.http2.plans import HeaderPlan, check_values
from protocols.http2.reader import Reader
from protocols.http2.requests import Column, Columns, Templates
from protocols.http2.responses import Responses
from protocols.http2.results import ConnectionBrokenError, Received
from protocols.http2.runs import DONE, Registry, Run
from protocols.http2.settings import ConnectionSettings, PeerSettings
from protocols.http2.windows import ReceiveWindow, SendWindows


class Connection:
    """A client's end of one HTTP/2 connection (RFC 9113)."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._peer = PeerSettings()
        self._outbox = Outbox(settings.control_bytes_max)
        self._guard = Guard(settings)
        self._encoder = Encoder()
        self._templates = Templates()
        self._windows = SendWindows()
        self._registry = Registry(settings.first_stream_id)
        self._cancels = Cancels(self._registry, self._outbox)
        self._responses = Responses(settings, self._registry, self._windows, self._cancels, self._guard)
        self._control = Control(
            settings,
            self._peer,
            self._outbox,
            self._guard,
            self._encoder,
            self._registry,
            self._windows,
            self._cancels,
            self._responses,
        )
        self._reader = Reader(
            settings,
            self._registry,
            self._responses,
            self._control,
            self._guard,
            self._windows,
            ReceiveWindow(self._outbox),
        )
        self._closed = False
        self._broken: RemoteProtocolError | None = None

    # -- what the owner may know

    @property
    def stream_limit(self) -> int:
        """Streams that may be open at once: one before the peer's SETTINGS (X-04), then what it allows, within ours."""
        if not self._control.settings_seen:
            return 1
        limit = self._peer.max_concurrent_streams
        return min(self._settings.streams_default if limit is None else limit, self._settings.streams_max)

    @property
    def open_streams(self) -> int:
        """Streams that count against the limit, unconfirmed resets and unfinished bodies included."""
        return self._registry.open + self._cancels.slots + self._windows.lingering

    @property
    def window(self) -> int:
        """Octets of the connection's send window that no body has reserved."""
        return self._windows.window

    @property
    def draining(self) -> bool:
        """Whether no more streams can be opened: a GOAWAY came or went, or the connection is broken."""
        return self._closed or self._control.goaway_seen or self._broken is not None

    @property
    def exhausted(self) -> bool:
        """Whether stream ids are nearly used up: time for a replacement (A-73)."""
        return self._registry.ids_left < self._settings.spare_streams

    @property
    def settings_seen(self) -> bool:
        """Whether the peer's first SETTINGS came."""
        return self._control.settings_seen

    @property
    def settings_acknowledged(self) -> bool:
        """Whether the peer acknowledged ours."""
        return self._control.settings_acknowledged

    # -- requests out

    def initiate(self) -> None:
        """Queues the preface, our SETTINGS and the opening of our receive window (T-01)."""
        self._outbox.put(frames.PREFACE + frames.settings(self._settings.pairs()))
        self._reader.receive_window.open()

    def room(self, body_bytes: int) -> int:
        """How many requests with a body of that size may start now (A-61, A-67, A-71, A-73)."""
        if self.draining:
            return 0
        streams = min(self.stream_limit - self.open_streams, self._registry.ids_left)
        if body_bytes:
            streams = min(streams, self._windows.window // body_bytes)
        return max(0, streams)

    def request_uniform(self, plan: HeaderPlan, columns: Sequence[Column], body: bytes | Bodies, tag: object) -> Run:
        """The run of requests that differ only in columns of equal width: (rows, width) octets for each variable.

        Raises LocalProtocolError, before anything is queued, if there is no room or the peer takes no such headers.
        """
        rows = body.rows if isinstance(body, Bodies) else len(columns[0]) if columns else 0
        if len(columns) != len(plan.variables) or not rows or any(len(column) != rows for column in columns):
            raise LocalProtocolError("a column for each variable, all of one length, at least one row")
        if not isinstance(columns, Columns):
            columns = Columns(columns)
        self._admit(plan, sum([column.shape[1] for column in columns]), rows, rows * len(body), {len(body)})
        compiled = self._encoder.compiled(plan)
        if compiled is None:
            first = [v.prefix + column[0].tobytes() for v, column in zip(plan.variables, columns, strict=True)]
            compiled = self._encoder.compile(plan, first)
        limit = self._peer.max_frame_size
        template = self._templates.of(compiled.steady, plan.variables, columns, body, limit)
        long = template.block_bytes > limit or (isinstance(body, Bodies) and len(body) > limit)
        if long or len(body) > self._windows.initial:
            values = [[column[row].tobytes() for column in columns] for row in range(rows)]
            return self._send_each(plan, compiled, values, [_body(body, row) for row in range(rows)], tag)
        run = self._registry.add(rows, tag)
        begin = 0
        if compiled.seed is not None:
            row = [[column[0].tobytes() for column in columns]]
            self._outbox.put(b"".join(self._frames(run.first_stream, plan, compiled, row, [_body(body, 0)])))
            begin = 1
        if begin < rows:
            rest = columns.part(begin) if begin else columns
            bodies = body.part(begin) if begin and isinstance(body, Bodies) else body
            self._outbox.put(requests.uniform(run.stream(begin), template, rest, bodies))
        return run

    def request_each(
        self, plan: HeaderPlan, values: Sequence[Sequence[bytes]], bodies: Sequence[bytes] | bytes, tag: object
    ) -> Run:
        """The run of requests whose varying values (a sequence for each row) and bodies may differ in length.

        Raises LocalProtocolError, before anything is queued, if there is no room or the peer takes no such headers.
        """
        rows = len(values)
        if isinstance(bodies, bytes):
            bodies = [bodies] * rows
        count = len(plan.variables)
        if not rows or len(bodies) != rows or any(len(row) != count for row in values):
            raise LocalProtocolError("a value for each variable and a body for each row, at least one row")
        check_values(values)
        widest = 0 if self._peer.max_header_list_size is None else max(sum(map(len, row)) for row in values)
        sizes = list(map(len, bodies))
        self._admit(plan, widest, rows, sum(sizes), set(sizes) if plan.content_length is not None else set())
        first = [v.prefix + value for v, value in zip(plan.variables, values[0], strict=True)]
        return self._send_each(plan, self._encoder.compile(plan, first), values, bodies, tag)

    def reset(self, run: Run, rows: NDArray[np.intp], code: int = ErrorCode.CANCEL) -> None:
        """Resets the streams of rows that are still open; their slots come back by a PING ACK (A-67)."""
        for row in rows.tolist():
            if run.states[row] < DONE:
                self._responses.give_up(run, row, code)
        self._cancels.ping()

    def ping(self, payload: bytes) -> None:
        """Queues a PING of eight octets; its ACK is reported with the payload (A-66)."""
        self._control.ping(payload)

    def close(self, code: int = ErrorCode.NO_ERROR, debug: bytes = b"") -> None:
        """Queues our GOAWAY, once (T-09); answers may still come."""
        if not self._closed:
            self._closed = True
            self._outbox.put(frames.goaway(0, code, debug))  # a server's streams: there are none

    def new_interval(self) -> None:
        """Tells the guard that time has passed: its owner calls it every few seconds, or at least on idle timers."""
        self._guard.new_interval()

    def data_to_send(self) -> bytes:
        """The octets for the wire, drained: replies first, then requests."""
        if self._broken is None:
            self._windows.send(self._outbox, self._peer.max_frame_size)
            self._cancels.ping()
        return self._outbox.drain()

    # -- answers in

    def receive(self, data: bytes) -> Received:
        """What the octets tell; ConnectionBrokenError (a RemoteProtocolError) if the peer broke the protocol.

        Our GOAWAY is then queued, and the error's `received` has what came before the fault.
        """
        if self._broken is not None:
            raise ConnectionBrokenError(str(self._broken), self._broken.code, Received())
        tally = self._responses.begin()
        try:
            self._reader.read(data)
        except RemoteProtocolError as error:
            self._broken = error
            self._closed = True
            self._outbox.put(frames.goaway(0, error.code, str(error).encode()))
            raise ConnectionBrokenError(str(error), error.code, tally.finish()) from error
        return tally.finish()

    # -- the inside

    def _admit(self, plan: HeaderPlan, width: int, rows: int, octets: int, sizes: set[int]) -> None:
        """LocalProtocolError unless the requests may start now."""
        if rows > self.room(0) or octets > self._windows.window:
            raise NoRoomError("no room: ask `room` first")
        if plan.content_length is not None and sizes != {plan.content_length}:
            raise LocalProtocolError("content-length is not the body's")
        limit = self._peer.max_header_list_size
        if limit is not None and plan.list_bytes + width > limit:
            raise HeaderListError("the peer takes no header list of that size")
        self._windows.window -= octets

    def _send_each(
        self,
        plan: HeaderPlan,
        compiled: Compiled,
        values: Sequence[Sequence[bytes]],
        bodies: Sequence[bytes],
        tag: object,
    ) -> Run:
        run = self._registry.add(len(values), tag)
        self._outbox.put(b"".join(self._frames(run.first_stream, plan, compiled, values, bodies)))
        return run

    def _frames(
        self,
        first_stream: int,
        plan: HeaderPlan,
        compiled: Compiled,
        values: Sequence[Sequence[bytes]],
        bodies: Sequence[bytes],
    ) -> list[bytes]:
        limit = self._peer.max_frame_size
        whole = self._windows.initial
        if max(map(len, bodies)) <= whole:
            return requests.each(first_stream, compiled, plan.variables, values, bodies, limit)
        out: list[bytes] = []
        pieces = compiled.seed or compiled.steady
        for row, (value, body) in enumerate(zip(values, bodies, strict=True)):
            stream = first_stream + 2 * row
            one = Compiled(pieces, compiled.steady)
            if len(body) <= whole:
                out += requests.each(stream, one, plan.variables, [value], [body], limit)
            else:
                block = requests.block(pieces, plan.variables, value)
                out.append(frames.headers(stream, block, end_stream=False, frame_bytes_max=limit))
                self._windows.begin(stream, body)
            pieces = compiled.steady
        return out


def _body(body: bytes | Bodies, row: int) -> bytes:
    """The body of one row."""
    return body.row(row) if isinstance(body, Bodies) else body
