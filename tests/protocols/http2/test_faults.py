"""Faults of servers that are honest, or nearly so: what the client makes of them (X-03 to X-16)."""

from __future__ import annotations

import h2.events
import h2.settings
import numpy as np
import pytest

from protocols.errors import LocalProtocolError
from protocols.http2 import Connection, ConnectionSettings, ErrorCode, frames

from .pair import (
    PLAN,
    SIMPLE,
    Pair,
    column,
    columns,
    connected,
    cut_frames,
    data,
    encoder,
    feed,
    head,
    stateless,
    values,
)

REFUSED = ErrorCode.REFUSED_STREAM


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frames.goaway(last, code, debug)


def test_x03_stream_limits_rise_and_fall_under_load():
    pair = Pair(streams=1)
    # h2 raises if the client opens more streams than the limit that it has acknowledged.
    waiting: list[int] = []
    answered = most = 0
    limits = [1, 1000, 1, 0, 500]
    for limit in limits:
        pair.server.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        pair.step()
        pair.step()
        assert pair.client.stream_limit == limit
        for _ in range(3):
            room = pair.client.room(50)
            assert room == max(0, limit - len(waiting))
            if room:
                pair.client.request_uniform(PLAN, columns(room), b"x" * 50, None)
                waiting += pair.requests(pair.step())
            most = max(most, len(waiting))
            done, waiting = waiting[: len(waiting) // 2 + 1], waiting[len(waiting) // 2 + 1 :]
            for stream in done:
                pair.server.send_headers(stream, [(b":status", b"200")], end_stream=True)
            answered += len(done)
            pair.step()
    assert most == 1000
    assert len(pair.summary.statuses) == answered


def test_x04_one_stream_before_settings():
    client = Connection(ConnectionSettings())
    client.initiate()
    assert client.room(100) == 1
    client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    assert client.room(0) == 0
    with pytest.raises(LocalProtocolError):
        client.request_each(SIMPLE, [[b"b"]], b"", None)
    client.receive(frames.settings([(frames.MAX_CONCURRENT_STREAMS, 10)]))
    assert client.room(0) == 9


def test_x05_refused_twice_each():
    client, run = stateless(100)
    refused = list(range(0, 100, 3))
    octets = b""
    for row in range(100):
        stream = run.stream(row)
        if row in refused:
            octets += frames.rst_stream(stream, REFUSED) + frames.rst_stream(stream, ErrorCode.STREAM_CLOSED)
        else:
            octets += head(stream, b"\x88", last=True)
    summary, _ = feed(client, [octets])
    assert summary.resets == {run.stream(row): REFUSED for row in refused}
    assert len(summary.statuses) == 100 - len(refused)
    assert (run.open, client.open_streams) == (0, 0)


def test_x06_goaway_twice_then_silence():
    client, run = stateless(10)
    first = client.receive(goaway(2**31 - 1))
    assert first.goaway == (2**31 - 1, 0, b"")
    assert (first.unprocessed, client.draining, client.room(0)) == ([], True, 0)
    summary, _ = feed(
        client, [goaway(run.stream(3)), goaway(run.stream(3)), goaway(run.stream(6)), goaway(run.stream(2))]
    )
    assert sorted(summary.unprocessed) == [run.stream(row) for row in range(3, 10)]
    assert run.outstanding().tolist() == [0, 1, 2]
    octets = [head(run.stream(row), b"\x88", last=True) for row in (0, 1, 8)]
    assert list(feed(client, octets)[0].statuses) == [run.stream(0), run.stream(1)]
    assert run.outstanding().tolist() == [2]


def test_x06_what_has_begun_to_be_answered_was_processed():
    client, run = stateless(4)
    refusal = encoder().encode([(b":status", b"400")])
    octets = head(run.stream(1), b"\x88") + head(run.stream(2), refusal) + goaway(0)
    octets += data(run.stream(1), last=True) + data(run.stream(2), b"{}", last=True)
    summary, _ = feed(client, [octets])
    assert summary.unprocessed == [run.stream(0), run.stream(3)]
    assert summary.statuses == {run.stream(1): 200, run.stream(2): 400}


def test_x06_goaway_spans_runs():
    client, _ = stateless(3)
    client.request_each(SIMPLE, [[b"a"]] * 3, b"", "later")
    received = client.receive(goaway(5))
    assert [(run.tag, rows.tolist()) for run, rows in received.unprocessed] == [("run", [2]), ("later", [0, 1, 2])]


@pytest.mark.parametrize("debug", [b"", b'{"reason":"Shutdown"}', b"plain text", bytes(range(256)), b"\xff" * 16_376])
def test_x08_goaway_with_any_debug_data(debug):
    client, _ = stateless()
    received = client.receive(goaway(0, 11, debug))
    assert received.goaway == (0, 11, debug[:1024])


@pytest.mark.parametrize("pad", [None, 0, 5, 255])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_x10_bodies_in_small_pieces_with_padding_and_empty_frames(pad, size):
    client, run = stateless(2)
    body = b'{"reason":"BadDeviceToken"}'
    octets = head(run.stream(1), encoder().encode([(b":status", b"400")]))
    for at in range(0, len(body), size):
        octets += data(run.stream(1), body[at : at + size], pad=pad) + data(run.stream(1))
    octets += data(run.stream(1), last=True, pad=pad)
    summary, _ = feed(client, [octets])
    assert summary.bodies == {run.stream(1): body}


def test_x11_refusals_of_every_shape():
    client, run = stateless(4)
    server = encoder()
    html = b"<html>" + b"x" * 20_000
    octets = [
        head(run.stream(0), server.encode([(b":status", b"503")]), last=True),
        head(run.stream(1), server.encode([(b":status", b"502"), (b"content-type", b"text/html")])),
        data(run.stream(1), html[:10_000]) + data(run.stream(1), html[10_000:], last=True),
        head(run.stream(2), server.encode([(b":status", b"103")])),
        head(run.stream(2), server.encode([(b":status", b"429"), (b"retry-after", b"5")])),
        data(run.stream(2), b"{}"),
        head(run.stream(2), server.encode([(b"grpc-status", b"0")]), last=True),
        head(run.stream(3), server.encode([(b":status", b"500"), (b"content-encoding", b"gzip")])),
        data(run.stream(3), b"\x1f\x8b\x08\x00", last=True),
    ]
    summary, _ = feed(client, octets)
    assert list(summary.statuses.values()) == [503, 502, 429, 500]
    assert summary.bodies == {run.stream(1): html[:16_384], run.stream(2): b"{}"}
    assert summary.headers[run.stream(2)] == [(b"retry-after", b"5")]


def test_x12_answers_are_matched_by_stream_alone():
    client, run = stateless(3)
    server = encoder()
    octets = [
        head(run.stream(2), server.encode([(b":status", b"410"), (b"apns-id", b"same")]), last=True),
        head(run.stream(0), server.encode([(b":status", b"400"), (b"apns-id", b"same")]), last=True),
        head(run.stream(1), server.encode([(b":status", b"403")]), last=True),
    ]
    summary, _ = feed(client, octets)
    assert summary.statuses == {run.stream(2): 410, run.stream(0): 400, run.stream(1): 403}


def test_x13_endless_rejections_never_stall_the_window():
    client, run = stateless(500)
    refusal = encoder().encode([(b":status", b"410")])
    credit, rejected = 2**31 - 1, 0
    body = b'{"reason":"Unregistered","timestamp":1700000000000}' * 20
    for _ in range(200):
        octets = b"".join(head(run.stream(row), refusal) + data(run.stream(row), body, last=True) for row in range(500))
        summary, sent = feed(client, [octets])
        rejected += len(summary.statuses)
        credit -= 500 * len(body)
        credit += sum(int.from_bytes(p, "big") for kind, _, _, p in cut_frames(sent) if kind == frames.WINDOW_UPDATE)
        assert credit > 2**30
        run = client.request_each(SIMPLE, [[b"x"]] * 500, b"", "run")
        client.data_to_send()
    assert rejected == 100_000


def test_x14_the_connection_window_is_reserved_for_whole_bodies():
    client = connected(window=0)
    assert client.room(4_000) == 65_535 // 4_000 == 16
    client.request_uniform(SIMPLE, [column([b"%02d" % row for row in range(16)])], b"b" * 4_000, None)
    assert client.window == 65_535 - 64_000
    assert (client.room(4_000), client.room(1_000), client.room(0)) == (0, 1, 984)
    with pytest.raises(LocalProtocolError):
        client.request_each(SIMPLE, [[b"a"]], b"b" * 4_000, None)
    client.receive(frames.window_update(0, 3_000))
    assert client.room(4_000) == 1


def test_x14_tiny_stream_windows_let_bodies_drip():
    """h2 raises if either window is passed."""
    pair = Pair(streams=50, INITIAL_WINDOW_SIZE=0)
    run = pair.client.request_uniform(PLAN, columns(3), b"0123456789" * 5, "drip")
    events = pair.step()
    assert len(pair.requests(events)) == 3
    assert not [e for e in events if isinstance(e, h2.events.DataReceived)]
    pair.server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    got: dict[int, bytes] = {}
    ended = set()
    for turn in range(40):
        for event in pair.step():
            if isinstance(event, h2.events.DataReceived):
                got[event.stream_id] = got.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
        for stream in sorted({1, 3, 5} - ended):
            pair.server.increment_flow_control_window(3 + turn % 2, stream_id=stream)
    assert got == dict.fromkeys((1, 3, 5), b"0123456789" * 5)
    assert ended == {1, 3, 5}
    for stream in (1, 3, 5):
        pair.server.send_headers(stream, [(b":status", b"200")], end_stream=True)
    pair.step()
    assert (run.open, pair.client.open_streams) == (0, 0)


def test_x14_a_window_that_turns_negative_waits():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 30),))
    client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    sizes = []

    def flush() -> None:
        sizes.append(sum(len(p) for kind, _, _, p in cut_frames(client.data_to_send()) if kind == frames.DATA))

    flush()
    client.receive(frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]))  # 10 - 30 = -20
    flush()
    client.receive(frames.window_update(1, 20))  # 0
    flush()
    client.receive(frames.window_update(1, 5))
    flush()
    client.receive(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1000)]))
    flush()
    assert sizes == [30, 0, 0, 5, 65]
    assert not client._windows.uploads


def test_x14_reserved_octets_come_back_when_a_body_is_given_up():
    client = connected(window=0, extra=((frames.INITIAL_WINDOW_SIZE, 100),))
    run = client.request_each(SIMPLE, [[b"a"], [b"b"], [b"c"]], b"x" * 1_000, None)
    client.data_to_send()
    assert client.window == 65_535 - 3_000
    client.reset(run, np.array([0]))
    assert client.window == 65_535 - 3_000 + 900
    client.receive(frames.rst_stream(3, REFUSED))
    assert client.window == 65_535 - 3_000 + 1_800
    client.receive(goaway(3))
    assert client.window == 65_535 - 300
    client.receive(frames.window_update(5, 1_000))
    assert [kind for kind, *_ in cut_frames(client.data_to_send())] == [frames.RST_STREAM, frames.PING]


def test_x14_a_reset_follows_the_frames_of_its_stream():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 10),))
    run = client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    client.reset(run, np.array([0]))
    assert [kind for kind, *_ in cut_frames(client.data_to_send())] == [frames.HEADERS, frames.RST_STREAM, frames.PING]


def test_x15_stream_ids_run_out():
    settings = ConnectionSettings(first_stream_id=2**31 - 1 - 2 * 9, spare_streams=5)
    client = connected(settings)
    assert (client.room(0), client.exhausted) == (10, False)
    client.request_uniform(PLAN, columns(6), b"", None)
    assert (client.room(0), client.exhausted) == (4, True)
    run = client.request_each(PLAN, values(4), b"", None)
    assert run.stream(3) == 2**31 - 1
    assert client.room(0) == 0
    with pytest.raises(LocalProtocolError):
        client.request_each(PLAN, values(1), b"", None)
    server = encoder()
    assert feed(client, [head(2**31 - 1, server.encode([(b":status", b"200")]), last=True)])[0].statuses == {
        2**31 - 1: 200
    }


def test_a73_exhaustion_shows_long_before_the_end():
    client = connected(ConnectionSettings(first_stream_id=2**31 - 1_999_997))
    assert client.exhausted
    assert client.room(0) == 1000


def test_x16_answered_before_the_body_was_read_then_reset():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 10),))
    run = client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    client.data_to_send()
    answer = encoder().encode([(b":status", b"200")])
    summary, _ = feed(client, [head(1, answer, last=True)])
    assert (summary.statuses, run.open, client.open_streams) == ({1: 200}, 0, 1)  # its body still holds the slot
    summary, _ = feed(client, [frames.rst_stream(1, 0), frames.window_update(1, 1000)])
    assert (summary.statuses, summary.resets, client.open_streams) == ({}, {}, 0)
    assert client.data_to_send() == b""
    assert client.window == 65_535 + 2**30 - 10


def test_x16_or_the_body_is_sent_to_its_end():
    client = connected(extra=((frames.INITIAL_WINDOW_SIZE, 10),))
    client.request_each(SIMPLE, [[b"a"]], b"x" * 100, None)
    client.data_to_send()
    client.receive(head(1, encoder().encode([(b":status", b"200")]), last=True))
    client.receive(frames.window_update(1, 90))
    assert cut_frames(client.data_to_send()) == [(frames.DATA, frames.END_STREAM, 1, b"x" * 90)]
    assert client.open_streams == 0


def test_t08_a_reset_in_mid_answer_is_no_answer():
    client, run = stateless(2)
    summary, _ = feed(client, [head(run.stream(0), b"\x88"), frames.rst_stream(run.stream(0), 0)])
    assert (summary.statuses, summary.resets) == ({}, {run.stream(0): 0})


def test_a67_slots_of_resets_come_back_by_ping_and_one_ping_at_a_time():
    client, run = stateless(30, streams=30)
    client.reset(run, np.arange(10))
    first = cut_frames(client.data_to_send())
    assert [kind for kind, *_ in first] == [frames.RST_STREAM] * 10 + [frames.PING]
    client.reset(run, np.arange(5, 20))
    second = cut_frames(client.data_to_send())
    assert [kind for kind, *_ in second] == [frames.RST_STREAM] * 10  # five were reset before
    assert (run.open, client.open_streams, client.room(0)) == (10, 30, 0)
    client.receive(frames.frame(frames.PING, frames.ACK, 0, first[-1][3]))
    assert (client.open_streams, client.room(0)) == (20, 10)
    ((kind, _, _, payload),) = cut_frames(client.data_to_send())
    assert (kind, payload == first[-1][3]) == (frames.PING, False)
    assert client.receive(frames.frame(frames.PING, frames.ACK, 0, payload)).ping_acks == []
    assert client.room(0) == 20


def test_a61_a_lower_limit_opens_nothing_until_below_it():
    client, run = stateless(50)
    client.receive(frames.settings([(frames.MAX_CONCURRENT_STREAMS, 20)]))
    assert (client.room(0), run.open) == (0, 50)
    client.receive(b"".join(head(run.stream(row), b"\x88", last=True) for row in range(35)))
    assert client.room(0) == 5
