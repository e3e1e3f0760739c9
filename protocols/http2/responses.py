"""Responses, frame by frame: what HEADERS, DATA and RST_STREAM mean for a row (T-06 to T-08).

Theory of operation. A response is any number of 1xx heads, a head, DATA, and perhaps trailers (RFC 9113 section 8.1).
The states are those of `runs`. A plain 200 needs no more than its state; whatever else a stream says is kept in a
`Response` until END_STREAM, within limits. A response that breaks the rules ends its row: the stream is reset with the
fitting code and the row reported with it, never answered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.errors import RemoteProtocolError
from protocols.http2.cancels import Cancels
from protocols.http2.decoding import BlockDecoder, Head
from protocols.http2.frames import ErrorCode
from protocols.http2.guard import Guard
from protocols.http2.results import Fields, Tally
from protocols.http2.runs import DETAILED, DONE, DROPPED, HEADED, OPEN, Registry, Run, prefix
from protocols.http2.settings import ConnectionSettings
from protocols.http2.windows import SendWindows

NO_CONTENT = frozenset((204, 304))
"""Statuses whose content-length says nothing about the body (RFC 9110 section 8.6)."""
MALFORMED_WEIGHT = 16
"""Nuisances that a malformed response counts for: it makes us send a reset, and a PING."""


class Response:
    """What is known of an unfinished response."""

    __slots__ = (
        "body",
        "content_length",
        "fields",
        "held",
        "informational",
        "keeps_body",
        "octets",
        "received",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.fields: Fields = []
        self.content_length: int | None = None
        self.keeps_body = False
        self.body: list[bytes] = []
        self.octets = 0
        """Of the body, without padding."""
        self.received = 0
        """Of the stream's window, with padding."""
        self.held = 0
        """Octets that the guard has granted us for it."""
        self.informational = 0


class Responses:
    """The unfinished responses of a connection."""

    __slots__ = ("_cancels", "_guard", "_registry", "_responses", "_settings", "_windows", "decoder", "tally")

    def __init__(
        self, settings: ConnectionSettings, registry: Registry, windows: SendWindows, cancels: Cancels, guard: Guard
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._windows = windows
        self._cancels = cancels
        self._guard = guard
        self._responses: dict[int, Response] = {}
        self.decoder = BlockDecoder(settings)
        self.tally = Tally()

    def begin(self) -> Tally:
        """A new tally, for a new read."""
        self.tally = Tally()
        return self.tally

    def headers(self, stream: int, block: bytes, *, end_stream: bool) -> None:
        """Takes a whole header block."""
        run, row = self._locate(stream)
        state = run.states[row]
        if state == OPEN and self.decoder.says_200(block):
            if end_stream:
                self._answer(run, row, 200)
            else:
                run.states[row] = HEADED
            return
        head = self.decoder.decode(block)
        if state == DROPPED:
            self._guard.nuisance()
        elif state == DONE:
            raise RemoteProtocolError("HEADERS after END_STREAM", ErrorCode.STREAM_CLOSED)
        elif state == OPEN or (state == DETAILED and not self._responses[stream].status):
            self._head(run, row, head, end_stream=end_stream)
        else:
            self._trailers(run, row, head, end_stream=end_stream)

    def data(self, stream: int, payload: bytes, flow_bytes: int, *, end_stream: bool) -> None:
        """Takes DATA: its payload without padding, and what it counts in windows."""
        run, row = self._locate(stream)
        state = run.states[row]
        if not payload and not end_stream:
            self._guard.nuisance()
        if state == HEADED and end_stream:
            self._answer(run, row, 200)
        elif state in (HEADED, DETAILED):
            self._body(run, row, payload, flow_bytes, end_stream=end_stream)
        elif state == OPEN:
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)
        elif state == DROPPED:
            self._guard.nuisance()
        else:
            raise RemoteProtocolError("DATA after END_STREAM", ErrorCode.STREAM_CLOSED)

    def advance(self, streams: NDArray[np.int64], before: int, after: int, *, reset: bool = False) -> int:
        """Moves stream ids from one state to another, DONE as answered 200; how many of the first of them.

        It stops before the first that is even, unknown or in another state; repeated ids or too many runs: none. Where
        they are `reset`, each answer is followed by a RST_STREAM that changes nothing (X-16).
        """
        taken = self._registry.split(streams, before)
        count = sum(len(rows) for _, rows in taken)
        for run, rows in taken:
            run.view[rows] = after
            if after == DONE:
                self.tally.column(run).extend(rows)
                self._registry.settled(run, len(rows))
        self._reassure(count, after, reset=reset)
        return count

    def advance_rows(self, run: Run, row: int, rows: int, before: int, after: int, *, reset: bool = False) -> int:
        """The same for so many rows of one run from a row on."""
        states = run.states
        if states.count(before, row, row + rows) < rows:
            rows = prefix(run.view[row : row + rows] == before)
        if not rows:
            return 0
        states[row : row + rows] = bytes((after,)) * rows
        if after == DONE:
            self.tally.column(run).span(row, rows)
            self._registry.settled(run, rows)
        self._reassure(rows, after, reset=reset)
        return rows

    def _reassure(self, rows: int, after: int, *, reset: bool) -> None:
        if reset:
            self._guard.answered_with_nuisance(rows)
        elif after == DONE:
            self._guard.answered(rows)

    def run_of(self, stream: int) -> Run | None:
        """The remembered run of a client's stream id."""
        return self._registry.find(stream)

    def answered(self, run: Run, rows: list[int]) -> None:
        """Counts rows whose state was set to DONE as answered 200; the guard is told by the caller."""
        self.tally.column(run).extend(rows)
        self._registry.settled(run, len(rows))

    def reset_by_peer(self, stream: int, code: int) -> None:
        """Takes RST_STREAM for a stream that is not idle; one for an answered row changes nothing (T-08, X-16)."""
        self._windows.cancel(stream)
        run = self._registry.find(stream)
        row = (stream - run.first_stream) >> 1 if run is not None else 0
        if run is None or run.states[row] >= DONE:
            self._guard.nuisance()
            return
        self.forget(stream)
        self.tally.reset(run, row, code)
        self._registry.finish(run, row)
        if code == ErrorCode.REFUSED_STREAM:
            self._guard.refused()

    def fail(self, run: Run, row: int, code: int) -> None:
        """Ends a row whose response breaks a rule."""
        self._guard.nuisance(MALFORMED_WEIGHT)
        self.tally.reset(run, row, code)
        self.give_up(run, row, code)

    def give_up(self, run: Run, row: int, code: int) -> None:
        """Resets the stream of an open row and forgets what it said."""
        stream = run.stream(row)
        self.forget(stream)
        self._windows.cancel(stream)
        self._cancels.reset(run, row, code)

    def forget(self, stream: int) -> None:
        """Drops what was kept of a response."""
        response = self._responses.pop(stream, None)
        if response is not None:
            self._guard.let_go(response.held)

    def _locate(self, stream: int) -> tuple[Run, int]:
        """The run and row of a client's stream that was opened."""
        run = self._registry.find(stream)
        if run is None:
            raise RemoteProtocolError("a frame for a stream that is over", ErrorCode.STREAM_CLOSED)
        return run, (stream - run.first_stream) >> 1

    def _head(self, run: Run, row: int, head: Head, *, end_stream: bool) -> None:
        if head.malformed or not head.status or head.status == 101:  # 101 does not exist in HTTP/2: section 8.6
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)
        elif head.status < 200:
            self._informational(run, row, end_stream=end_stream)
        elif head.status == 200 and not head.content_length and end_stream:
            self.forget(run.stream(row))
            self._answer(run, row, 200)
        elif head.status == 200 and head.content_length is None and run.states[row] == OPEN:
            run.states[row] = HEADED
        else:
            response = self._response(run, row)
            response.status = head.status
            response.content_length = None if head.status in NO_CONTENT else head.content_length
            if head.status != 200 and self._guard.hold(head.size):
                response.held += head.size
                response.fields = head.fields
                response.keeps_body = not head.encoded
            if end_stream:
                self._finish(run, row)

    def _informational(self, run: Run, row: int, *, end_stream: bool) -> None:
        self._guard.nuisance()
        response = self._response(run, row)
        response.informational += 1
        if end_stream:
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)
        elif response.informational > self._settings.informational_max:
            self.fail(run, row, ErrorCode.ENHANCE_YOUR_CALM)

    def _trailers(self, run: Run, row: int, head: Head, *, end_stream: bool) -> None:
        if head.malformed or head.status or not end_stream:
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)
        else:
            self._finish(run, row)

    def _body(self, run: Run, row: int, payload: bytes, flow_bytes: int, *, end_stream: bool) -> None:
        response = self._response(run, row)
        if not response.status:
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)  # DATA between a 1xx and the head
            return
        response.octets += len(payload)
        response.received += flow_bytes
        window = self._settings.initial_stream_window
        if response.received > max(window, 65_535):
            self.fail(run, row, ErrorCode.FLOW_CONTROL_ERROR)
        elif end_stream:
            self._keep(response, payload)
            self._finish(run, row)
        elif response.received >= window:
            self.fail(run, row, ErrorCode.ENHANCE_YOUR_CALM)
        else:
            self._keep(response, payload)

    def _keep(self, response: Response, payload: bytes) -> None:
        """Keeps of a body what limits allow."""
        kept = payload[: max(0, self._settings.body_bytes_max - response.octets + len(payload))]
        if kept and response.keeps_body and self._guard.hold(len(kept)):
            response.held += len(kept)
            response.body.append(kept)

    def _finish(self, run: Run, row: int) -> None:
        """END_STREAM of a response with a `Response`, or of a HEADED one by trailers."""
        stream = run.stream(row)
        response = self._responses.get(stream)
        if response is None:
            self._answer(run, row, 200)
            return
        if response.content_length is not None and response.content_length != response.octets:
            self.fail(run, row, ErrorCode.PROTOCOL_ERROR)
            return
        status = response.status or 200
        if status != 200:
            received = self.tally.received
            received.headers[run, row] = response.fields
            if response.body:
                received.bodies[run, row] = b"".join(response.body)
        self.forget(stream)
        self._answer(run, row, status)

    def _answer(self, run: Run, row: int, status: int) -> None:
        self.tally.column(run).add(row, status)
        self._windows.linger(run.stream(row))
        self._registry.finish(run, row)
        self._guard.answered(1)

    def _response(self, run: Run, row: int) -> Response:
        """The row's `Response`, made at need; a HEADED row becomes DETAILED."""
        stream = run.stream(row)
        response = self._responses.get(stream)
        if response is None:
            response = self._responses[stream] = Response()
            if run.states[row] == HEADED:
                response.status = 200
            run.states[row] = DETAILED
        return response
