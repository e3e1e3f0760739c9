"""Random conversations: a server's frames in any legal order, against an oracle that knows the script."""

from __future__ import annotations

import random

import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http2 import ConnectionSettings, ErrorCode, frames

from .pair import PLAN, SIMPLE, Pair, Summary, column, columns, connected, data, feed, head


class Script:
    """What a server will say on one stream, and what a client must make of it."""

    def __init__(self, rng: random.Random, stream: int) -> None:
        self.stream = stream
        self.status: int | None = None
        self.body = b""
        self.reset: int | None = None
        self.lines: list[tuple] = []
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            self.lines.append(("head", [(b":status", rng.choice([b"100", b"103"])), (b"link", b"</a>")], False))
        getattr(self, rng.choice(["plain", "plain", "split", "split", "refused", "broken", "silent", "cut_short"]))(rng)

    def plain(self, rng: random.Random) -> None:
        self.status = rng.choice([200, 200, 200, 410, 503])
        self.lines.append(("head", self._fields(), True))

    def split(self, rng: random.Random) -> None:
        self.status = rng.choice([200, 400, 429])
        body = rng.randbytes(rng.choice([0, 1, 10, 300]))
        fields = self._fields()
        if rng.random() < 0.4:
            fields.append((b"content-length", b"%d" % len(body)))
        self.lines.append(("head", fields, False))
        trailers = rng.random() < 0.3
        at = 0
        while at < len(body):
            size = rng.randint(1, 60)
            self.lines.append(("data", body[at : at + size], rng.choice([None, None, 0, 9]), False))
            at += size
            if rng.random() < 0.2:
                self.lines.append(("data", b"", rng.choice([None, 3]), False))
        if trailers:
            self.lines.append(("head", [(b"x-sum", b"1")], True))
        else:
            self.lines.append(("data", b"", None, True))
        if rng.random() < 0.3:
            self.lines.append(("rst", 0))  # legal behind a whole answer
        self.body = body if self.status != 200 else b""

    def refused(self, rng: random.Random) -> None:
        self.lines = [("rst", 7)] + [("rst", 5)] * rng.randint(0, 1)
        self.reset = 7

    def broken(self, rng: random.Random) -> None:
        """Malformed, and no 200: behind that status a stateless block is left unread."""
        bad = rng.choice(
            [[(b":status", b"400"), (b"Upper", b"x")], [(b"x", b"y")], [(b":status", b"400"), (b"upgrade", b"h")]]
        )
        self.lines.append(("head", bad, rng.random() < 0.5))
        self.lines += [("data", b"late", None, False)] * rng.randint(0, 2)
        self.reset = ErrorCode.PROTOCOL_ERROR

    def silent(self, rng: random.Random) -> None:
        """Nothing more comes."""

    def cut_short(self, rng: random.Random) -> None:
        self.lines += [("head", [(b":status", b"500")], False), ("data", b"half", None, False), ("rst", 2)]
        self.reset = 2

    def _fields(self) -> list[tuple[bytes, bytes]]:
        return [(b":status", b"%d" % self.status), (b"apns-id", b"id-%d" % self.stream)]


def padded_head(rng: random.Random, stream: int, block: bytes, last: bool) -> bytes:
    """HEADERS in one frame or several, sometimes with padding or a priority."""
    flags = frames.END_STREAM if last else 0
    opening = b""
    if rng.random() < 0.2:
        flags, opening = flags | frames.HAS_PRIORITY, b"\0\0\0\0\x10"
    if rng.random() < 0.3 and len(block) > 1:
        cut = rng.randint(0, len(block))
        middle = frames.frame(frames.CONTINUATION, 0, stream, b"")
        rest = frames.frame(frames.CONTINUATION, frames.END_HEADERS, stream, block[cut:])
        return frames.frame(frames.HEADERS, flags, stream, opening + block[:cut]) + middle * rng.randint(0, 1) + rest
    flags |= frames.END_HEADERS
    if rng.random() < 0.2:
        return frames.frame(frames.HEADERS, flags | frames.PADDED, stream, b"\x04" + opening + block + bytes(4))
    return frames.frame(frames.HEADERS, flags, stream, opening + block)


def conversation(rng: random.Random, scripts: list[Script], zero: bool) -> tuple[list[bytes], list[bytes]]:
    """The frames of all scripts in a random order that keeps each script's own, and the PINGs among them."""
    encoder = hpack.Encoder()
    if zero:
        encoder.header_table_size = 0
    out, pings = [], []
    waiting = [list(script.lines) for script in scripts]
    while any(waiting):
        if rng.random() < 0.2:
            ping = rng.randbytes(8)
            extra = rng.choice(
                [
                    frames.frame(frames.PING, 0, 0, ping),
                    frames.settings([(frames.MAX_CONCURRENT_STREAMS, rng.randint(0, 900))]),
                    frames.settings([(frames.INITIAL_WINDOW_SIZE, rng.randint(0, 2**20))]),
                    frames.window_update(0, rng.randint(1, 500)),
                    frames.frame(frames.PRIORITY, 0, rng.randint(1, 2**31 - 1), bytes(5)),
                    frames.frame(rng.randint(10, 255), rng.randint(0, 255), rng.randint(0, 40), rng.randbytes(5)),
                    frames.window_update(rng.choice(scripts).stream, rng.randint(1, 500)),
                ]
            )
            if extra[3] == frames.PING:
                pings.append(ping)
            out.append(extra)
        script = rng.choice([script for script, lines in zip(scripts, waiting, strict=True) if lines])
        kind, *line = waiting[(script.stream - 1) // 2].pop(0)
        if kind == "head":
            out.append(padded_head(rng, script.stream, encoder.encode(line[0]), line[1]))
        elif kind == "data":
            out.append(data(script.stream, line[0], pad=line[1], last=line[2]))
        else:
            out.append(frames.rst_stream(script.stream, line[0]))
    return out, pings


def check(summary: Summary, scripts: list[Script]) -> None:
    assert summary.error is None
    assert summary.statuses == {s.stream: s.status for s in scripts if s.status is not None}
    assert summary.bodies == {s.stream: s.body for s in scripts if s.body and s.status != 200}
    assert summary.resets == {s.stream: s.reset for s in scripts if s.reset is not None}
    for script in scripts:
        if script.status not in (None, 200):
            assert (b"apns-id", b"id-%d" % script.stream) in summary.headers[script.stream]


@settings(max_examples=150)
@given(st.integers(0, 2**40), st.booleans(), st.integers(1, 25))
def test_t07_any_order_of_legal_frames_gives_what_the_scripts_say(seed, zero, count):
    rng = random.Random(seed)
    scripts = [Script(rng, 1 + 2 * row) for row in range(count)]
    octets, pings = conversation(rng, scripts, zero)
    client = connected(ConnectionSettings(header_table_size_zero=zero))
    runs, left = [], count
    while left:
        size = rng.randint(1, left)
        runs.append(client.request_each(SIMPLE, [[b"x"]] * size, b"", None))
        left -= size
    client.data_to_send()
    whole = b"".join(octets)
    pieces, at = [], 0
    while at < len(whole):
        step = rng.choice([1, 5, 9, 40, 300, 5000])
        pieces.append(whole[at : at + step])
        at += step
    summary, sent = feed(client, pieces)
    check(summary, scripts)
    assert [p for p in pings if frames.frame(frames.PING, frames.ACK, 0, p) not in sent] == []
    silent = [s.stream for s in scripts if s.status is None and s.reset is None]
    assert [run.stream(row) for run in runs for row in run.outstanding().tolist()] == silent


@settings(max_examples=40)
@given(st.integers(0, 2**40))
def test_a61_t04_an_h2_server_never_sees_a_limit_passed(seed):
    """h2 raises for a stream too many and for an octet beyond either window."""
    rng = random.Random(seed)
    pair = Pair(streams=rng.choice([1, 5, 60]), INITIAL_WINDOW_SIZE=rng.choice([0, 7, 500, 65_535]))
    waiting: dict[int, bool] = {}
    asked = answered = 0
    for _ in range(30):
        size = rng.choice([0, 1, 60, 700, 20_000])
        room = min(pair.client.room(size), rng.randint(0, 20))
        if room:
            if rng.random() < 0.5:
                pair.client.request_uniform(PLAN, columns(room), b"u" * size, None)
            else:
                bodies = [b"e" * rng.randint(0, size) for _ in range(room)]
                pair.client.request_each(SIMPLE, [[b"v" * rng.randint(1, 90)] for _ in range(room)], bodies, None)
            asked += room
        for event in pair.step():
            if isinstance(event, h2.events.RequestReceived):
                waiting[event.stream_id] = False
            elif isinstance(event, h2.events.StreamEnded):
                waiting[event.stream_id] = True
            elif isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                pair.server.increment_flow_control_window(event.flow_controlled_length)
        ready = [stream for stream, whole in waiting.items() if whole]
        for stream in rng.sample(ready, min(len(ready), rng.randint(0, 10))):
            del waiting[stream]
            if rng.random() < 0.2:
                pair.server.reset_stream(stream, 7)
            else:
                status = rng.choice([b"200", b"410"])
                pair.server.send_headers(stream, [(b":status", status)], end_stream=False)
                pair.server.send_data(stream, b"{}", end_stream=True)
            answered += 1
        for stream in [stream for stream, whole in waiting.items() if not whole]:
            pair.server.increment_flow_control_window(rng.randint(1, 5_000), stream_id=stream)
        if rng.random() < 0.2:
            code = rng.choice(
                [h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS, h2.settings.SettingCodes.INITIAL_WINDOW_SIZE]
            )
            pair.step()  # h2 takes any ACK for one of its newest settings: only one may be under way
            pair.server.update_settings({code: rng.choice([0, 1, 30, 65_535])})
            for event in (*pair.step(), *pair.step()):
                assert not isinstance(event, h2.events.RequestReceived)
                if isinstance(event, h2.events.StreamEnded):
                    waiting[event.stream_id] = True
        if rng.random() < 0.2:
            pair.server.ping(rng.randbytes(8))
    for _ in range(3):
        pair.step()
    assert pair.client._registry.next_stream == 1 + 2 * asked
    assert len(pair.summary.statuses) + len(pair.summary.resets) == answered
    assert pair.client.open_streams == asked - answered == len(waiting)


@pytest.mark.parametrize("zero", [True, False])
def test_cut_at_every_point(zero):
    rng = random.Random(11)
    scripts = [Script(rng, 1 + 2 * row) for row in range(12)]
    octets = b"".join(conversation(rng, scripts, zero)[0])
    for cut in range(len(octets) + 1):
        client = connected(ConnectionSettings(header_table_size_zero=zero))
        client.request_uniform(SIMPLE, [column([b"%02d" % row for row in range(12)])], b"", None)
        summary, _ = feed(client, [octets[:cut], octets[cut:]])
        check(summary, scripts)


def test_octet_by_octet():
    rng = random.Random(5)
    scripts = [Script(rng, 1 + 2 * row) for row in range(20)]
    octets = b"".join(conversation(rng, scripts, True)[0])
    client = connected()
    client.request_each(SIMPLE, [[b"x"]] * 20, b"", None)
    summary, _ = feed(client, [bytes((octet,)) for octet in octets])
    check(summary, scripts)


def test_rfc9113_8_1_a_whole_answer_after_a_plain_head():
    client = connected()
    client.request_each(SIMPLE, [[b"x"]] * 2, b"", None)
    summary, _ = feed(client, [head(1, b"\x20\x88"), head(3, b"\x88", last=True), data(1, last=True)])
    assert summary.statuses == {1: 200, 3: 200}
