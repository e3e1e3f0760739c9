"""Settings of an HTTP/2 connection: ours with their limits, and the peer's as it sends them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.errors import RemoteProtocolError
from protocols.http2 import frames
from protocols.http2.frames import ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What we ask of the peer, and what we let it make us hold or do (T-30 to T-39)."""

    header_table_size_zero: bool = True
    """Ask for response headers without state (RFC 7541 section 4.2); the full decoder stays for what cannot."""
    initial_stream_window: int = frames.WINDOW_DEFAULT
    """Octets of one response's body; a body that fills it is refused, so we never give stream credit back (T-36)."""
    frame_bytes_max: int = frames.FRAME_BYTES_MIN
    """MAX_FRAME_SIZE; a longer frame ends the connection before it is buffered (T-03)."""
    header_list_bytes_max: int = 16_384
    """MAX_HEADER_LIST_SIZE, kept while decoding, and the most octets of one compressed block (T-30, T-31)."""
    continuation_frames_max: int = 64
    """Frames of one header block (T-30); the `h2` package has the same limit."""
    settings_entries_max: int = 64
    """Entries of one SETTINGS frame (T-33); six are known."""
    streams_max: int = 2_048
    """Streams open at once, whatever the peer allows."""
    streams_default: int = 100
    """Streams open at once where the peer names no limit: the least that RFC 9113 section 6.5.2 recommends."""
    informational_max: int = 16
    """1xx answers of one stream (T-36)."""
    body_bytes_max: int = 16_384
    """Octets kept of the body of an answer other than 200; the rest is counted and dropped (G-08)."""
    held_bytes_max: int = 1_048_576
    """Octets kept of all unfinished answers together; past it bodies and headers are dropped, statuses never."""
    debug_bytes_max: int = 1_024
    """Octets kept of a GOAWAY's debug data (G-09)."""
    nuisance_max: int = 10_000
    """Frames that help nobody before the connection is given up (T-32)."""
    nuisance_per_answer: int = 16
    """How many of those frames each whole answer makes up for."""
    refusals_max: int = 4_096
    """Streams refused with no answer between them before the connection is given up (T-39)."""
    control_bytes_max: int = 65_536
    """Octets of control frames waiting to be sent: what a peer that does not read can make us hold (T-32)."""
    first_stream_id: int = 1
    """An odd number; tests begin near the end of the ids (X-15)."""
    spare_streams: int = 1_000_000
    """Stream ids left when the connection counts as exhausted (A-73): some seconds at full speed."""

    def pairs(self) -> list[tuple[int, int]]:
        """The entries of our SETTINGS frame; push is off (T-01)."""
        entries = [(frames.ENABLE_PUSH, 0), (frames.MAX_HEADER_LIST_SIZE, self.header_list_bytes_max)]
        if self.header_table_size_zero:
            entries.insert(0, (frames.HEADER_TABLE_SIZE, 0))
        if self.initial_stream_window != frames.WINDOW_DEFAULT:
            entries.append((frames.INITIAL_WINDOW_SIZE, self.initial_stream_window))
        if self.frame_bytes_max != frames.FRAME_BYTES_MIN:
            entries.append((frames.MAX_FRAME_SIZE, self.frame_bytes_max))
        return entries


@dataclass(slots=True)
class PeerSettings:
    """The peer's settings in force; before its first SETTINGS, the defaults of RFC 9113 section 6.5.2."""

    header_table_size: int = frames.TABLE_BYTES_DEFAULT
    header_table_size_least: int = frames.TABLE_BYTES_DEFAULT
    """The smallest value within the last SETTINGS frame: an encoder must come down to it (RFC 7541 section 4.2)."""
    max_concurrent_streams: int | None = None
    initial_window_size: int = frames.WINDOW_DEFAULT
    max_frame_size: int = frames.FRAME_BYTES_MIN
    max_header_list_size: int | None = None

    def apply(self, entries: Iterable[tuple[int, int]]) -> None:
        """Takes over the entries of a SETTINGS frame in order; RemoteProtocolError for values out of range (T-02)."""
        self.header_table_size_least = self.header_table_size
        for key, value in entries:
            if key == frames.HEADER_TABLE_SIZE:
                self.header_table_size = value
                self.header_table_size_least = min(value, self.header_table_size_least)
            elif key == frames.ENABLE_PUSH and value:
                raise RemoteProtocolError("a server enabled push")
            elif key == frames.MAX_CONCURRENT_STREAMS:
                self.max_concurrent_streams = value
            elif key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.WINDOW_MAX:
                    raise RemoteProtocolError("INITIAL_WINDOW_SIZE out of range", ErrorCode.FLOW_CONTROL_ERROR)
                self.initial_window_size = value
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_BYTES_MIN <= value <= frames.FRAME_BYTES_MAX:
                    raise RemoteProtocolError("MAX_FRAME_SIZE out of range")
                self.max_frame_size = value
            elif key == frames.MAX_HEADER_LIST_SIZE:
                self.max_header_list_size = value
