"""Frames that are about the connection: SETTINGS, PING, GOAWAY, WINDOW_UPDATE (T-02, T-04, T-09, T-10)."""

from __future__ import annotations

from collections import deque

import numpy as np

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.http2 import frames
from protocols.http2.cancels import Cancels
from protocols.http2.encoding import Encoder
from protocols.http2.frames import STREAM_ID_MAX, ErrorCode
from protocols.http2.guard import Guard
from protocols.http2.outbox import Outbox
from protocols.http2.responses import Responses
from protocols.http2.results import GoAway
from protocols.http2.runs import DONE, OPEN, Registry
from protocols.http2.settings import ConnectionSettings, PeerSettings
from protocols.http2.windows import SendWindows

PING_BYTES = 8
"""RFC 9113 section 6.7."""
PINGS_MAX = 16
"""Of the caller's that may be under way at once."""


class Control:
    """What the peer says about the connection as a whole."""

    __slots__ = (
        "_cancels",
        "_encoder",
        "_guard",
        "_last_stream",
        "_outbox",
        "_peer",
        "_pings",
        "_registry",
        "_responses",
        "_settings",
        "_windows",
        "goaway_seen",
        "settings_acknowledged",
        "settings_seen",
    )

    def __init__(
        self,
        settings: ConnectionSettings,
        peer: PeerSettings,
        outbox: Outbox,
        guard: Guard,
        encoder: Encoder,
        registry: Registry,
        windows: SendWindows,
        cancels: Cancels,
        responses: Responses,
    ) -> None:
        self._settings = settings
        self._peer = peer
        self._outbox = outbox
        self._guard = guard
        self._encoder = encoder
        self._registry = registry
        self._windows = windows
        self._cancels = cancels
        self._responses = responses
        self._pings: deque[bytes] = deque()
        self._last_stream = STREAM_ID_MAX
        self.settings_seen = False
        self.settings_acknowledged = False
        self.goaway_seen = False

    def settings(self, flags: int, payload: bytes) -> None:
        """Applies the peer's SETTINGS in order and acknowledges them at once, or takes the ACK of ours (T-02)."""
        if flags & frames.ACK:
            self._acknowledgement(payload)
            return
        if len(payload) % 6:
            raise RemoteProtocolError("SETTINGS of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        if len(payload) > 6 * self._settings.settings_entries_max:
            raise RemoteProtocolError("too many settings", ErrorCode.ENHANCE_YOUR_CALM)
        if self.settings_seen:
            self._guard.nuisance()
        peer = self._peer
        peer.apply(frames.pairs(payload))
        self._windows.resize(peer.initial_window_size)
        self._encoder.resize(peer.header_table_size_least, peer.header_table_size)
        # Behind what was made under the old settings; the outbox says why.
        self._outbox.reply(frames.frame(frames.SETTINGS, frames.ACK, 0), overtakes=False)
        self.settings_seen = True
        self._responses.tally.received.settings_changed = True

    def ping(self, payload: bytes) -> None:
        """Queues the caller's PING; LocalProtocolError unless it has eight octets and few are under way."""
        if len(payload) != PING_BYTES or len(self._pings) >= PINGS_MAX:
            raise LocalProtocolError("a PING has eight octets, and few are under way at once")
        self._pings.append(payload)
        self._outbox.put(frames.frame(frames.PING, 0, 0, payload))

    def ping_received(self, flags: int, payload: bytes) -> None:
        """Echoes a PING ahead of all else, or takes the ACK of one of ours (T-10)."""
        if len(payload) != PING_BYTES:
            raise RemoteProtocolError("PING of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self._guard.nuisance()
            self._outbox.reply(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload in self._pings:
            self._pings.remove(payload)
            self._responses.tally.received.ping_acks.append(payload)
        elif not self._cancels.acknowledged(payload):
            self._guard.nuisance()

    def goaway(self, payload: bytes) -> None:
        """No more streams; rows above the last id were not processed, each is told so once (T-09, A-63)."""
        if len(payload) < 8:
            raise RemoteProtocolError("GOAWAY of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        if self.goaway_seen:
            self._guard.nuisance()
        self.goaway_seen = True
        last = int.from_bytes(payload[:4], "big") & STREAM_ID_MAX
        code = int.from_bytes(payload[4:8], "big")
        received = self._responses.tally.received
        received.goaway = GoAway(last, code, payload[8 : 8 + self._settings.debug_bytes_max])
        if last >= self._last_stream:  # it only goes down; a peer that raises it changes nothing
            return
        self._last_stream = last
        for run in self._registry.runs:
            rows = np.flatnonzero(run.view < DONE)
            # A response that began was processed, whatever GOAWAY says.
            rows = rows[(run.first_stream + 2 * rows > last) & (run.view[rows] == OPEN)]
            for row in rows.tolist():
                self._windows.cancel(run.stream(row))
                self._registry.drop(run, row)
            if len(rows):
                received.unprocessed.append((run, rows))

    def window_update(self, stream: int, payload: bytes) -> None:
        """Takes credit of the connection or of a stream that is not idle (T-04)."""
        if len(payload) != 4:
            raise RemoteProtocolError("WINDOW_UPDATE of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload, "big") & frames.WINDOW_MAX
        self._guard.nuisance()
        if stream == 0:
            if not increment:
                raise RemoteProtocolError("WINDOW_UPDATE by nothing")
            self._windows.credit(increment)
            return
        within = self._windows.credit_stream(stream, increment)
        if increment and within:
            return
        run = self._registry.find(stream)
        row = (stream - run.first_stream) >> 1 if run is not None else 0
        code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
        if run is not None and run.states[row] < DONE:
            self._responses.fail(run, row, code)
        elif stream in self._windows.uploads:
            self._windows.cancel(stream)
            self._outbox.reply(frames.rst_stream(stream, code), overtakes=False)

    def _acknowledgement(self, payload: bytes) -> None:
        if payload:
            raise RemoteProtocolError("SETTINGS ACK with a payload", ErrorCode.FRAME_SIZE_ERROR)
        if self.settings_acknowledged:
            raise RemoteProtocolError("SETTINGS ACK for nothing")
        self.settings_acknowledged = True
        self._responses.decoder.acknowledged()
