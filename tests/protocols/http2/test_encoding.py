"""Header blocks: an independent decoder reads exactly the planned fields, and the octets keep to A-42."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.http2 import Columns, ConnectionSettings, Field, HeaderPlan, Indexing, Variable, frames
from protocols.http2.encoding import Encoder, integer, string
from protocols.http2.requests import block

from .pair import PLAN, SIMPLE, Pair, column, columns, connected, cut_frames, values


class Peer:
    """Decodes blocks in order, and says how each field was written."""

    def __init__(self) -> None:
        self.decoder = hpack.Decoder()

    def read(self, octets: bytes) -> list[tuple[bytes, bytes]]:
        return [tuple(got) for got in self.decoder.decode(octets, raw=True)]


def blocks_of(octets: bytes) -> list[bytes]:
    """Whole header blocks, CONTINUATION put together."""
    out: list[bytes] = []
    for kind, _, _, payload in cut_frames(octets):
        if kind == frames.HEADERS:
            out.append(payload)
        elif kind == frames.CONTINUATION:
            out[-1] += payload
    return out


def expected(plan: HeaderPlan, row: list[bytes]) -> list[tuple[bytes, bytes]]:
    varying = iter(row)
    return [(f.name, f.prefix + next(varying) if isinstance(f, Variable) else f.value) for f in plan.fields]


def test_rfc7541_c1_integers():
    assert integer(10, 5, 0) == b"\x0a"
    assert integer(1337, 5, 0) == b"\x1f\x9a\x0a"
    assert integer(42, 8, 0) == b"\x2a"


def test_rfc7541_c2_representations():
    encoder = Encoder()
    custom = Field(b"custom-key", b"custom-header", Indexing.INCREMENTAL)
    assert encoder._field(custom, insert=True).hex() == "400a637573746f6d2d6b65790d637573746f6d2d686561646572"
    path = Field(b":path", b"/sample/path", Indexing.WITHOUT)
    assert encoder._field(path, insert=True).hex() == "040c2f73616d706c652f70617468"
    secret = Field(b"password", b"secret", Indexing.NEVER)
    assert encoder._field(secret, insert=True).hex() == "100870617373776f726406736563726574"
    assert encoder._field(Field(b":method", b"GET", Indexing.INCREMENTAL), insert=True) == b"\x82"


@pytest.mark.parametrize("rows", [1, 2, 3, 300])
def test_uniform_runs_decode_to_the_plan(rows):
    client, peer = connected(), Peer()
    for _ in range(2):
        client.request_uniform(PLAN, columns(rows), b"{}", None)
        found = blocks_of(client.data_to_send())
        assert [peer.read(octets) for octets in found] == [expected(PLAN, row) for row in values(rows)]


@pytest.mark.parametrize("body", [b"", b"x", b"y" * 500, b"z" * 40_000])
def test_uniform_and_each_write_the_same_octets(body):
    one, two = connected(), connected()
    for rows in (1, 2, 20):
        one.request_uniform(PLAN, columns(rows), body, None)
        two.request_each(PLAN, values(rows), [body] * rows, None)
        assert one.data_to_send() == two.data_to_send()


def test_runs_by_turns_never_take_each_others_template():
    one, other, oracle = connected(streams=2000), connected(streams=2000), Peer()
    widths, bodies = (1, 4, 1, 1), (b"", b"x", b"x", b"yy")
    for turn in range(12):
        plan = (SIMPLE, PLAN)[turn % 2]
        width, body = widths[turn % 4], bodies[turn * 5 % 4]
        rows = [[b"%0*d" % (width, row) for _ in plan.variables] for row in range(5)]
        checked = Columns([column([row[at] for row in rows]) for at in range(len(plan.variables))])
        one.request_uniform(plan, checked.part(1, 4), body, None)
        other.request_each(plan, rows[1:4], body, None)
        octets = one.data_to_send()
        assert octets == other.data_to_send()
        for row, fields in zip(rows[1:4], blocks_of(octets), strict=True):
            assert oracle.read(fields) == expected(plan, row)


@pytest.mark.parametrize("octet", [b" ", b"\x00", b"\x7f", b"\n"])
def test_t14_columns_are_checked_when_they_are_made(octet):
    with pytest.raises(LocalProtocolError):
        Columns([column([b"ab", b"a" + octet])])
    assert len(Columns([column([b"ab", b"a!"])]).part(1)[0]) == 1


def test_a42_indexing_bits():
    client = connected()
    client.request_uniform(PLAN, columns(3), b"{}", None)
    first, second, third = blocks_of(client.data_to_send())
    # :path and authorization: literal without indexing (0000), with a static name: 4, and 23 = 15 + 8.
    path, token = b"\x04" + string(b"/3/device/" + values(3)[1][0]), b"\x0f\x08"
    assert path in second
    assert token in first
    assert token in second
    # apns-id and apns-expiration: incremental indexing the first time, by name without indexing afterwards.
    assert b"\x40" + string(b"apns-id") in first
    assert b"\x40" + string(b"apns-expiration") + string(b"0") in first
    assert b"apns-id" not in second
    assert second.endswith(b"\x0f\x30" + string(values(3)[1][1]) + b"\x0f\x2f" + string(b"0"))  # names 63 and 62
    # All else: incremental indexing once, one octet from then on.
    assert b"\x40" + string(b"apns-topic") + string(b"com.example.app") in first
    assert b"\x41" + string(b"push.test") in first
    assert second.startswith(b"\x83\x87\xc2" + path)
    assert b"\xc1\xc0" in second
    assert len(second) == len(third)


def test_a42_names_are_seeded_once_for_all_plans():
    client, peer = connected(), Peer()
    client.request_each(PLAN, values(1), b"", None)
    other = HeaderPlan(
        tuple(f._replace(value=b"1700000000") if f.name == b"apns-expiration" else f for f in PLAN.fields)
    )
    client.request_each(other, values(1), b"", None)
    client.request_each(PLAN, values(1), b"", None)
    one, two, three = blocks_of(client.data_to_send())
    assert [peer.read(octets) for octets in (one, two, three)] == [
        expected(PLAN, values(1)[0]),
        expected(other, values(1)[0]),
        expected(PLAN, values(1)[0]),
    ]
    assert b"apns-expiration" in one
    assert b"apns-expiration" not in two
    assert two.endswith(b"\x0f\x2f" + string(b"1700000000"))


def test_never_indexed_stays_so():
    plan = HeaderPlan(
        (*SIMPLE.fields, Field(b"crypto-key", b"k", Indexing.NEVER), Variable(b"authorization", Indexing.NEVER))
    )
    client = connected()
    client.request_each(plan, [[b"a", b"s1"], [b"b", b"s2"]], b"", None)
    decoder = hpack.Decoder()
    for octets in blocks_of(client.data_to_send()):
        fields = list(decoder.decode(octets, raw=True))
        assert {f[0]: f.indexable for f in fields if not f.indexable} == {b"crypto-key": False, b"authorization": False}
    assert all(name not in (b"crypto-key", b"authorization") for name, _ in decoder.header_table.dynamic_entries)


def test_t33_the_table_is_frozen_and_never_above_4096():
    client, peer = connected(extra=((frames.HEADER_TABLE_SIZE, 2**32 - 1),)), Peer()
    for number in range(200):
        plan = HeaderPlan((*SIMPLE.fields, Field(b"x-note", b"%0100d" % number), Field(b"x-%d" % number, b"y")))
        for _ in range(2):
            client.request_each(plan, [[b"p"]], b"", None)
            (octets,) = blocks_of(client.data_to_send())
            assert peer.read(octets) == expected(plan, [b"p"])
    assert peer.decoder.header_table.maxsize == 4096
    assert peer.decoder.header_table._current_size <= 4096
    assert (b":authority", b"push.test") in peer.decoder.header_table.dynamic_entries


@pytest.mark.parametrize("sizes", [(0,), (64,), (100, 4096), (0, 4096), (2000,), (4096,), (1, 2, 3), (0, 0, 200)])
def test_peer_changes_its_table(sizes):
    client, peer = connected(), Peer()
    client.request_each(PLAN, values(1), b"", None)
    for octets in blocks_of(client.data_to_send()):
        peer.read(octets)
    for size in sizes:
        client.receive(frames.settings([(frames.HEADER_TABLE_SIZE, size)]))
        peer.decoder.max_allowed_table_size = size
        peer.decoder.header_table_size = min(size, peer.decoder.header_table_size)
    for rows in (1, 3):
        client.request_uniform(PLAN, columns(rows), b"", None)
        found = blocks_of(client.data_to_send())
        assert [peer.read(octets) for octets in found] == [expected(PLAN, row) for row in values(rows)]
    assert peer.decoder.header_table_size <= min(4096, sizes[-1])


def test_table_falls_and_rises_within_one_settings_frame():
    client, peer = connected(), Peer()
    client.request_each(PLAN, values(1), b"", None)
    peer.read(blocks_of(client.data_to_send())[0])
    client.receive(frames.settings([(frames.HEADER_TABLE_SIZE, 10), (frames.HEADER_TABLE_SIZE, 4096)]))
    client.request_each(PLAN, values(2), b"", None)
    first, second = blocks_of(client.data_to_send())
    assert first.startswith(b"\x20\x3f\xe1\x1f")
    assert [peer.read(first), peer.read(second)] == [expected(PLAN, row) for row in values(2)]


def test_settings_are_acknowledged_behind_what_the_old_ones_made():
    client = connected()
    client.request_each(PLAN, values(2), b"{}", None)
    client.receive(frames.settings([(frames.HEADER_TABLE_SIZE, 0)]) + frames.frame(frames.PING, 0, 0, b"12345678"))
    client.request_each(PLAN, values(1), b"{}", None)
    kinds = [(kind, flags & frames.ACK) for kind, flags, _, _ in cut_frames(client.data_to_send())]
    headers, body, ack = (frames.HEADERS, 0), (frames.DATA, 1), (frames.SETTINGS, 1)
    assert kinds == [(frames.PING, 1), headers, body, headers, body, ack, headers, body]


def test_blocks_longer_than_a_frame_are_continued():
    plan = HeaderPlan((*SIMPLE.fields, Field(b"x-long", b"v" * 40_000, Indexing.WITHOUT)))
    client, peer = connected(), Peer()
    peer.decoder.max_header_list_size = 100_000
    client.request_uniform(plan, [column([b"aa", b"bb"])], b"!", None)
    octets = client.data_to_send()
    assert max(len(payload) for _, _, _, payload in cut_frames(octets)) == 16_384
    assert [peer.read(found) for found in blocks_of(octets)] == [expected(plan, [b"aa"]), expected(plan, [b"bb"])]


@pytest.mark.parametrize(
    "fields",
    [
        SIMPLE.fields[:2],
        (*SIMPLE.fields, Field(b"X-Upper", b"v")),
        (*SIMPLE.fields, Field(b"connection", b"close")),
        (*SIMPLE.fields, Field(b"te", b"gzip")),
        (*SIMPLE.fields, Field(b":late", b"v")),
        (*SIMPLE.fields, Field(b"host", b"other.test")),
        (*SIMPLE.fields, Field(b"x", b"1"), Field(b"x", b"2")),
        (*SIMPLE.fields, Field(b"x", b"a\r\nb")),
        (*SIMPLE.fields, Field(b"x", b" a")),
        (*SIMPLE.fields, Field(b"content-length", b"ten")),
        (*SIMPLE.fields, Variable(b"x", Indexing.INCREMENTAL)),
        (Field(b"x", b"y"), *SIMPLE.fields),
        (*SIMPLE.fields[:2], SIMPLE.fields[3]),
    ],
)
def test_t14_plans_that_no_request_may_have(fields):
    with pytest.raises(LocalProtocolError):
        HeaderPlan(fields)


def test_t14_values_and_lengths_are_checked_before_anything_is_queued():
    plan = HeaderPlan((*SIMPLE.fields, Field(b"content-length", b"2"), Field(b"host", b"push.test")))
    client = connected(extra=((frames.MAX_HEADER_LIST_SIZE, 300),))
    window = client.window
    for wrong in (b"a\nb", b" a", b"a\x00", b"a\x7f"):
        with pytest.raises(LocalProtocolError):
            client.request_each(plan, [[b"ok"], [wrong]], b"{}", None)
        with pytest.raises(LocalProtocolError):
            client.request_uniform(plan, [column([wrong, wrong])], b"{}", None)
    with pytest.raises(LocalProtocolError):
        client.request_each(plan, [[b"ok"]], b"three", None)
    with pytest.raises(LocalProtocolError):
        client.request_each(plan, [[b"p" * 300]], b"{}", None)
    with pytest.raises(LocalProtocolError):
        client.request_uniform(plan, [], b"{}", None)
    assert (client.data_to_send(), client.open_streams, client.window) == (b"", 0, window)
    client.request_each(plan, [[b"ok"]], b"{}", None)


NAMES = st.from_regex(rb"x-[a-z0-9]{1,12}", fullmatch=True)
VALUES = st.from_regex(rb"[!-~]{1,60}", fullmatch=True)


@st.composite
def plans(draw):
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    rest = []
    for name in names:
        indexing = draw(st.sampled_from(Indexing))
        if indexing is not Indexing.INCREMENTAL and draw(st.booleans()):
            rest.append(Variable(name, indexing, draw(st.sampled_from([b"", b"p-"]))))
        else:
            rest.append(Field(name, draw(VALUES), indexing))
    return HeaderPlan((*SIMPLE.fields, *rest))


@settings(max_examples=60)
@given(st.lists(plans(), min_size=1, max_size=6), st.data())
def test_any_plans_in_any_order_decode_to_what_was_planned(choice, given_data):
    encoder, peer = Encoder(), Peer()
    for _ in range(12):
        if given_data.draw(st.integers(0, 5)) == 0:
            size = given_data.draw(st.integers(0, 5000))
            encoder.resize(size, size)
            peer.decoder.max_allowed_table_size = size
        plan = given_data.draw(st.sampled_from(choice))
        row = [given_data.draw(VALUES) for _ in plan.variables]
        compiled = encoder.compile(plan, [v.prefix + value for v, value in zip(plan.variables, row, strict=True)])
        for pieces in (compiled.seed, compiled.steady):
            if pieces is not None:
                assert peer.read(block(pieces, plan.variables, row)) == expected(plan, row)


def test_h2_reads_requests_of_every_kind():
    pair = Pair(ConnectionSettings(), streams=500)
    pair.client.request_uniform(PLAN, columns(120), b"b" * 300, None)
    pair.client.request_each(PLAN, values(5), [b"", b"a", b"b" * 20_000, b"c" * 16_384, b"d" * 16_385], None)
    events = pair.step()
    assert list(pair.requests(events).values()) == [expected(PLAN, row) for row in (*values(120), *values(5))]
    bodies: dict[int, bytes] = {}
    for event in events:
        if type(event).__name__ == "DataReceived":
            bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
    sizes = [300] * 120 + [0, 1, 20_000, 16_384, 16_385]
    assert [len(bodies.get(1 + 2 * row, b"")) for row in range(125)] == sizes
    assert sum(type(event).__name__ == "StreamEnded" for event in events) == 125
