"""Attacks on a client: each ends the connection or its stream, and nothing grows (X-27: T-30 to T-39; X-28)."""

from __future__ import annotations

import time
import tracemalloc

import hpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.http2 import Connection, ConnectionBrokenError, ConnectionSettings, ErrorCode, frames

from .pair import SIMPLE, broken_by, connected, cut_frames, data, encoder, feed, head, stateless

CALM = ErrorCode.ENHANCE_YOUR_CALM
BROKEN = ErrorCode.COMPRESSION_ERROR


def flood(client: Connection, octets: bytes, times: int) -> tuple[int | None, int]:
    """The code that a repeated piece ends the connection with, and how many pieces it took; answers are drained."""
    for count in range(times):
        try:
            client.receive(octets)
        except ConnectionBrokenError as error:
            return error.code, count
        client.data_to_send()
    return None, times


@pytest.mark.parametrize("piece", [b"", b"x" * 100])
def test_t30_continuation_flood(piece):
    client, run = stateless()
    opening = frames.frame(frames.HEADERS, 0, run.first_stream, b"")
    octets = opening + frames.frame(frames.CONTINUATION, 0, run.first_stream, piece) * 100
    assert broken_by(client, octets) == CALM


def test_t30_a_block_longer_than_any_list():
    client, run = stateless()
    octets = frames.frame(frames.HEADERS, 0, run.first_stream, bytes(16_000))
    assert broken_by(client, octets + frames.frame(frames.CONTINUATION, 0, run.first_stream, bytes(1_000))) == CALM


def test_t30_few_continuations_are_legal():
    client, run = stateless()
    block = encoder().encode([(b":status", b"400"), (b"x-long", b"\x7e" * 300)])
    pieces = [block[at : at + 20] for at in range(0, len(block), 20)]
    octets = frames.frame(frames.HEADERS, frames.END_STREAM, run.first_stream, pieces[0])
    for number, piece in enumerate(pieces[1:], 2):
        octets += frames.frame(frames.CONTINUATION, frames.END_HEADERS if number == len(pieces) else 0, 3, piece)
    assert feed(client, [octets])[0].statuses == {3: 400}


def test_t31_hpack_bomb_of_an_indexed_entry():
    client = connected(ConnectionSettings(header_table_size_zero=False))
    client.request_each(SIMPLE, [[b"a"], [b"b"]], b"", None)
    big = hpack.Encoder().encode([(b":status", b"400"), (b"x", b"\x00" * 3000)], huffman=False)
    bomb = b"\x8d" + b"\xbe" * 10_000
    client.receive(head(1, big.replace(b"\x00" * 3000, b"v" * 3000)))
    begun = time.process_time()
    assert broken_by(client, head(3, bomb)) == CALM
    assert time.process_time() - begun < 5


def test_t31_many_small_fields():
    client, _ = stateless()
    assert broken_by(client, head(3, b"\x8d" + b"\x90" * 1000)) == CALM


@pytest.mark.parametrize(
    "block",
    [
        b"\x8d\x00\x7f" + b"\xff" * 20 + b"\x01",  # a string length that never ends
        b"\x8d\x00\x7f\xff\xff\xff\xff\x0f",  # a string of 4 GB
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an index of many octets
        b"\x8d\x00\x01x\x82\xff\xff",  # Huffman padding longer than 7 bits
        b"\x8d\x00\x01x\x84\xff\xff\xff\xff",  # EOS in a Huffman string
        b"\x8d\x00\x01x\x81\x00",  # a Huffman string that ends amid padding of zeros
    ],
)
def test_t31_integers_and_strings_that_break_rfc7541(block):
    client, _ = stateless()
    assert broken_by(client, head(3, block)) == BROKEN


FLOODS = {
    "settings": frames.settings([]),
    "ping": frames.frame(frames.PING, 0, 0, bytes(8)),
    "ping acks": frames.frame(frames.PING, frames.ACK, 0, bytes(8)),
    "window updates": frames.window_update(0, 1),
    "stream window updates": frames.window_update(3, 1),
    "empty data": head(3, b"\x88") + data(3),
    "priority": frames.frame(frames.PRIORITY, 0, 3, bytes(5)),
    "unknown": frames.frame(0xBB, 0, 0, b""),
    "resets of the dead": frames.rst_stream(1, 8),
    "goaway": frames.goaway(2**31 - 1, 0, b""),
    "settings flapping": frames.settings([(3, 0), (3, 2**32 - 1), (4, 0), (4, 2**31 - 1), (1, 0), (1, 2**32 - 1)]),
}


@pytest.mark.parametrize("name", FLOODS)
def test_t32_t33_floods_end_the_connection(name):
    client, _ = stateless()
    octets = FLOODS[name]
    if name == "empty data":
        client.receive(head(3, b"\x88"))
        octets = data(3)
    code, count = flood(client, octets * 100, 1000)
    assert (code, count) == (CALM, 100)


def test_t32_data_for_dropped_streams_is_a_flood_too():
    client, run = stateless()
    client.reset(run, np.array([0]))
    assert flood(client, data(3, b"x") * 100, 1000) == (CALM, 100)


def test_t32_an_honest_server_may_be_chatty():
    client, run = stateless(200)
    for _ in range(20):
        for row in range(200):
            octets = frames.window_update(0, 1) * 4 + frames.window_update(run.stream(row), 1) * 4
            client.receive(
                octets + frames.frame(frames.PING, 0, 0, bytes(8)) + head(run.stream(row), b"\x88", last=True)
            )
            client.data_to_send()
        run = client.request_each(SIMPLE, [[b"x"]] * 200, b"", None)
        client.data_to_send()


def test_t32_time_forgives_an_idle_peer():
    client, _ = stateless()
    for _ in range(10):
        assert flood(client, frames.frame(frames.PING, 0, 0, bytes(8)) * 50, 150) == (None, 150)
        client.new_interval()


def test_t32_answers_that_are_not_read_do_not_pile_up():
    client, _ = stateless()
    octets = frames.frame(frames.PING, 0, 0, bytes(8)) * 100
    summary, sent = feed(client, [octets * 100])
    assert summary.error == CALM
    assert len(sent) < 70_000


def test_t33_many_entries_in_one_settings_frame():
    assert broken_by(connected(), frames.settings([(frames.INITIAL_WINDOW_SIZE, 1)] * 2_000)) == CALM


def test_t34_credit_octet_by_octet():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 0),))
    client.request_each(SIMPLE, [[b"a"]] * 20, b"x" * 4_000, None)
    pieces = 0
    code = None
    for _ in range(4_000):
        try:
            client.receive(b"".join(frames.window_update(1 + 2 * row, 1) for row in range(20)))
        except ConnectionBrokenError as error:
            code = error.code
            break
        pieces += sum(kind == frames.DATA for kind, *_ in cut_frames(client.data_to_send()))
    assert code == CALM
    assert pieces <= 10_000
    # Credit that comes together is spent together.
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 0),))
    client.request_each(SIMPLE, [[b"a"]], b"x" * 4_000, None)
    client.data_to_send()
    client.receive(frames.window_update(1, 1) * 4_000)
    assert [len(p) for kind, _, _, p in cut_frames(client.data_to_send()) if kind == frames.DATA] == [4_000]


def test_t35_half_a_frame_costs_half_a_frame():
    client, _ = stateless()
    opening = frames.head(16_000, frames.HEADERS, frames.END_HEADERS, 3)
    for octet in opening + bytes(15_000):
        client.receive(bytes((octet,)))
    assert len(client._reader._kept) == 15_009
    assert client.data_to_send() == b""


def test_t36_endless_informational_heads():
    client, _ = stateless()
    hints = head(3, encoder().encode([(b":status", b"103")]))
    summary, _ = feed(client, [hints * 100])
    assert summary.resets == {3: CALM}


def test_t36_a_body_without_end():
    client, run = stateless(2)
    refusal = encoder().encode([(b":status", b"500")])
    octets = [head(3, b"\x88"), head(5, refusal), *[data(3, b"x" * 16_384) + data(5, b"y" * 16_384)] * 3]
    octets += [data(3, b"x" * 16_383), data(5, b"y" * 16_384)]  # one fills its window, one passes it
    summary, sent = feed(client, octets)
    assert summary.resets == {3: CALM, 5: ErrorCode.FLOW_CONTROL_ERROR}
    assert (run.open, summary.error) == (0, None)
    assert not any(kind == frames.WINDOW_UPDATE and stream for kind, _, stream, _ in cut_frames(sent))


def test_t36_held_answers_are_bounded_together():
    client, run = stateless(200, ConnectionSettings(held_bytes_max=200_000))
    server = encoder()
    block = server.encode([(b":status", b"400"), (b"x-fill", b"f" * 2_000)])
    tracemalloc.start()
    for row in range(200):
        client.receive(head(run.stream(row), block) + data(run.stream(row), b"b" * 10_000))
        client.data_to_send()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    summary, _ = feed(client, [data(run.stream(row), last=True) for row in range(200)])
    assert set(summary.statuses.values()) == {400}
    assert len(summary.statuses) == 200
    assert 10 < len(summary.bodies) < 20
    assert client._guard._held == 0


def test_t37_push_promise_flood():
    client, _ = stateless()
    promise = frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 3, b"\0\0\0\x02" + b"\x90" * 8_000)
    assert broken_by(client, promise * 3) == ErrorCode.PROTOCOL_ERROR


def test_t38_our_resets_are_no_flood():
    client, run = stateless(100, streams=100)
    sent = 0
    for _ in range(10):
        client.reset(run, np.arange(100))
        sent += sum(kind == frames.RST_STREAM for kind, *_ in cut_frames(client.data_to_send()))
        assert client.room(0) == 0
    assert sent == 100


def test_t39_nothing_but_refusals():
    client, run = stateless(1000)
    refused = 0
    code = None
    while code is None and refused < 20_000:
        octets = b"".join(frames.rst_stream(run.stream(row), ErrorCode.REFUSED_STREAM) for row in range(1000))
        try:
            received = client.receive(octets)
        except ConnectionBrokenError as error:
            code, received = error.code, error.received
        refused += sum(len(rows) for _, rows, _ in received.resets)
        if code is None:
            run = client.request_each(SIMPLE, [[b"x"]] * 1000, b"", None)
            client.data_to_send()
    assert (code, refused) == (CALM, 4_097)


def test_bulk_patterns_made_to_disappoint_are_cheap():
    """Frames that look alike but never settle in bulk: time stays in proportion to the frames."""
    client, run = stateless(1000)
    streams = [run.stream(row) for row in range(1000)]
    tempting = b"".join(head(s, b"\x88" if s % 4 == 3 else b"\x8d", last=True) for s in streams)
    begun = time.process_time()
    summary, _ = feed(client, [tempting])
    assert len(summary.statuses) == 1000
    assert time.process_time() - begun < 1


# -- header blocks around the switch to a table of size 0


def switched() -> Connection:
    """A client whose SETTINGS are acknowledged, and which has read no block yet."""
    client = connected()
    client.request_each(SIMPLE, [[b"a"]] * 4, b"", None)
    client.data_to_send()
    return client


def test_x28_the_first_block_after_the_acknowledgement_must_open_with_an_update():
    for block in (b"\x88", b"\x8d", b"\x8d\x20"):
        assert broken_by(switched(), head(1, block, last=True)) == BROKEN
    assert feed(switched(), [head(1, b"\x20\x88", last=True)])[0].statuses == {1: 200}


def test_x28_an_update_before_the_acknowledgement_is_legal():
    client = connected(ack=False)
    client.request_each(SIMPLE, [[b"a"]] * 3, b"", None)
    ack = frames.frame(frames.SETTINGS, frames.ACK, 0)
    summary, _ = feed(client, [head(1, b"\x20\x88", last=True), ack, head(3, b"\x88", last=True)])
    assert summary.statuses == {1: 200, 3: 200}


def test_x28_before_the_acknowledgement_the_table_is_in_use():
    client = connected(ack=False)
    client.request_each(SIMPLE, [[b"a"]] * 4, b"", None)
    server = encoder(zero=False)
    fields = [(b":status", b"429"), (b"retry-after", b"7")]
    before = [head(1, server.encode(fields), last=True), head(3, server.encode(fields), last=True)]
    server.header_table_size = 0
    after = [head(5, server.encode(fields), last=True), head(7, server.encode(fields), last=True)]
    summary, _ = feed(client, [*before, frames.frame(frames.SETTINGS, frames.ACK, 0), *after])
    assert summary.statuses == {1: 429, 3: 429, 5: 429, 7: 429}
    assert set(map(tuple, summary.headers.values())) == {((b"retry-after", b"7"),)}


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\x20\x8d\xbe", BROKEN),  # index 62 with size 0
        (b"\x20\x8d\x7e\x01v", BROKEN),  # the same as a name
        (b"\x20\x80", BROKEN),  # index 0
        (b"\x20\x20\x20\x8d", BROKEN),  # three updates
        (b"\x3f\xe1\x1f\x8d", BROKEN),  # an update to 4096, above the limit
        (b"\x20\x8d\x20", BROKEN),  # an update behind a field
        (b"\x3f", BROKEN),  # half an update
        (b"\x20\x8d\x00\x01x\x85\xff", BROKEN),  # a truncated Huffman string
        (b"\x20\x8d\x00\x01", BROKEN),  # a truncated name
        (b"\x20\x8d\x40", BROKEN),
    ],
)
def test_x28_blocks_that_break_the_connection(block, code):
    assert broken_by(switched(), head(1, block, last=True)) == code


def test_x28_two_updates_and_literals_with_indexing_are_legal():
    client = switched()
    block = b"\x20\x20\x8d\x40\x01x\x01y"  # the entry is larger than the table: nothing is stored
    summary, _ = feed(client, [head(1, block, last=True), head(3, b"\x8d\x40\x01x\x01y", last=True)])
    assert summary.statuses == {1: 404, 3: 404}
    assert summary.headers == {1: [(b"x", b"y")], 3: [(b"x", b"y")]}
    assert broken_by(client, head(5, b"\x8d\xbe", last=True)) == BROKEN


def test_x28_with_the_switch_off_the_table_stays():
    client = connected(ConnectionSettings(header_table_size_zero=False))
    client.request_each(SIMPLE, [[b"a"]] * 300, b"", None)
    server = encoder(zero=False)
    blocks = [server.encode([(b":status", b"200"), (b"date", b"today")]) for _ in range(300)]
    octets = b"".join(head(1 + 2 * row, block, last=row % 2 == 0) for row, block in enumerate(blocks))
    octets += b"".join(data(1 + 2 * row, last=True) for row in range(1, 300, 2))
    assert len(blocks[1]) == 2
    summary, _ = feed(client, [octets])
    assert len(summary.statuses) == 300


# -- anything at all


@settings(max_examples=200)
@given(st.binary(max_size=400))
@example(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 2)
def test_any_octets_raise_one_kind_of_error(octets):
    client, _ = stateless(5)
    feed(client, [octets])


FRAMES = st.builds(
    frames.frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 37, 255]),
    st.sampled_from([0, 1, 2, 3, 5, 7, 9, 11, 99]),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"\x88", b"\x8d", b"\x20\x88", b"\x02\x88\0\0", bytes(4), bytes(8), b"\0\0\0\x01", b"\x48\x03103"]
        ),
    ),
)


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_any_frames_raise_one_kind_of_error_and_never_lose_count(some, zero):
    client = connected(ConnectionSettings(header_table_size_zero=zero), extra=((frames.INITIAL_WINDOW_SIZE, 10),))
    run = client.request_each(SIMPLE, [[b"a"]] * 5, [b"", b"x" * 50, b"", b"y" * 5, b"z" * 20], None)
    client.data_to_send()
    summary, _ = feed(client, some)
    ended = [*summary.statuses, *summary.resets, *summary.unprocessed]
    assert len(ended) == len(set(ended)) == 5 - run.open
    assert len(run.outstanding()) == run.open
    assert client.open_streams >= run.open
    assert 0 <= client.window <= 2**31 - 1
