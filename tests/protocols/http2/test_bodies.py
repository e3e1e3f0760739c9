"""Runs whose bodies differ by row: what an `h2` server reads of them, within every limit that the peer may set."""

import h2.events
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.http2 import Bodies, ConnectionSettings, Field, HeaderPlan
from tests.protocols.http2.pair import PLAN, Pair, column, columns, connected, values

CONSTANT = HeaderPlan(
    (
        Field(b":method", b"POST"),
        Field(b":scheme", b"https"),
        Field(b":path", b"/v1/projects/demo-app/messages:send"),
        Field(b":authority", b"push.test"),
        Field(b"authorization", b"Bearer " + b"t" * 180),
    )
)
HEAD, TAIL = b'{"message":{"token":"', b'","notification":{"title":"hello"}}}'


def tokens(rows, width=40):
    return [(b"%0*d" % (width, row * 7919))[-width:] for row in range(rows)]


def bodies(rows, width=40, head=HEAD, tail=TAIL):
    return Bodies(head, column(tokens(rows, width)), tail)


def read(pair, events):
    """Whole bodies by stream, as the server put them together."""
    found = {}
    for event in events:
        if isinstance(event, h2.events.DataReceived):
            found[event.stream_id] = found.get(event.stream_id, b"") + event.data
            pair.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    return found


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_every_row_has_its_own_body_and_the_same_header(rows):
    pair = Pair()
    run = pair.client.request_uniform(CONSTANT, [], bodies(rows), "tag")
    events = pair.step()
    sent = read(pair, events)
    assert sent == {run.stream(row): HEAD + token + TAIL for row, token in enumerate(tokens(rows))}
    fields = [(field.name, field.value) for field in CONSTANT.fields]
    assert pair.requests(events) == {run.stream(row): fields for row in range(rows)}
    again = pair.client.request_uniform(CONSTANT, [], bodies(3), "again")
    assert sorted(read(pair, pair.step())) == [again.stream(row) for row in range(3)]


def test_headers_and_bodies_may_vary_together():
    pair = Pair()
    run = pair.client.request_uniform(PLAN, columns(20), bodies(20), "tag")
    events = pair.step()
    assert read(pair, events) == {run.stream(row): HEAD + token + TAIL for row, token in enumerate(tokens(20))}
    paths = [dict(fields)[b":path"] for fields in pair.requests(events).values()]
    assert paths == [b"/3/device/" + row[0] for row in values(20)]


@given(st.binary(max_size=30), st.integers(1, 50), st.binary(max_size=30), st.integers(1, 40))
def test_matrix_and_rows_give_the_same_octets(head, width, tail, rows):
    out = []
    for uniform in (True, False):
        client = connected()
        some = bodies(rows, width, head, tail)
        if uniform:
            client.request_uniform(CONSTANT, [], some, "tag")
        else:
            client.request_each(CONSTANT, [[]] * rows, [some.row(row) for row in range(rows)], "tag")
        out.append(client.data_to_send())
    assert out[0] == out[1]


def test_a_body_longer_than_a_frame_goes_in_several():
    pair = Pair()
    run = pair.client.request_uniform(CONSTANT, [], bodies(3, tail=b"x" * 40_000), "tag")
    sent = read(pair, pair.step())
    assert sent == {run.stream(row): HEAD + token + b"x" * 40_000 for row, token in enumerate(tokens(3))}


def test_a_body_longer_than_its_window_waits_for_credit():
    pair = Pair(INITIAL_WINDOW_SIZE=50)
    run = pair.client.request_uniform(CONSTANT, [], bodies(4), "tag")
    sent = read(pair, pair.step())
    for _ in range(4):
        for stream, more in read(pair, pair.step()).items():
            sent[stream] = sent.get(stream, b"") + more
    assert sent == {run.stream(row): HEAD + token + TAIL for row, token in enumerate(tokens(4))}


def test_room_is_counted_in_whole_bodies():
    client = connected(ConnectionSettings(), window=0)
    size = len(bodies(1))
    assert client.room(size) == 65_535 // size
    client.request_uniform(CONSTANT, [], bodies(client.room(size)), "tag")
    assert client.window == 65_535 % size
    with pytest.raises(LocalProtocolError):
        client.request_uniform(CONSTANT, [], bodies(1), "tag")


@pytest.mark.parametrize("count", [1, 3])
def test_columns_and_bodies_have_one_length(count):
    client = connected()
    with pytest.raises(LocalProtocolError):
        client.request_uniform(PLAN, columns(2), bodies(count), "tag")
    assert not client.data_to_send()


def test_parts_of_bodies():
    some = bodies(5)
    assert [some.part(2).row(row) for row in range(3)] == [some.row(row) for row in (2, 3, 4)]
    assert some.part(1, 3).rows == 2
    assert np.frombuffer(some.template, np.uint8).size == len(some)
