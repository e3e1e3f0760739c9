"""HTTP/2 frames: numbers of the wire, and the frames that a client sends."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

from protocols.errors import RemoteProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""
HEADER_BYTES = 9
"""Of a frame: length, type, flags, stream (RFC 9113 section 4.1)."""
STREAM_ID_MAX = 2**31 - 1
"""RFC 9113 section 5.1.1; also the mask of the reserved bit."""
WINDOW_MAX = 2**31 - 1
"""RFC 9113 section 6.9.1."""
WINDOW_DEFAULT = 65_535
"""Of a connection, and of a stream until SETTINGS say otherwise (RFC 9113 section 6.9.2)."""
FRAME_BYTES_MIN = 2**14
FRAME_BYTES_MAX = 2**24 - 1
"""What MAX_FRAME_SIZE may be (RFC 9113 section 6.5.2)."""
TABLE_BYTES_DEFAULT = 4_096
"""HEADER_TABLE_SIZE until SETTINGS say otherwise (RFC 9113 section 6.5.2)."""

# Frame types: RFC 9113 section 6.
DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

# Flags: RFC 9113 section 6; ACK is that of SETTINGS and PING.
ACK = 0x01
END_STREAM = 0x01
END_HEADERS = 0x04
PADDED = 0x08
HAS_PRIORITY = 0x20

# Settings: RFC 9113 section 6.5.2.
HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine octets that open a frame (RFC 9113 section 4.1)."""
    return b"%b%c%c%b" % (length.to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame (RFC 9113 section 4.1)."""
    return head(len(payload), kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame with these (identifier, value) pairs (RFC 9113 section 6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *value) for value in values))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection (RFC 9113 section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """An RST_STREAM frame (RFC 9113 section 6.4)."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int, debug: bytes) -> bytes:
    """A GOAWAY frame (RFC 9113 section 6.8)."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last_stream, code) + debug)


def headers(stream: int, block: bytes, *, end_stream: bool, frame_bytes_max: int) -> bytes:
    """HEADERS, and CONTINUATION as far as the block needs it (RFC 9113 sections 6.2 and 6.10)."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= frame_bytes_max:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[at : at + frame_bytes_max] for at in range(0, len(block), frame_bytes_max)]
    return b"".join(
        (
            frame(HEADERS, flags, stream, parts[0]),
            *(frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]),
            frame(CONTINUATION, END_HEADERS, stream, parts[-1]),
        )
    )


def data(stream: int, body: bytes, *, end_stream: bool, frame_bytes_max: int) -> bytes:
    """DATA frames that carry a body or a piece of one, at least one (RFC 9113 section 6.1)."""
    if len(body) <= frame_bytes_max:
        return frame(DATA, END_STREAM if end_stream else 0, stream, body)
    last = (len(body) - 1) // frame_bytes_max * frame_bytes_max
    return b"".join(
        frame(DATA, END_STREAM if end_stream and at == last else 0, stream, body[at : at + frame_bytes_max])
        for at in range(0, len(body), frame_bytes_max)
    )


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of DATA or HEADERS without padding; RemoteProtocolError if that fills it (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise RemoteProtocolError("a padded frame without a pad length", ErrorCode.FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):
        raise RemoteProtocolError("padding as long as its frame", ErrorCode.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def pairs(payload: bytes) -> Iterator[tuple[int, int]]:
    """The (identifier, value) pairs of a SETTINGS payload (RFC 9113 section 6.5.1)."""
    return struct.iter_unpack(">HL", payload)
