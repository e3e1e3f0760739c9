"""The fast path takes nothing that the frame-by-frame path would not have taken with the same result."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http2 import Connection, ConnectionSettings, ErrorCode, fastpath, frames
from protocols.http2.cancels import PING_PREFIX
from protocols.http2.responses import Responses

from .pair import SIMPLE, Summary, broken_by, connected, cut_frames, data, encoder, feed, head


class NoFastPath:
    """Leaves every frame to the reader."""

    def begin(self) -> None:
        """Nothing to begin."""

    def settle(self, octets: bytes, at: int) -> int:
        """Takes nothing."""
        return at


class Counting:
    """How many rows were advanced in bulk, over all connections of a test: in order, and in any."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.in_order = self.in_any = 0
        advance, advance_rows = Responses.advance, Responses.advance_rows

        def any_order(*args: object, **kwargs: object) -> int:
            taken = advance(*args, **kwargs)
            self.in_any += taken
            return taken

        def order(*args: object, **kwargs: object) -> int:
            taken = advance_rows(*args, **kwargs)
            self.in_order += taken
            return taken

        monkeypatch.setattr(Responses, "advance", any_order)
        monkeypatch.setattr(Responses, "advance_rows", order)

    @property
    def rows(self) -> int:
        """Of both."""
        return self.in_order + self.in_any


@pytest.fixture
def counting(monkeypatch):
    return Counting(monkeypatch)


def client_with(runs: list[int], *, fast: bool = True, zero: bool = True) -> Connection:
    """A client with runs of these sizes outstanding from stream 3 on, its peer's table emptied if asked for."""
    client = connected(ConnectionSettings(header_table_size_zero=zero, nuisance_max=10**6), streams=2000)
    client.request_each(SIMPLE, [[b"first"]], b"", "first")
    client.receive(head(1, b"\x20\x88" if zero else b"\x88", last=True))
    for size in runs:
        client.request_each(SIMPLE, [[b"x"]] * size, b"", size)
    client.data_to_send()
    if not fast:
        client._reader._fast_path = NoFastPath()
    return client


def comparable(summary: Summary, sent: bytes) -> tuple:
    """All that must not depend on the path or on cuts; credit and the PINGs of resets come when they come."""
    replies = [f for f in cut_frames(sent) if f[0] != frames.WINDOW_UPDATE and not f[3].startswith(PING_PREFIX)]
    on_connection, on_streams = ([f for f in replies if bool(f[2]) is on] for on in (False, True))
    return (*(getattr(summary, name) for name in Summary.__dataclass_fields__), on_connection, on_streams)


def same_both_ways(runs: list[int], octets: bytes, *, zero: bool = True) -> Summary:
    """What the octets tell, which must be the same by either path and for any cut."""
    results, states = [], []
    for fast, pieces in (
        (True, [octets]),
        (False, [octets]),
        (True, [octets[at : at + 1_000] for at in range(0, len(octets), 1_000)]),
    ):
        client = client_with(runs, fast=fast, zero=zero)
        summary, sent = feed(client, pieces)
        results.append(comparable(summary, sent))
        open_runs = [(run.first_stream, run.outstanding().tolist()) for run in client._registry.runs]
        counters = (client._reader.receive_window._consumed, client._guard._nuisances, client._guard._refusals)
        states.append((client.open_streams, client._registry.open, open_runs, counters))
    assert results[0] == results[1] == results[2]
    assert states[0] == states[1] == states[2]
    return summary


def streams(count: int) -> range:
    return range(3, 3 + 2 * count, 2)


def block(size: int) -> bytes:
    """`:status 200` and a `date` of that many octets."""
    return b"\x88\x0f\x12" + bytes((size,)) + b"d" * size


BLOCK = block(22)


def whole(ids) -> bytes:
    return b"".join(head(s, BLOCK, last=True) for s in ids)


def in_turn(ids) -> bytes:
    return b"".join(head(s, BLOCK) + data(s, last=True) for s in ids)


def in_two_runs(ids) -> bytes:
    return b"".join(head(s, BLOCK) for s in ids) + b"".join(data(s, last=True) for s in ids)


def with_body(ids) -> bytes:
    return b"".join(head(s, BLOCK) + data(s, b"0123456789", last=True) for s in ids)


def answered_early(ids) -> bytes:
    """As nginx does, which answers before it has read the body and then wants no more of it."""
    return b"".join(head(s, BLOCK, last=True) + frames.rst_stream(s, 0) for s in ids)


def with_block(octets: bytes, fields: bytes) -> bytes:
    """The same frames with another block in every HEADERS."""
    return b"".join(
        frames.frame(kind, flags, stream, fields if kind == frames.HEADERS else payload)
        for kind, flags, stream, payload in cut_frames(octets)
    )


SHAPES = [whole, in_turn, in_two_runs, with_body, answered_early]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("runs", [[500], [100, 1, 300, 99], [20] * 25])
def test_repeating_frames_settle_in_bulk(shape, runs, counting):
    summary = same_both_ways(runs, shape(streams(500)))
    assert summary.statuses == dict.fromkeys(streams(500), 200)
    assert counting.rows >= 500


@pytest.mark.parametrize("shape", SHAPES)
def test_any_order_of_streams(shape, counting):
    ids = list(streams(500))
    random.Random(7).shuffle(ids)
    summary = same_both_ways([300, 200], shape(ids))
    assert len(summary.statuses) == 500
    assert counting.rows >= 500


@pytest.mark.parametrize("shape", SHAPES)
def test_many_runs_of_one_row(shape):
    assert len(same_both_ways([1] * 200, shape(streams(200))).statuses) == 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("at", [0, 1, 30, 99])
def test_a_stream_that_stands_twice_is_an_error(shape, at):
    ids = list(streams(100))
    octets = shape([*ids[:50], ids[at], *ids[50:]])
    summary = same_both_ways([100], octets)
    if shape is in_two_runs:  # the second HEADERS would be trailers without END_STREAM, the second DATA is too late
        assert ids[at] in summary.resets or summary.error == ErrorCode.STREAM_CLOSED
    elif at < 50:
        assert summary.error == ErrorCode.STREAM_CLOSED
        assert len(summary.statuses) == 50
    else:
        assert summary.error == ErrorCode.STREAM_CLOSED
        assert len(summary.statuses) == 100


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("odd", [1, 0, 2, 4, 205, 2**31 - 1, 3 + 2**31])
def test_a_stream_that_does_not_belong(shape, odd):
    ids = list(streams(100))
    summary = same_both_ways([100], shape([*ids[:60], odd, *ids[60:]]))
    if odd == 3 + 2**31 and shape is in_two_runs:  # the reserved bit: stream 3 again, and its HEADERS no trailers
        assert summary.resets == {3: ErrorCode.PROTOCOL_ERROR}
    else:
        assert summary.error in (ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED)
    assert set(summary.statuses) <= set(ids)


@pytest.mark.parametrize("shape", SHAPES)
def test_dropped_and_reset_streams_among_them(shape):
    for fast in (True, False):
        client = client_with([100], fast=fast)
        run = client._registry.runs[0]
        client.reset(run, np.array([0, 40, 41, 99]))
        client.receive(frames.rst_stream(run.stream(70), 7))
        ids = [s for s in streams(100) if s != run.stream(70)]
        summary, _ = feed(client, [shape(ids)])
        assert sorted(summary.statuses) == [s for s in ids if (s - 3) // 2 not in (0, 40, 41, 99)]
        assert client.open_streams == 4


def test_every_other_answer_is_a_refusal():
    server = encoder()
    refusal = server.encode([(b":status", b"410"), (b"apns-id", b"i")])[1:]
    octets = b"".join(
        head(s, BLOCK, last=True) if s % 4 == 1 else head(s, refusal) + data(s, b"{}", last=True) for s in streams(300)
    )
    summary = same_both_ways([300], octets)
    assert sorted(set(summary.statuses.values())) == [200, 410]
    assert len(summary.bodies) == 150


@pytest.mark.parametrize("shape", SHAPES)
def test_other_statuses_of_the_same_length(shape):
    octets = shape(streams(300))
    for s in (3, 105, 301, 303, 601):  # 404 in place of 200
        last = shape in (whole, answered_early)
        octets = octets.replace(head(s, BLOCK, last=last), head(s, b"\x8d" + BLOCK[1:], last=last))
    summary = same_both_ways([300], octets)
    assert [s for s, status in summary.statuses.items() if status == 404] == [3, 105, 301, 303, 601]
    assert len(summary.statuses) == 300


@pytest.mark.parametrize("shape", SHAPES)
def test_an_open_header_block_lets_nothing_between(shape):
    summary = same_both_ways([100], frames.frame(frames.HEADERS, 0, 3, b"\x88") + shape(range(5, 105, 2)))
    assert (summary.error, summary.statuses) == (ErrorCode.PROTOCOL_ERROR, {})


def test_blocks_of_differing_lengths():
    octets = b"".join(head(s, block(20 + s % 5), last=True) for s in streams(300))
    octets += in_turn(range(603, 803, 2))
    assert len(same_both_ways([300, 100], octets).statuses) == 400


def test_without_stateless_blocks_only_data_goes_in_bulk(counting):
    client = client_with([300], zero=False)
    summary, _ = feed(client, [in_two_runs(streams(300))])
    assert len(summary.statuses) == 300
    assert counting.rows > 250
    same_both_ways([300], in_two_runs(streams(300)), zero=False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 22, 90])
def test_a_peer_that_keeps_its_table_is_settled_in_bulk_once_its_block_is_known(shape, size, counting):
    # A date with indexing, then what says the same by index.
    first = head(3, b"\x88\x61" + bytes((size,)) + b"d" * size, last=True)
    octets = with_block(shape(range(5, 605, 2)), b"\x88\xbe")
    summary = same_both_ways([301], first + octets, zero=False)
    assert summary.statuses == dict.fromkeys(streams(301), 200)
    assert counting.rows >= 280


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_octets_mean_another_thing_once_the_table_changed(shape):
    octets = head(3, b"\x48\x03200", last=True) + with_block(shape(range(5, 105, 2)), b"\xbe")
    octets += head(105, b"\x48\x03410", last=True) + with_block(shape(range(107, 207, 2)), b"\xbe")
    summary = same_both_ways([102], octets, zero=False)
    assert summary.statuses == {s: 200 if s < 105 else 410 for s in streams(102)}


@pytest.mark.parametrize("update", [b"\x20", b"\x20\x3f\xe1\x1f"])
def test_an_emptied_table_takes_what_was_known_with_it(update):
    octets = head(3, b"\x48\x03200", last=True) + b"".join(head(s, b"\xbe", last=True) for s in range(5, 105, 2))
    octets += head(105, update + b"\x88", last=True) + head(107, b"\xbe", last=True)
    summary = same_both_ways([60], octets, zero=False)
    assert summary.statuses == dict.fromkeys(range(3, 107, 2), 200)
    assert summary.error == ErrorCode.COMPRESSION_ERROR


def test_a_block_known_from_before_the_acknowledgement_must_still_shrink_the_table():
    client = connected(ConnectionSettings(header_table_size_zero=True), ack=False)
    client.request_each(SIMPLE, [[b"x"]] * 3, b"", None)
    client.receive(head(1, b"\x88", last=True) + head(3, b"\x88", last=True))
    acknowledgement = frames.frame(frames.SETTINGS, frames.ACK, 0)
    assert broken_by(client, acknowledgement + head(5, b"\x88", last=True)) == ErrorCode.COMPRESSION_ERROR


def test_a_block_that_says_a_length_is_held_to_it_where_the_peer_keeps_its_table():
    length = b"\x88\x0f\x0d\x01"
    octets = b"".join(head(s, length + b"2") + data(s, b"{}", last=True) for s in streams(60))
    octets += head(123, length + b"2") + data(123, b"{", last=True)
    octets += head(125, length + b"0") + data(125, b"", last=True)
    summary = same_both_ways([70], octets, zero=False)
    assert summary.statuses == dict.fromkeys([*streams(60), 125], 200)
    assert summary.resets == {123: ErrorCode.PROTOCOL_ERROR}


@pytest.mark.parametrize(("per_answer", "nuisances"), [(16, 50), (2, 1), (1, 1), (0, 499), (0, 50), (16, 0)])
def test_t32_resets_behind_answers_count_as_by_turns(per_answer, nuisances):
    found = []
    for fast in (True, False):
        given = ConnectionSettings(nuisance_max=nuisances, nuisance_per_answer=per_answer)
        client = connected(given, streams=2000, window=0)
        client.request_each(SIMPLE, [[b"first"]], b"", "first")
        client.receive(head(1, b"\x20\x88", last=True))
        client.request_each(SIMPLE, [[b"x"]] * 500, b"", None)
        client.data_to_send()
        if not fast:
            client._reader._fast_path = NoFastPath()
        summary, _ = feed(client, [answered_early(streams(500))])
        found.append((summary.statuses, summary.error, client._guard._nuisances))
    assert found[0] == found[1]
    broken = not per_answer or not nuisances
    assert found[0][1] == (ErrorCode.ENHANCE_YOUR_CALM if broken else None)
    assert len(found[0][0]) == (nuisances + 1 if broken else 500)


def test_an_unfinished_upload_leaves_all_to_the_reader(counting):
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 5),))
    client.request_each(SIMPLE, [[b"a"]], b"", None)
    client.receive(head(1, b"\x20\x88", last=True))
    client.request_each(SIMPLE, [[b"a"]] * 50, [b"x" * 10, *[b""] * 49], None)
    client.data_to_send()
    summary, _ = feed(client, [whole(streams(50))])
    assert len(summary.statuses) == 50
    assert counting.rows == 0
    assert client.open_streams == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_cut_at_every_point(shape):
    octets = shape(streams(40)) + head(83, b"\x8d", last=True)
    expected = None
    for cut in range(len(octets) + 1):
        client = client_with([41])
        summary, sent = feed(client, [octets[:cut], octets[cut:]])
        found = comparable(summary, sent)
        expected = expected or found
        assert found == expected
    assert len(summary.statuses) == 41


@st.composite
def octets_of_many_kinds(draw):
    """Stretches of repeating frames, with odd frames between them, over streams in some order."""
    ids = list(streams(160))
    if draw(st.booleans()):
        random.Random(draw(st.integers(0, 1000))).shuffle(ids)
    server, out, at = encoder(), b"", 0
    refusal = server.encode([(b":status", b"400")])[1:]
    while at < len(ids):
        count = draw(st.integers(1, 60))
        some, at = ids[at : at + count], at + count
        kind = draw(st.integers(0, 9))
        if kind < 5:
            out += draw(st.sampled_from(SHAPES))(some)
        elif kind == 5:
            out += b"".join(head(s, refusal) + data(s, b"{}", last=True) for s in some)
        elif kind == 6:
            out += b"".join(frames.rst_stream(s, 7) for s in some)
        elif kind == 7:
            out += b"".join(head(s, BLOCK) + data(s, b"abc", pad=3) + data(s, last=True) for s in some)
        elif kind == 8:
            out += whole(some) + draw(st.sampled_from([frames.window_update(0, 9), frames.frame(6, 0, 0, bytes(8))]))
        elif draw(st.booleans()):
            out += whole([*some, some[0]])  # an error
    if draw(st.integers(0, 3)) == 0:
        position = draw(st.integers(0, len(out) - 1))
        out = out[:position] + bytes((out[position] ^ draw(st.integers(1, 255)),)) + out[position + 1 :]
    return out


@settings(max_examples=120, deadline=None)
@given(octets_of_many_kinds(), st.sampled_from([[160], [80, 80], [1, 2, 3, 4, 50, 100], [40, 1, 1, 118]]))
def test_both_paths_agree_on_anything(octets, runs):
    same_both_ways(runs, octets)


@settings(max_examples=60, deadline=None)
@given(octets_of_many_kinds(), st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_any_cuts_change_nothing(octets, sizes):
    pieces, at, turn = [], 0, 0
    while at < len(octets):
        pieces.append(octets[at : at + sizes[turn % len(sizes)]])
        at += len(pieces[-1])
        turn += 1
    one, two = client_with([160]), client_with([160])
    assert comparable(*feed(one, [octets])) == comparable(*feed(two, pieces))
    assert one.open_streams == two.open_streams


GONE = b"\x08\x03410"
"""`:status 410`, without indexing."""
BUSY = b"\x48\x03503"
"""`:status 503` with indexing, where there is a table: what stood first in it stands second from then on."""


def refused(stream: int, status: bytes) -> tuple[bytes, bytes]:
    """HEADERS and DATA of an answer that is no 200."""
    return head(stream, status), data(stream, b'{"reason":"Unregistered"}', last=True)


def mixed(ids: list[int], refusals: dict[int, bytes], shape: str, fields: bytes) -> list[bytes]:
    """Frames of answers of which some are refusals, as servers send them."""
    heads, rest = [], []
    for stream in ids:
        if stream in refusals:
            first, second = refused(stream, refusals[stream])
        elif shape == "whole":
            first, second = head(stream, fields, last=True), b""
        elif shape == "early":
            first, second = head(stream, fields, last=True), frames.rst_stream(stream, 0)
        else:
            first, second = head(stream, fields), data(stream, last=True)
        heads.append(first)
        rest.append(second)
    if shape in ("early", "in turn"):
        return [frame for pair in zip(heads, rest, strict=True) for frame in pair]
    return heads + rest


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("shape", ["whole", "early", "in turn", "in two runs"])
def test_refusals_among_answers_in_order_leave_the_others_in_bulk(shape, zero, counting):
    refusals = {s: GONE if s % 3 else b"\x08\x03503" for s in streams(900)[40::45]}
    fields = b"\x88" if zero else b"\x88\xbe"
    first = head(3, b"\x88\x61\x01d", last=True) + head(5, fields, last=True)
    octets = first + b"".join(mixed(list(streams(900))[2:], refusals, shape, fields))
    summary = same_both_ways([300, 500, 100], octets, zero=zero)
    assert {s for s, status in summary.statuses.items() if status != 200} == set(refusals)
    assert len(summary.bodies) == len(refusals) == 20
    assert len(summary.statuses) == 900
    assert counting.in_order > 1_500  # of both clients that have a fast path, and each of two frames counts
    assert counting.in_any < counting.in_order // 8  # where a cut goes through a pair


def test_answers_stand_in_the_order_in_which_they_came():
    refusals = dict.fromkeys(streams(200)[20::30], GONE)
    for shape in ("whole", "in two runs"):
        octets = b"".join(mixed(list(streams(200)), refusals, shape, BLOCK))
        order = [status for some in same_both_ways([200], octets).answers.values() for _, status in some]
        expected = [410 if s in refusals else 200 for s in streams(200)]
        assert order == (expected if shape == "in two runs" else [200] * 194 + [410] * 6)


def test_the_last_stream_ids_that_there_are():
    last = frames.STREAM_ID_MAX
    results = []
    for fast in (True, False):
        client = connected(ConnectionSettings(first_stream_id=last - 598), streams=2000)
        client.request_each(SIMPLE, [[b"x"]], b"", "first")
        client.receive(head(last - 598, b"\x20\x88", last=True))
        client.request_each(SIMPLE, [[b"x"]] * 299, b"", "rest")
        client.data_to_send()
        if not fast:
            client._reader._fast_path = NoFastPath()
        ids = range(last - 596, last + 1, 2)
        summary, _ = feed(client, [whole(ids), whole(range(last + 2, last + 100, 2))])
        assert summary.statuses == dict.fromkeys(ids, 200)
        assert summary.error in (ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED)
        results.append(summary)
    assert results[0] == results[1]


@pytest.mark.parametrize("ids", [range(4, 84, 2), [2**32 - 1] * 40])
def test_stretches_of_streams_that_cannot_be(ids):
    summary = same_both_ways([100], whole(ids))
    assert (summary.error, summary.statuses.keys() - {3}) == (ErrorCode.PROTOCOL_ERROR, set())


def test_the_reserved_bit_means_nothing():
    assert len(same_both_ways([100], whole(range(2**31 + 3, 2**31 + 83, 2))).statuses) == 40


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("other", [b"\x88\xbf", b"\x88\x89", b"\x88\x84"])
def test_another_block_of_the_same_length_where_the_peer_keeps_its_table(shape, other):
    first = head(3, b"\x88\x61\x01d", last=True) + with_block(shape(range(5, 45, 2)), b"\x88\xbe")
    octets = first + with_block(shape(range(45, 47, 2)), other) + with_block(shape(range(47, 87, 2)), b"\x88\xbe")
    summary = same_both_ways([60], octets, zero=False)
    assert summary.error is not None or 45 in summary.resets


HOSTILE = (
    lambda rng, s: frames.rst_stream(s, rng.choice((0, 7, 8))),
    lambda rng, s: frames.goaway(rng.choice((0, s, s - 2, 2**31 - 1)), 0, b"bye"),
    lambda rng, s: frames.settings([(frames.INITIAL_WINDOW_SIZE, rng.choice((0, 100, 2**31)))]),
    lambda rng, s: frames.window_update(rng.choice((0, s)), 1),
    lambda rng, s: frames.frame(frames.PUSH_PROMISE, 4, s, bytes(4) + b"\x88"),
    lambda rng, s: frames.frame(frames.CONTINUATION, 4, s, b"\x88"),
    lambda rng, s: frames.frame(frames.HEADERS, 0, s, b"\x88") + frames.frame(frames.CONTINUATION, 4, s, b""),
    lambda rng, s: frames.frame(99, 255, s, b"what"),
    lambda rng, s: head(s, rng.choice((GONE, BUSY, b"\x88", b"\x89", b"\x48\x03100", b"", b"\x20", b"\x20\x88"))),
    lambda rng, s: head(s, b"\x88\x40\x01a\x01b", last=True),
    lambda rng, s: data(s, b"abc", last=rng.random() < 0.5, pad=rng.choice((None, 0, 9))),
    lambda rng, s: data(s, b"", last=rng.random() < 0.7),
    lambda rng, s: head(rng.choice((0, 2, s + 1, s + 1_000, s + 2**31)), b"\x88", last=True),
    lambda rng, s: head(s, BLOCK, last=True, flags=frames.HAS_PRIORITY),
)
"""Frames that do not belong, or bear on what comes after them."""


def hostile_mixture(rng: random.Random, count: int, *, zero: bool) -> bytes:
    """Answers in order, of which some are refused, with frames that do not belong among them."""
    fields = b"\x88" if zero else b"\x88\xbe"
    out = b"" if zero else head(3, b"\x88\x61\x01d", last=True) + head(5, fields, last=True)
    ids = list(streams(count))[0 if zero else 2 :]
    while ids:
        some, ids = ids[: rng.randint(20, 120)], ids[120:] if rng.random() < 0.1 else ids[rng.randint(20, 120) :]
        refusals = {s: rng.choice((GONE, GONE, GONE, BUSY)) for s in some if rng.random() < 0.05}
        answers = mixed(some, refusals, rng.choice(("whole", "early", "in turn", "in two runs")), fields)
        if rng.random() < 0.3:  # a refusal's body, or anything else, some frames later
            answers.insert(min(len(answers), rng.randint(1, 40)), answers.pop(rng.randrange(len(answers))))
        for _ in range(rng.choice((0, 0, 1, 3))):
            answers.insert(rng.randint(0, len(answers)), rng.choice(HOSTILE)(rng, rng.choice(some)))
        out += b"".join(answers)
    if rng.random() < 0.2:
        at = rng.randrange(len(out))
        out = out[:at] + bytes((out[at] ^ rng.randint(1, 255),)) + out[at + 1 :]
    return out


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_both_paths_agree_on_mixed_answers(seed, zero):
    rng = random.Random(seed)
    runs = rng.choice(([400], [100] * 4, [1, 299, 50, 50], [7] * 57 + [1]))
    same_both_ways(runs, hostile_mixture(rng, 400, zero=zero), zero=zero)


def test_the_probe_is_worth_its_cost():
    assert fastpath.PROBE * frames.HEADER_BYTES < 16_384
