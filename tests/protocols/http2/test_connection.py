"""The client's musts, rule by rule (T-01 to T-14)."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.http2 import Connection, ConnectionSettings, ErrorCode, frames

from .pair import (
    PLAN,
    SIMPLE,
    Pair,
    broken_by,
    columns,
    connected,
    cut_frames,
    data,
    encoder,
    feed,
    head,
    server_preface,
    stateless,
    values,
)

PING = b"8 octets"


def test_t01_preface_settings_and_no_push():
    client = Connection(ConnectionSettings())
    client.initiate()
    octets = client.data_to_send()
    assert octets.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00")
    (kind, flags, stream, payload), update = cut_frames(octets)
    assert (kind, flags, stream) == (frames.SETTINGS, 0, 0)
    assert dict(frames.pairs(payload)) == {
        frames.HEADER_TABLE_SIZE: 0,
        frames.ENABLE_PUSH: 0,
        frames.MAX_HEADER_LIST_SIZE: 16_384,
    }
    assert update == (frames.WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))


def test_t01_settings_follow_the_switches():
    client = Connection(
        ConnectionSettings(header_table_size_zero=False, initial_stream_window=100_000, frame_bytes_max=20_000)
    )
    client.initiate()
    settings = dict(frames.pairs(cut_frames(client.data_to_send())[0][3]))
    assert frames.HEADER_TABLE_SIZE not in settings
    assert (settings[frames.INITIAL_WINDOW_SIZE], settings[frames.MAX_FRAME_SIZE]) == (100_000, 20_000)


def test_t01_push_is_an_error():
    client, run = stateless()
    promise = frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, run.first_stream, b"\0\0\0\x02\x82")
    assert broken_by(client, promise) == ErrorCode.PROTOCOL_ERROR
    assert broken_by(connected(), frames.settings([(frames.ENABLE_PUSH, 1)])) == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "first", [frames.frame(frames.PING, 0, 0, PING), frames.frame(frames.SETTINGS, frames.ACK, 0), b"HTTP/1.1 400 Bad"]
)
def test_t02_the_first_frame_is_settings(first):
    client = Connection(ConnectionSettings())
    client.initiate()
    client.data_to_send()
    assert broken_by(client, first) == ErrorCode.PROTOCOL_ERROR


def test_t02_settings_are_acknowledged_each_and_applied_in_order():
    client = connected()
    twice = frames.settings([(frames.MAX_CONCURRENT_STREAMS, 5), (frames.MAX_CONCURRENT_STREAMS, 7), (0xF0F0, 9)])
    received = client.receive(twice + frames.settings([]))
    assert received.settings_changed
    assert client.stream_limit == 7
    assert cut_frames(client.data_to_send()) == [(frames.SETTINGS, frames.ACK, 0, b"")] * 2


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frames.frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31)]), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings([(frames.MAX_FRAME_SIZE, 2**14 - 1)]), ErrorCode.PROTOCOL_ERROR),
        (frames.settings([(frames.MAX_FRAME_SIZE, 2**24)]), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"7 bytes"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 1, PING), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(99, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(2, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frames.rst_stream(99, 8), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 3, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 3, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (data(99, b"x"), ErrorCode.PROTOCOL_ERROR),
        (data(1, b"x"), ErrorCode.STREAM_CLOSED),
        (head(0, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (head(2, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (head(99, b"\x88"), ErrorCode.PROTOCOL_ERROR),
        (head(1, b"\x88"), ErrorCode.STREAM_CLOSED),
        (head(3, b"abc", flags=frames.HAS_PRIORITY), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 3), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_t02_t04_t13_what_ends_a_connection(octets, code):
    client, run = stateless()
    assert run.first_stream == 3
    assert broken_by(client, octets) == code
    with pytest.raises(RemoteProtocolError):
        client.receive(b"")


def test_t03_frames_longer_than_ours_are_refused_before_they_are_buffered():
    client, _ = stateless()
    assert broken_by(client, frames.head(16_385, frames.DATA, 0, 3)) == ErrorCode.FRAME_SIZE_ERROR


def test_t03_bulk_frames_are_held_to_the_same_length():
    client, run = stateless(40)
    octets = b"".join(head(run.stream(row), b"\x88" + bytes(16_384), last=True) for row in range(40))
    assert broken_by(client, octets) == ErrorCode.FRAME_SIZE_ERROR


def test_t03_our_frames_keep_to_the_peers_size():
    client = connected(extra=((frames.MAX_FRAME_SIZE, 20_000), (frames.INITIAL_WINDOW_SIZE, 2**20)))
    for rows in (1, 3):
        client.request_uniform(PLAN, columns(rows), b"b" * 50_000, None)
        found = cut_frames(client.data_to_send())
        sizes = [len(payload) for kind, _, _, payload in found if kind == frames.DATA]
        assert sizes == [20_000, 20_000, 10_000] * rows
        assert [flags for kind, flags, _, _ in found if kind == frames.DATA] == [0, 0, 1] * rows


def test_t03_unknown_types_are_ignored_but_not_within_a_header_block():
    client, run = stateless()
    unknown = frames.frame(0x42, 0xFF, 3, b"whatever")
    summary, sent = feed(client, [unknown, head(run.first_stream, b"\x88", last=True)])
    assert (summary.statuses, sent) == ({3: 200}, b"")
    client, run = stateless()
    opening = frames.frame(frames.HEADERS, 0, run.first_stream, b"\x88")
    assert broken_by(client, opening + unknown) == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("between", [frames.frame(frames.CONTINUATION, 4, 5, b""), data(3, b"x"), frames.settings([])])
def test_t03_only_its_continuation_may_follow_an_open_block(between):
    client, run = stateless(3)
    assert broken_by(client, frames.frame(frames.HEADERS, 0, run.first_stream, b"\x88") + between) == 1


def test_t04_a_window_above_the_maximum_is_an_error():
    client = connected(window=0)
    client.receive(frames.window_update(0, 2**31 - 1 - 65_535))
    assert client.window == 2**31 - 1
    assert broken_by(client, frames.window_update(0, 1)) == ErrorCode.FLOW_CONTROL_ERROR


def test_t04_reserved_octets_count_towards_the_maximum():
    client = connected(window=0, extra=((frames.INITIAL_WINDOW_SIZE, 0),))
    client.receive(frames.window_update(0, 2**31 - 1 - 65_535))
    client.request_each(SIMPLE, [[b"a"]], b"x" * 1000, None)
    assert client.window == 2**31 - 1 - 1000
    assert broken_by(client, frames.window_update(0, 1)) == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    ("increments", "code"), [((0,), ErrorCode.PROTOCOL_ERROR), ((2**31 - 1, 1), ErrorCode.FLOW_CONTROL_ERROR)]
)
def test_t04_bad_stream_credit_ends_the_stream_alone(increments, code):
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 10),))
    run = client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    client.data_to_send()
    summary, sent = feed(client, [b"".join(frames.window_update(1, increment) for increment in increments)])
    assert summary.resets == {run.first_stream: code}
    assert cut_frames(sent)[0] == (frames.RST_STREAM, 0, 1, code.to_bytes(4, "big"))
    assert client.window == 65_535 + 2**30 - 10


def test_t04_a_larger_initial_window_that_overflows_a_stream_is_an_error():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 0),))
    client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    client.receive(frames.window_update(1, 100))
    assert broken_by(client, frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31 - 1)])) == ErrorCode.FLOW_CONTROL_ERROR


def test_t04_credit_for_streams_that_are_over_is_legal():
    client, run = stateless()
    summary, _ = feed(client, [head(3, b"\x88", last=True), frames.window_update(3, 5), frames.window_update(1, 0)])
    assert summary.statuses == {run.first_stream: 200}
    assert summary.error is None


def test_t05_all_data_is_counted_and_given_back_in_bulk():
    client, run = stateless(400)
    client.reset(run, np.arange(0, 400, 2))
    updates = total = 0
    for row in range(400):
        stream = run.stream(row)
        octets = head(stream, b"\x88") + data(stream, b"x" * 16_000, pad=99) + data(stream, b"", last=True)
        client.receive(octets)
        total += 16_000 + 100
        for kind, _, number, payload in cut_frames(client.data_to_send()):
            if kind == frames.WINDOW_UPDATE:
                assert number == 0
                updates += 1
                total -= int.from_bytes(payload, "big")
    assert 0 <= total < 1_048_576
    assert 1 <= updates <= 7


def test_t05_bulk_data_is_counted_too():
    client, run = stateless(600)
    streams = [run.stream(row) for row in range(600)]
    octets = b"".join(head(s, b"\x88") for s in streams) + b"".join(data(s, b"y" * 4000, last=True) for s in streams)
    summary, sent = feed(client, [octets])
    assert len(summary.statuses) == 600
    given = sum(int.from_bytes(p, "big") for kind, _, _, p in cut_frames(sent) if kind == frames.WINDOW_UPDATE)
    assert given > 1_048_576
    assert given + client._reader.receive_window._consumed == 600 * 4000


def test_t06_blocks_of_reset_streams_keep_the_table_true():
    client = connected(ConnectionSettings(header_table_size_zero=False))
    run = client.request_each(SIMPLE, [[b"a"], [b"b"]], b"", None)
    client.reset(run, np.array([0]))
    client.data_to_send()
    server = encoder(zero=False)
    first = server.encode([(b":status", b"418"), (b"x-kind", b"teapot")])
    second = server.encode([(b":status", b"418"), (b"x-kind", b"teapot")])
    assert len(second) == 2
    summary, _ = feed(client, [head(1, first, last=True), head(3, second, last=True)])
    assert summary.statuses == {3: 418}
    assert summary.headers == {3: [(b"x-kind", b"teapot")]}


def test_t06_a_broken_block_ends_the_connection():
    client, _ = stateless()
    assert broken_by(client, head(3, b"\x0f")) == ErrorCode.COMPRESSION_ERROR


MALFORMED = {
    "no status": [(b"x", b"y")],
    "empty": [],
    "status twice": [(b":status", b"400"), (b":status", b"400")],
    "status late": [(b"x", b"y"), (b":status", b"400")],
    "status no number": [(b":status", b"4x0")],
    "status out of range": [(b":status", b"600")],
    "upper case": [(b":status", b"400"), (b"X-Y", b"z")],
    "unknown pseudo-header": [(b":status", b"400"), (b":path", b"/")],
    "connection": [(b":status", b"400"), (b"connection", b"close")],
    "transfer-encoding": [(b":status", b"400"), (b"transfer-encoding", b"chunked")],
    "line feed": [(b":status", b"400"), (b"x", b"a\nb")],
    "white space": [(b":status", b"400"), (b"x", b" a")],
    "length no number": [(b":status", b"400"), (b"content-length", b"-1")],
    "lengths differ": [(b":status", b"400"), (b"content-length", b"1"), (b"content-length", b"2")],
    "101": [(b":status", b"101")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_t07_malformed_responses_end_their_stream_alone(fields):
    client, run = stateless(2)
    server = encoder()
    summary, sent = feed(client, [head(3, server.encode(fields)), head(5, b"\x88", last=True)])
    assert summary.resets == {3: ErrorCode.PROTOCOL_ERROR}
    assert summary.statuses == {5: 200}
    assert cut_frames(sent)[0] == (frames.RST_STREAM, 0, 3, b"\0\0\0\x01")
    assert (run.open, client.open_streams) == (0, 1)


@pytest.mark.parametrize("body", [b"123", b"12345", b""])
def test_t07_content_length_is_kept_to(body):
    client, _ = stateless()
    block = encoder().encode([(b":status", b"400"), (b"content-length", b"4")])
    summary, _ = feed(client, [head(3, block), data(3, body, last=True)])
    assert (summary.statuses, summary.resets) == ({}, {3: ErrorCode.PROTOCOL_ERROR})


def test_t07_content_length_of_204_says_nothing():
    client, _ = stateless()
    block = encoder().encode([(b":status", b"304"), (b"content-length", b"4")])
    assert feed(client, [head(3, block, last=True)])[0].statuses == {3: 304}


@pytest.mark.parametrize("zero", [True, False])
def test_t07_informational_heads_body_and_trailers(zero):
    client = connected(ConnectionSettings(header_table_size_zero=zero))
    client.request_each(SIMPLE, [[b"a"], [b"b"]], b"", None)
    server = encoder(zero=zero)
    octets = [
        head(1, server.encode([(b":status", b"103"), (b"link", b"</x>")])),
        head(1, server.encode([(b":status", b"103")])),
        head(1, server.encode([(b":status", b"410"), (b"apns-id", b"A")])),
        head(3, server.encode([(b":status", b"200"), (b"apns-id", b"B")])),
        data(1, b'{"rea'),
        data(1, b""),
        data(3, b"ignored"),
        data(1, b'son":1}', pad=7),
        head(1, server.encode([(b"x-checksum", b"1")]), last=True),
        head(3, server.encode([(b"x-checksum", b"2")]), last=True),
    ]
    summary, _ = feed(client, octets)
    assert summary.statuses == {1: 410, 3: 200}
    assert summary.bodies == {1: b'{"reason":1}'}
    assert summary.headers == {1: [(b"apns-id", b"A")]}


@pytest.mark.parametrize(
    "frames_of",
    [
        lambda e: [data(3, b"x", last=True)],  # DATA before HEADERS
        lambda e: [head(3, e.encode([(b":status", b"103")]), last=True)],
        lambda e: [head(3, e.encode([(b":status", b"103")])), data(3, b"x")],
        lambda e: [head(3, b"\x88"), head(3, e.encode([(b"x", b"y")]))],  # trailers without END_STREAM
        lambda e: [head(3, b"\x88"), head(3, e.encode([(b":status", b"200")]), last=True)],
        lambda e: [head(3, e.encode([(b":status", b"400")])), head(3, e.encode([(b":status", b"400")]), last=True)],
    ],
)
def test_t07_sequences_that_no_response_has(frames_of):
    client, _ = stateless()
    summary, _ = feed(client, frames_of(encoder()))
    assert (summary.statuses, summary.resets, summary.error) == ({}, {3: ErrorCode.PROTOCOL_ERROR}, None)


def test_t08_what_may_come_for_a_stream_that_we_reset():
    client, run = stateless(2)
    client.reset(run, np.array([0]))
    sent = cut_frames(client.data_to_send())
    assert [kind for kind, *_ in sent] == [frames.RST_STREAM, frames.PING]
    late = [head(3, b"\x88"), data(3, b"x" * 100), frames.rst_stream(3, 0), frames.window_update(3, 1)]
    summary, _ = feed(client, late)
    assert (summary.statuses, summary.resets, summary.error) == ({}, {}, None)
    assert (run.open, client.open_streams) == (1, 2)
    client.receive(frames.frame(frames.PING, frames.ACK, 0, sent[1][3]))
    assert client.open_streams == 1
    assert run.outstanding().tolist() == [1]


def test_t08_after_end_stream_more_is_an_error_but_a_reset():
    for octets in (data(3, b"x"), head(3, b"\x88")):
        client, _ = stateless(2)
        client.receive(head(3, b"\x88", last=True) + frames.rst_stream(3, 8))
        assert broken_by(client, octets) == ErrorCode.STREAM_CLOSED


def test_t09_our_goaway_is_sent_once_and_answers_still_count():
    client, run = stateless(2)
    client.close(debug=b"bye")
    client.close()
    assert cut_frames(client.data_to_send()) == [(frames.GOAWAY, 0, 0, bytes(8) + b"bye")]
    assert client.draining
    assert client.room(0) == 0
    with pytest.raises(LocalProtocolError):
        client.request_each(SIMPLE, [[b"a"]], b"", None)
    assert feed(client, [head(run.first_stream, b"\x88", last=True)])[0].statuses == {3: 200}


def test_t10_pings_are_echoed_ahead_of_requests_and_acks_never_answered():
    client, _ = stateless()
    client.request_each(PLAN, values(1), b"{}", None)
    client.receive(frames.frame(frames.PING, 0, 0, PING) + frames.frame(frames.PING, frames.ACK, 0, b"unasked!"))
    assert cut_frames(client.data_to_send())[0] == (frames.PING, frames.ACK, 0, PING)


def test_t10_our_pings_come_home():
    client, _ = stateless()
    client.ping(PING)
    client.ping(b"another8")
    assert [payload for *_, payload in cut_frames(client.data_to_send())] == [PING, b"another8"]
    octets = b"".join(frames.frame(frames.PING, frames.ACK, 0, p) for p in (PING, PING, b"another8"))
    assert client.receive(octets).ping_acks == [PING, b"another8"]
    with pytest.raises(LocalProtocolError):
        client.ping(b"short")


def test_t11_priority_is_read_and_ignored():
    client, _ = stateless()
    octets = frames.frame(frames.PRIORITY, 0, 77, b"\0\0\0\x4d\x10")  # depends on itself
    octets += head(3, b"\0\0\0\0\x10\x88", last=True, flags=frames.HAS_PRIORITY)
    assert feed(client, [octets])[0].statuses == {3: 200}


@pytest.mark.parametrize("kind", [frames.DATA, frames.HEADERS])
@pytest.mark.parametrize("payload", [b"\x01", b"\x05abcd", b"\xff"])
def test_t12_padding_as_long_as_its_frame_is_an_error(kind, payload):
    client, _ = stateless()
    flags = frames.PADDED | frames.END_HEADERS if kind == frames.HEADERS else frames.PADDED
    assert broken_by(client, frames.frame(kind, flags, 3, payload)) == ErrorCode.PROTOCOL_ERROR


def test_t12_padding_that_leaves_nothing_is_legal():
    client, _ = stateless()
    assert feed(client, [head(3, b"\x88"), data(3, b"", pad=255), data(3, b"", pad=0, last=True)])[0].statuses == {
        3: 200
    }


def test_t13_ids_are_odd_and_rise_by_two():
    pair = Pair(streams=100)
    for rows in (1, 4, 2):
        pair.client.request_uniform(PLAN, columns(rows), b"", None)
    assert list(pair.requests(pair.step())) == list(range(1, 15, 2))


def test_the_reserved_bit_is_ignored():
    client, run = stateless(30)
    octets = b"".join(head(run.stream(row) | 2**31, b"\x88", last=True) for row in range(30))
    assert len(feed(client, [octets])[0].statuses) == 30


def test_what_came_before_a_fault_is_not_lost():
    client, run = stateless(30)
    octets = b"".join(head(run.stream(row), b"\x88", last=True) for row in range(30)) + head(2, b"\x88")
    summary, _ = feed(client, [octets])
    assert (len(summary.statuses), summary.error, run.open) == (30, ErrorCode.PROTOCOL_ERROR, 0)


def test_t02_what_is_known_of_a_peer():
    client = Connection(ConnectionSettings())
    client.initiate()
    assert (client.settings_seen, client.settings_acknowledged, client.stream_limit) == (False, False, 1)
    known = ((1, 100), (4, 5), (5, 20_000), (6, 8_000))
    client.receive(server_preface(streams=None, extra=known))
    assert (client.settings_seen, client.settings_acknowledged, client.stream_limit) == (True, True, 100)
