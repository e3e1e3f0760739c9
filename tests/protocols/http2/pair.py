"""A client connection and what plays its server: the `h2` package, or frames written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import numpy as np
import pytest

from protocols.http2 import (
    Connection,
    ConnectionBrokenError,
    ConnectionSettings,
    ErrorCode,
    Field,
    HeaderPlan,
    Indexing,
    Received,
    Run,
    Variable,
    frames,
)

PLAN = HeaderPlan(
    (
        Field(b":method", b"POST"),
        Field(b":scheme", b"https"),
        Field(b":authority", b"push.test"),
        Variable(b":path", Indexing.WITHOUT, b"/3/device/"),
        Field(b"authorization", b"bearer " + b"J" * 180, Indexing.WITHOUT),
        Field(b"apns-topic", b"com.example.app"),
        Field(b"apns-push-type", b"alert"),
        Variable(b"apns-id"),
        Field(b"apns-expiration", b"0", Indexing.WITHOUT),
    )
)
SIMPLE = HeaderPlan(
    (
        Field(b":method", b"POST"),
        Field(b":scheme", b"https"),
        Field(b":authority", b"push.test"),
        Variable(b":path", Indexing.WITHOUT, b"/"),
    )
)


def column(values: list[bytes]) -> np.ndarray:
    """A column of values of one width."""
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)


def columns(rows: int) -> list[np.ndarray]:
    """Columns for PLAN."""
    return [column([b"%064x" % (row * 7919) for row in range(rows)]), column([b"%036d" % row for row in range(rows)])]


def values(rows: int) -> list[list[bytes]]:
    """The same as `columns`, row by row."""
    return [[b"%064x" % (row * 7919), b"%036d" % row] for row in range(rows)]


def server_preface(
    streams: int | None = 1000, ack: bool = True, window: int = 2**30, extra: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """SETTINGS, the ACK of the client's, and a wide connection window."""
    entries = [*([(frames.MAX_CONCURRENT_STREAMS, streams)] if streams is not None else []), *extra]
    out = frames.settings(entries)
    if ack:
        out += frames.frame(frames.SETTINGS, frames.ACK, 0)
    if window:
        out += frames.window_update(0, window)
    return out


def connected(settings: ConnectionSettings | None = None, **preface: object) -> Connection:
    """A client after both prefaces, by hand-written frames."""
    client = Connection(settings or ConnectionSettings())
    client.initiate()
    client.data_to_send()
    client.receive(server_preface(**preface))
    client.data_to_send()
    return client


def stateless(rows: int = 0, settings: ConnectionSettings | None = None, **preface: object) -> tuple[Connection, Run]:
    """A client whose peer has emptied its table, and a fresh run of that many rows (at least one) to answer."""
    client = connected(settings, **preface)
    client.request_each(SIMPLE, [[b"first"]], b"", "first")
    client.receive(head(1, b"\x20\x88", last=True))
    run = client.request_each(SIMPLE, [[b"x"]] * max(1, rows), b"", "run")
    client.data_to_send()
    return client, run


def head(stream: int, block: bytes, *, last: bool = False, flags: int = 0) -> bytes:
    """A HEADERS frame."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS | flags | (frames.END_STREAM if last else 0), stream, block)


def data(stream: int, payload: bytes = b"", *, last: bool = False, pad: int | None = None) -> bytes:
    """A DATA frame, padded at will."""
    flags = frames.END_STREAM if last else 0
    if pad is not None:
        payload, flags = bytes((pad,)) + payload + bytes(pad), flags | frames.PADDED
    return frames.frame(frames.DATA, flags, stream, payload)


def encoder(*, zero: bool = True) -> hpack.Encoder:
    """An encoder as a server has it after our SETTINGS."""
    made = hpack.Encoder()
    if zero:
        made.header_table_size = 0
    return made


def cut_frames(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of every frame; nothing may be left over."""
    octets = octets.removeprefix(frames.PREFACE)
    out, at = [], 0
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 3], "big")
        stop = at + 9 + length
        assert stop <= len(octets)
        stream = int.from_bytes(octets[at + 5 : at + 9], "big")
        out.append((octets[at + 3], octets[at + 4], stream, octets[at + 9 : stop]))
        at = stop
    return out


@dataclass
class Summary:
    """What some reads told, in a form that can be compared between connections."""

    answers: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    headers: dict[int, list] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)
    unprocessed: list[int] = field(default_factory=list)
    goaways: list = field(default_factory=list)
    ping_acks: list[bytes] = field(default_factory=list)
    frames: int = 0
    error: int | None = None

    def add(self, received: Received) -> None:
        for run, rows, statuses in received.answers:
            pairs = [(run.stream(row), status) for row, status in zip(rows.tolist(), statuses.tolist(), strict=True)]
            self.answers.setdefault(run.first_stream, []).extend(pairs)
        self.bodies |= {run.stream(row): body for (run, row), body in received.bodies.items()}
        self.headers |= {run.stream(row): list(got) for (run, row), got in received.headers.items()}
        for run, rows, code in received.resets:
            for row in rows.tolist():
                assert run.stream(row) not in self.resets
                self.resets[run.stream(row)] = code
        for run, rows in received.unprocessed:
            self.unprocessed += [run.stream(row) for row in rows.tolist()]
        if received.goaway is not None:
            self.goaways = [received.goaway]
        self.ping_acks += received.ping_acks
        self.frames += received.frames

    @property
    def statuses(self) -> dict[int, int]:
        """Status by stream; each stream is answered once."""
        pairs = [pair for some in self.answers.values() for pair in some]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)


def feed(client: Connection, pieces: list[bytes]) -> tuple[Summary, bytes]:
    """What the pieces told, and what the client sent in return; a broken connection ends it."""
    summary, sent = Summary(), b""
    for piece in pieces:
        try:
            summary.add(client.receive(piece))
        except ConnectionBrokenError as error:
            summary.add(error.received)
            summary.error = error.code
            sent += client.data_to_send()
            break
        sent += client.data_to_send()
    return summary, sent


def broken_by(client: Connection, octets: bytes) -> int:
    """The error code with which octets end the connection: as raised, and as the GOAWAY says."""
    with pytest.raises(ConnectionBrokenError) as caught:
        client.receive(octets)
    kind, _, stream, payload = cut_frames(client.data_to_send())[-1]
    assert (kind, stream) == (frames.GOAWAY, 0)
    assert int.from_bytes(payload[4:8], "big") == caught.value.code
    assert client.room(0) == 0
    return ErrorCode(caught.value.code)


class Pair:
    """A client and an `h2` server, stepped by hand."""

    def __init__(self, settings: ConnectionSettings | None = None, streams: int = 1000, **changes: int) -> None:
        self.client = Connection(settings or ConnectionSettings())
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = {h2.settings.SettingCodes[name]: value for name, value in changes.items()}
        self.server.local_settings.update({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams, **codes})
        self.server.local_settings.acknowledge()
        self.summary = Summary()
        self.events: list[h2.events.Event] = []
        self.client.initiate()
        self.server.initiate_connection()
        if streams is not None:
            self.server.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams, **codes})
        self.server.increment_flow_control_window(2**30)
        self.step()
        self.step()

    def step(self) -> list[h2.events.Event]:
        """Both sides send what they have; the events of the server."""
        events = self.server.receive_data(self.client.data_to_send())
        self.events += events
        octets = self.server.data_to_send()
        if octets:
            self.summary.add(self.client.receive(octets))
        return events

    def requests(self, events: list[h2.events.Event]) -> dict[int, list[tuple[bytes, bytes]]]:
        """Headers of the requests among events, by stream."""
        return {e.stream_id: list(map(tuple, e.headers)) for e in events if isinstance(e, h2.events.RequestReceived)}
