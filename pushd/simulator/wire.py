"""The server's end of one HTTP/2 connection: h2 under rules of our own for streams, credit and order of bytes.

h2 keeps frames, headers, stream states and received windows honest. Kept here instead:
1. A SETTINGS frame holds from its acknowledgement on, each frame by itself (h2 would apply all that is pending).
2. The stream limit is the highest of what was acknowledged and what is still on its way, so that nobody is blamed
   for what they could not know. A stream is open until its answer was written.
3. A GOAWAY, in either direction, does not stop the answers to what was taken.
4. What is written leaves in one piece per `flush`, in the order in which it was made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import ChangedSetting, SettingCodes, Settings
from h2.stream import StreamClosedBy
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from pushd.simulator.behaviour import Behaviour
from pushd.simulator.rules import Field

SWEEP_AFTER = 512
"""Closed streams that h2 may hold before it is asked to let go of them."""
GOAWAY_PING = b"goaway??"
"""Sent after a GOAWAY: its acknowledgement proves that the client has seen it."""
ID_MOULD = b"0" * 36
ACCEPTED_BLOCK = (
    Encoder()
    .encode([(b":status", b"200"), NeverIndexedHeaderTuple(b"apns-id", ID_MOULD)], huffman=False)
    .removesuffix(ID_MOULD)
)
ACCEPTED_HEAD = (len(ACCEPTED_BLOCK) + len(ID_MOULD)).to_bytes(3, "big") + bytes((1, 0x05))
"""Length, HEADERS, END_STREAM and END_HEADERS (RFC 9113 section 6.2)."""


class Headers(NamedTuple):
    """A HEADERS frame of an answer."""

    fields: list[Field]
    end: bool = False


class Data(NamedTuple):
    """A DATA frame of an answer."""

    data: bytes
    end: bool = False
    padding: int | None = None


Part = Headers | Data


class OrderedSettings(Settings):
    """Our settings as the client has acknowledged them, frame by frame."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(
            client=False,
            initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: behaviour.streams_before_token},
        )
        self.unacknowledged: deque[dict[SettingCodes, int]] = deque()
        self.written = 0
        """How many of these frames the client may have seen."""
        self.acknowledged = 0
        """SETTINGS frames acknowledged so far."""
        self._judged_limit = behaviour.streams_before_token
        self._unjudged: deque[int] = deque()
        """Limits whose acknowledgement h2 has read, and whose event has not come up yet."""

    def acknowledge(self) -> dict[SettingCodes | int, ChangedSetting]:
        """What the oldest frame changes, now that it is acknowledged."""
        if not self.written:
            raise ProtocolError("SETTINGS ACK without SETTINGS")
        for code, value in self.unacknowledged.popleft().items():
            self[code] = value
        self.written -= 1
        changes = super().acknowledge()
        self._unjudged.append(self.max_concurrent_streams)
        return changes

    def judge(self) -> None:
        """Lets the oldest acknowledgement bind: what the client sent before it has been looked at.

        h2 parses all of a read before it tells of any of it, so requests may have come before an ACK it knows of.
        """
        self._judged_limit = self._unjudged.popleft()
        self.acknowledged += 1

    @property
    def stream_limit(self) -> int:
        """Streams that the client may have open, given what it may know."""
        code = SettingCodes.MAX_CONCURRENT_STREAMS
        on_their_way = (frame.get(code, 0) for frame in islice(self.unacknowledged, self.written))
        return max(self._judged_limit, *self._unjudged, *on_their_way, 0)


class Peer(H2Connection):
    """h2 as a server that leaves the stream limit to us, outlives GOAWAY, and answers PING only when it should."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                # `Rules` has h2 validate each shape of request once, not each request.
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.ordered = OrderedSettings(behaviour)
        self.local_settings = self.ordered
        self.answer_pings = True

    @property
    def open_inbound_streams(self) -> int:
        """Nothing to speak of: h2 compares it with the limit on every request, which `Wire` does better."""
        return -1

    def sweep(self) -> None:
        """Lets go of closed streams."""
        self._open_streams(1)

    def finish(self, stream_id: int) -> None:
        """Lets go of a stream whose answer was written past h2."""
        del self.streams[stream_id]
        self._closed_streams[stream_id] = StreamClosedBy.SEND_END_STREAM

    def takes(self, stream_id: int) -> bool:
        """Whether more can be said on a stream: h2 has read on, and may know that the client has reset it since."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.open

    def _receive_goaway_frame(self, _frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        return [], [h2.events.ConnectionTerminated()]

    def _receive_ping_frame(self, frame: PingFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        frames, events = super()._receive_ping_frame(frame)
        return (frames if self.answer_pings else []), events


class Wire:
    """One connection's bytes: what comes in becomes events, what goes out leaves by `flush`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.h2 = Peer(behaviour)
        self.transport: asyncio.Transport | None = None
        self.mute = False
        """Write nothing more."""
        self.holding_credit = False
        """Give no connection credit back."""
        self.closed_unflushed = 0
        """Streams that are closed here, but whose end the client cannot have seen yet."""
        self._closed_unswept = 0
        self._owed = 0
        self._out = bytearray()
        self._held: bytearray | None = None
        self._blocked: dict[int, deque[Part]] = {}
        self._newest_entry: object = None

    def open(self, transport: asyncio.Transport) -> None:
        """Takes the transport and queues what a server says first."""
        self.transport = transport
        self._say_first()

    def _say_first(self) -> None:
        behaviour = self.behaviour
        self.announce(
            {
                SettingCodes.HEADER_TABLE_SIZE: behaviour.header_table_size,
                SettingCodes.MAX_CONCURRENT_STREAMS: behaviour.streams_before_token,
                SettingCodes.INITIAL_WINDOW_SIZE: behaviour.initial_window_size,
                SettingCodes.MAX_FRAME_SIZE: behaviour.max_frame_size,
                SettingCodes.MAX_HEADER_LIST_SIZE: behaviour.max_header_list_size,
            }
        )
        if behaviour.connection_window > 65_535:
            self.h2.increment_flow_control_window(behaviour.connection_window - 65_535)

    def hold(self) -> None:
        """Keeps everything back until `release`."""
        self._held = bytearray()

    def release(self) -> None:
        """Lets what was held back go, and what comes after."""
        if self._held is not None:
            self._out[:0] = self._held
            self._held = None

    @property
    def stream_limit(self) -> int:
        """Streams that the client may have open."""
        return self.h2.ordered.stream_limit

    @property
    def settled(self) -> bool:
        """Whether the client has acknowledged the first SETTINGS."""
        return self.h2.ordered.acknowledged > 0

    def announce(self, settings: dict[SettingCodes, int]) -> None:
        """Queues a SETTINGS frame; it holds from its acknowledgement on."""
        self.h2.ordered.unacknowledged.append(settings)
        self.raw(SettingsFrame(0, settings={int(code): value for code, value in settings.items()}))

    def raw(self, *frames: Frame) -> None:
        """Queues frames past h2."""
        self.raw_bytes(b"".join(frame.serialize() for frame in frames))

    def raw_bytes(self, data: bytes) -> None:
        """Queues bytes past h2."""
        self._out += self.h2.data_to_send()
        self._out += data

    def goaway(self, last: int, code: int, debug: bytes) -> None:
        """Queues a GOAWAY and a PING whose acknowledgement shows that it arrived."""
        self.raw(
            GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=debug),
            PingFrame(0, opaque_data=GOAWAY_PING),
        )

    def accept(self, stream_id: int, apns_id: bytes) -> bool:
        """Whether a plain 200 was queued by the short way, which only clients without a header table can be given.

        Their blocks depend on nothing that went before, so that one encoded by hpack serves as the mould of all.
        """
        encoder = self.h2.encoder
        if encoder.header_table_size or encoder.table_size_changes or len(apns_id) != len(ID_MOULD):
            return False
        if self.h2.takes(stream_id):
            self.raw_bytes(ACCEPTED_HEAD + stream_id.to_bytes(4, "big") + ACCEPTED_BLOCK + apns_id)
            self.h2.finish(stream_id)
            self.closed_unflushed += 1
        return True

    def reset(self, stream_id: int, code: int) -> None:
        """Queues a RST_STREAM; the stream is closed."""
        self._blocked.pop(stream_id, None)
        if self.h2.takes(stream_id):
            self.h2.reset_stream(stream_id, _error_code(code))
            self.closed()

    def reset_again(self, stream_id: int, code: int) -> None:
        """Queues a second RST_STREAM for a stream that was reset."""
        self.raw(RstStreamFrame(stream_id, error_code=code))

    def block(self, stream_id: int, block: bytes) -> None:
        """Queues a HEADERS frame with exactly these bytes as its header block, which ends the stream."""
        if not self.h2.takes(stream_id):
            return
        frame = HeadersFrame(stream_id, data=block)
        frame.flags.add("END_HEADERS")
        frame.flags.add("END_STREAM")
        self.raw(frame)
        self.h2.finish(stream_id)
        self.closed_unflushed += 1

    def closed(self) -> None:
        """Counts a stream as closed, which the client learns with the next flush."""
        self.closed_unflushed += 1
        self._closed_unswept += 1

    def forget(self, stream_id: int) -> None:
        """Drops what is left to say on a stream that the client has reset."""
        self._closed_unswept += 1
        self._blocked.pop(stream_id, None)

    def credit(self, stream_id: int, size: int) -> None:
        """Queues credit for a stream's body."""
        if self.h2.takes(stream_id):
            self.h2.increment_flow_control_window(size, stream_id)

    def consume(self, size: int) -> None:
        """Counts flow-controlled bytes that the client will get credit for."""
        self._owed += size

    def say(self, stream_id: int, parts: deque[Part]) -> bool:
        """Whether the whole of it is queued; the rest waits for credit and `resume`."""
        connection = self.h2
        if not connection.takes(stream_id):
            return True
        while parts:
            part = parts[0]
            if isinstance(part, Headers):
                connection.send_headers(stream_id, part.fields, end_stream=part.end)
            else:
                cost = len(part.data) + (0 if part.padding is None else part.padding + 1)
                if cost and connection.local_flow_control_window(stream_id) < cost:
                    self._blocked[stream_id] = parts
                    return False
                connection.send_data(stream_id, part.data, end_stream=part.end, pad_length=part.padding)
            parts.popleft()
        return True

    def resume(self) -> Iterator[int]:
        """Streams whose answers are now whole, after credit came."""
        for stream_id, parts in list(self._blocked.items()):
            del self._blocked[stream_id]
            if self.say(stream_id, parts):
                yield stream_id

    def new_table_entries(self) -> Iterator[Any]:
        """(Name, value) pairs that entered the client's header table since the last call, newest first."""
        entries = self.h2.decoder.header_table.dynamic_entries
        newest, self._newest_entry = self._newest_entry, entries[0] if entries else None
        for entry in entries:
            if entry is newest:
                return
            yield entry

    def flush(self) -> None:
        """Writes what is queued, in one piece."""
        if self._owed * 2 >= self.behaviour.connection_window and not self.holding_credit:
            self.h2.increment_flow_control_window(self._owed)
            self._owed = 0
        data = self.h2.data_to_send()
        if self._out:
            data = bytes(self._out) + data
            self._out.clear()
        self.closed_unflushed = 0
        if self._closed_unswept >= SWEEP_AFTER:
            self.h2.sweep()
            self._closed_unswept = 0
        if self._held is not None:
            self._held += data
            return
        self.h2.ordered.written = len(self.h2.ordered.unacknowledged)
        if data and not self.mute and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


def _error_code(code: int) -> ErrorCodes | int:
    try:
        return ErrorCodes(code)
    except ValueError:
        return code
