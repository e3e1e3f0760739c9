"""Every scripted fault, as a client sees it on the wire."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.errors import InvalidRequestError
from pushd.model.device import Environment
from pushd.simulator.faults import (
    Answer,
    Block,
    Close,
    Fault,
    FaultBook,
    Goaway,
    IgnorePing,
    LateSettings,
    Mute,
    Reset,
    Silence,
    Slow,
)

TOKEN = "ab" * 32
TOKENS = [f"{number:064x}" for number in range(100)]
LAST_MAX = 2**31 - 1


def strike(simulator, action, **options):
    return simulator.faults.add(Fault(action=action, **options))


# Answers


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", ["Unregistered", "ExpiredToken"])
async def test_x22_a_410_says_when_in_milliseconds(simulator, connect, reason):
    simulator.faults.answer([TOKENS[0]], reason, timestamp_ms=1_700_000_000_123)
    simulator.faults.answer([TOKENS[1]], reason)
    async with connect(simulator) as client:
        reply = await client.push(TOKENS[0])
        assert (reply.status, reply.json) == (410, {"reason": reason, "timestamp": 1_700_000_000_123})
        assert abs((await client.push(TOKENS[1])).json["timestamp"] - time.time() * 1000) < 5_000


@pytest.mark.asyncio
async def test_x22_timestamps_in_seconds_in_the_future_and_missing(simulator, connect):
    for token, timestamp in zip(TOKENS, ("seconds", "future", "missing"), strict=False):
        strike(simulator, Answer(reason="Unregistered", timestamp=timestamp), tokens=[token])
    async with connect(simulator) as client:
        seconds, future, missing = [(await client.push(token)).json for token in TOKENS[:3]]
        assert abs(seconds["timestamp"] - time.time()) < 5
        assert future["timestamp"] > time.time() * 1000 + 80_000_000
        assert missing == {"reason": "Unregistered"}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["0", "5", "86400", "Wed, 21 Oct 2026 07:28:00 GMT", "-3", "soon"])
async def test_x24_retry_after_is_sent_as_it_is(simulator, connect, value):
    strike(simulator, Answer(reason="TooManyRequests", retry_after=value))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.headers["retry-after"]) == (429, value)


@pytest.mark.asyncio
async def test_a_status_and_reason_that_apple_does_not_know(simulator, connect):
    strike(simulator, Answer(status=418, reason="Teapot"))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (418, {"reason": "Teapot"})


@pytest.mark.asyncio
async def test_x11_html(simulator, connect):
    strike(simulator, Answer(status=502, html=True))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.headers["content-type"]) == (502, "text/html")
        assert reply.body.startswith(b"<html>")


@pytest.mark.asyncio
async def test_a_body_of_ones_own(simulator, connect):
    strike(simulator, Answer(status=400, body='{"reason": 7}'))
    async with connect(simulator) as client:
        assert (await client.push()).body == b'{"reason": 7}'


@pytest.mark.asyncio
async def test_x11_end_of_stream_on_the_headers(simulator, connect):
    strike(simulator, Answer(reason="BadDeviceToken", framing="headers_only"))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.body) == (400, b"")
        assert [kind for kind, _ in reply.frames] == [1]
        assert reply.frames[0][1][4] & 1


@pytest.mark.asyncio
async def test_x10_a_body_in_frames_of_one_byte(simulator, connect):
    strike(simulator, Answer(reason="BadDeviceToken", framing="bytes"))
    async with connect(simulator) as client:
        reply = await client.push()
        assert reply.reason == "BadDeviceToken"
        assert [len(frame) for kind, frame in reply.frames if kind == 0] == [10] * len(reply.body)


@pytest.mark.asyncio
async def test_x10_padded_frames(simulator, connect):
    strike(simulator, Answer(reason="BadDeviceToken", framing="padded"))
    async with connect(simulator) as client:
        reply = await client.push()
        assert reply.reason == "BadDeviceToken"
        assert all(frame[4] & 8 for kind, frame in reply.frames if kind == 0)


@pytest.mark.asyncio
async def test_x10_empty_frames(simulator, connect):
    strike(simulator, Answer(reason="BadDeviceToken", framing="empty_frames"))
    async with connect(simulator) as client:
        reply = await client.push()
        assert reply.reason == "BadDeviceToken"
        assert [len(frame) == 9 for kind, frame in reply.frames if kind == 0] == [True, False, True, True]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 400])
async def test_x11_trailers(simulator, connect, status):
    strike(simulator, Answer(status=status, reason=None if status == 200 else "BadTopic", trailers=True))
    async with connect(simulator) as client:
        reply = await client.push()
        assert reply.status == status
        assert [kind for kind, _ in reply.frames] == ([1, 1] if status == 200 else [1, 0, 1])


@pytest.mark.asyncio
async def test_x11_after_a_103(simulator, connect):
    strike(simulator, Answer(reason="BadTopic", informational=True))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.reason) == (400, "BadTopic")
        assert [kind for kind, _ in reply.frames] == [1, 1, 0]


@pytest.mark.asyncio
async def test_x12_apns_ids_that_do_not_help(simulator, connect):
    sent = "123e4567-e89b-82d3-a456-426614174000"
    for token, choice in zip(TOKENS, ("missing", "wrong", "same"), strict=False):
        strike(simulator, Answer(apns_id=choice), tokens=[token])
    async with connect(simulator) as client:
        assert "apns-id" not in (await client.push(TOKENS[0], apns_id=sent)).headers
        wrong = [(await client.push(TOKENS[1], apns_id=sent)).headers["apns-id"] for _ in range(2)]
        assert len({*wrong, sent}) == 3
        same = [(await client.push(TOKENS[2], apns_id=sent)).headers["apns-id"] for _ in range(2)]
        assert len({*same, sent}) == 2


@pytest.mark.asyncio
async def test_x16_a_200_before_the_body_then_rst_no_error(simulator, connect):
    strike(simulator, Answer(early=True), tokens=[TOKEN])
    async with connect(simulator) as client:
        stream = client.begin(client.headers())
        client.flush()
        await client.until(lambda: client.replies[stream].resets)
        reply = client.replies[stream]
        assert (reply.status, reply.resets) == (200, [0])
        assert [kind for kind, _ in reply.frames] == [1]
        client.transport.write(bytes.fromhex("000002000100000001") + b"{}")  # the body was already on its way
        assert (await client.push(TOKENS[1])).status == 200


@pytest.mark.asyncio
async def test_slow_answers_overtake_nobody_but_themselves(simulator, connect):
    strike(simulator, Slow(latency_ms=40), tokens=[TOKENS[0]])
    strike(simulator, Answer(reason="ServiceUnavailable", latency_ms=20), tokens=[TOKENS[1]])
    async with connect(simulator) as client:
        await client.ready()
        begun = time.monotonic()
        slow, unavailable, quick = (client.post(token) for token in TOKENS[:3])
        client.flush()
        assert (await client.reply(quick)).status == 200
        assert not client.replies[slow].done.is_set()
        assert (await client.reply(unavailable)).status == 503
        assert not client.replies[slow].done.is_set()
        assert (await client.reply(slow)).status == 200
        assert time.monotonic() - begun >= 0.04


@pytest.mark.asyncio
async def test_x01_silence(simulator, connect):
    strike(simulator, Silence(), tokens=[TOKENS[0]])
    async with connect(simulator) as client:
        await client.ready()
        silent = client.post(TOKENS[0])
        assert (await client.push(TOKENS[1])).status == 200
        assert not client.replies[silent].done.is_set()
        assert simulator.record.pushes(TOKENS[0])[0][5:7] == (0, "silence")


@pytest.mark.asyncio
async def test_a_header_block_of_ones_own(simulator, connect):
    block = b"\x88" + b"\x00\x09apns-note\x02ok"
    strike(simulator, Block(hex=block.hex()), tokens=[TOKENS[0]])
    async with connect(simulator) as client:
        assert (await client.push(TOKENS[0])).headers == {":status": "200", "apns-note": "ok"}
        assert (await client.push(TOKENS[1])).status == 200


# Resets


@pytest.mark.asyncio
async def test_x05_refused_once_and_twice_is_not_processed(simulator, connect):
    strike(simulator, Reset(), tokens=[TOKENS[0]], per_token=1)
    strike(simulator, Reset(twice=True, early=True), tokens=[TOKENS[1]], per_token=1)
    async with connect(simulator) as client:
        await client.ready()
        assert (await client.push(TOKENS[0])).resets == [7]
        twice = client.replies[client.post(TOKENS[1])]
        client.flush()
        await client.until(lambda: twice.resets == [7, 5])
        assert [(await client.push(token)).status for token in TOKENS[:2]] == [200, 200]
    assert simulator.record.unprocessed == {"refused": 2}
    assert [simulator.record.count(token) for token in TOKENS[:2]] == [1, 1]


@pytest.mark.asyncio
async def test_other_resets_leave_the_outcome_open(simulator, connect):
    strike(simulator, Reset(code=2), tokens=[TOKENS[0]])
    strike(simulator, Reset(code=1, status=200), tokens=[TOKENS[1]])
    async with connect(simulator) as client:
        assert (await client.push(TOKENS[0])).resets == [2]
        cut = await client.push(TOKENS[1])
        assert (cut.status, cut.resets) == (200, [1])
    assert simulator.record.reasons == {"reset": 2}


# GOAWAY


@pytest.mark.asyncio
async def test_x06_a_warning_then_the_real_last_id_then_the_end(simulator, connect):
    strike(simulator, Goaway(last="before", warn_ms=30, close_after_ms=20), tokens=[TOKENS[5]])
    async with connect(simulator) as client:
        await client.ready()
        streams = [client.post(token) for token in TOKENS[:8]]
        client.flush()
        await client.until(lambda: client.goaways)
        assert client.goaways == [(LAST_MAX, 0, b"")]
        await client.gone()
        assert client.goaways[1] == (streams[4], 0, b"")
        answered = [client.replies[stream].status for stream in streams]
        assert answered == [200] * 5 + [None] * 3
    assert simulator.record.unprocessed == {"above_goaway": 3}
    assert simulator.record.total == 6


@pytest.mark.asyncio
async def test_x06_a_stream_after_a_goaway_that_was_seen_is_a_violation(simulator, connect):
    strike(simulator, Goaway(last="max", close_after_ms=None), tokens=[TOKENS[0]])
    async with connect(simulator) as client:
        await client.ready()
        assert (await client.push(TOKENS[0])).status == 200
        await client.until(lambda: client.goaways)
        assert (await client.push(TOKENS[1])).status == 200
    assert simulator.record.violation_kinds == {"stream_after_goaway": 1}


@pytest.mark.asyncio
@pytest.mark.parametrize("last", ["seen", "none"])
async def test_x06_streams_at_or_below_the_last_id_are_answered(simulator, connect, last):
    strike(simulator, Slow(latency_ms=20), tokens=[TOKENS[0]])
    strike(simulator, Goaway(last=last, close_after_ms=60), tokens=[TOKENS[1]])
    async with connect(simulator) as client:
        await client.ready()
        slow, struck = client.post(TOKENS[0]), client.post(TOKENS[1])
        client.flush()
        await client.gone()
        assert client.goaways == [(struck if last == "seen" else 0, 0, b"")]
        assert client.replies[struck].status == (200 if last == "seen" else None)
        assert client.replies[slow].status == (200 if last == "seen" else None)


@pytest.mark.asyncio
async def test_x07_goaway_at_once(simulator, connect):
    strike(simulator, Goaway(last="none", code=0), at="connect", count=2)
    for _ in range(2):
        async with connect(simulator) as client:
            await client.gone()
            assert client.goaways == [(0, 0, b"")]
    async with connect(simulator) as client:
        assert (await client.push()).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("debug", "expected"),
    [
        ("json", b'{"reason":"BadCertificate"}'),
        ("text", b"BadCertificate"),
        ("empty", b""),
        ("binary", bytes(range(256))),
        ("large", b"debug " * 2_730),
    ],
)
async def test_x08_debug_data(simulator, connect, debug, expected):
    strike(simulator, Goaway(debug=debug, reason="BadCertificate", code=11))
    async with connect(simulator) as client:
        stream = client.post()
        client.flush()
        await client.gone()
        assert client.goaways == [(stream, 11, expected)]
        assert client.replies[stream].status == 200


@pytest.mark.asyncio
async def test_x09_goaway_and_never_close(simulator, connect):
    strike(simulator, Goaway(close_after_ms=None), count=1)
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        await client.until(lambda: client.goaways)
        await asyncio.sleep(0.03)
        assert not client.closed.is_set()


# Connections


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["fin", "abort", "mid_frame"])
async def test_connections_end_without_a_word(simulator, connect, how):
    strike(simulator, Close(how=how), tokens=[TOKENS[1]])
    async with connect(simulator) as client:
        await client.ready()
        streams = [client.post(token) for token in TOKENS[:3]]
        client.flush()
        await client.gone()
        assert not client.goaways
        assert [client.replies[stream].status for stream in streams[1:]] == [None, None]
        assert (client._buffer != b"") == (how == "mid_frame")
    assert simulator.record.connections[-1].ended == f"close_{how}"


@pytest.mark.asyncio
async def test_a_connection_ends_later(simulator, connect):
    strike(simulator, Close(after_ms=20), count=1)
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        assert (await client.push()).status == 200
        await client.gone()


@pytest.mark.asyncio
async def test_x02_a_black_hole(simulator, connect):
    strike(simulator, Mute(), tokens=[TOKENS[1]])
    async with connect(simulator) as client:
        await client.ready()
        streams = [client.post(token) for token in TOKENS[:3]]
        client.h2.ping(b"12345678")
        client.flush()
        await asyncio.sleep(0.05)
        assert [client.replies[stream].status for stream in streams] == [None] * 3
        assert not client.pings_answered
        assert not client.closed.is_set()


@pytest.mark.asyncio
async def test_a66_pings_are_not_answered(simulator, connect):
    strike(simulator, IgnorePing(), at="connect")
    async with connect(simulator) as client:
        client.h2.ping(b"12345678")
        assert (await client.push()).status == 200
        assert not client.pings_answered
        assert simulator.record.connections[-1].pings == 1


@pytest.mark.asyncio
async def test_connections_can_be_dropped(simulator, connect):
    async with connect(simulator) as client:
        await client.ready()
        assert simulator.drop_connections() == 1
        await client.gone()
    assert simulator.open_connections == 0


# Which requests are struck


@pytest.mark.asyncio
async def test_faults_name_tokens_prefixes_topics_and_environments(simulator, connect):
    strike(simulator, Answer(status=500), token_prefix="00")
    strike(simulator, Answer(status=503), tokens=[TOKENS[3].upper()])
    strike(simulator, Answer(status=429), topic="com.example.two")
    strike(simulator, Answer(status=400), environment=Environment.SANDBOX)
    async with connect(simulator) as client:
        assert (await client.push(TOKENS[2])).status == 500
        assert (await client.push(TOKENS[3])).status == 503
        assert (await client.push("ff" * 32, apns_topic="com.example.two")).status == 429
        assert (await client.push("ff" * 32)).status == 200
    async with connect(simulator, sandbox=True) as client:
        assert (await client.push("ff" * 32)).status == 400


@pytest.mark.asyncio
async def test_a_refused_request_strikes_no_fault(simulator, connect):
    strike(simulator, Answer(status=500), count=1)
    async with connect(simulator) as client:
        assert (await client.push("xyz")).status == 400
        assert (await client.push()).status == 500
        assert (await client.push()).status == 200


def test_skip_count_and_per_token():
    book = FaultBook(seed=1)
    silence = Silence()
    book.add(Fault(action=silence, skip=2, count=3, per_token=2))
    tokens = [b"a", b"b", b"a", b"a", b"a", b"b", b"b"]
    struck = [book.strike(token, b"", Environment.PRODUCTION) is silence for token in tokens]
    assert struck == [False, False, True, True, False, True, False]


@given(seed=st.integers(0, 2**32), rate=st.sampled_from([0.1, 0.3, 0.5]), sticky=st.booleans())
def test_rates_are_kept_and_repeat_with_the_seed(seed, rate, sticky):
    def run():
        book = FaultBook(seed)
        book.add(Fault(action=Silence(), rate=rate, sticky=sticky))
        tokens = [b"%064x" % number for number in range(1_000)]
        return [[book.strike(token, b"", Environment.PRODUCTION) is not None for token in tokens] for _ in range(2)]

    first, again = run()
    assert (first, again) == tuple(run())
    assert abs(sum(first) - rate * 1_000) < 100
    assert (first == again) == sticky


def test_faults_are_removed_and_cleared():
    book = FaultBook(0)
    ids = [book.add(fault) for fault in (Fault(action=Silence(), tokens=["a", "b"]), Fault(action=Silence()))]
    assert book.remove(ids[0])
    assert not book.remove(ids[0])
    assert [scripted.id for scripted in book.listed()] == [ids[1]]
    assert book.strike(b"a", b"", Environment.PRODUCTION) is not None
    book.clear()
    assert book.strike(b"a", b"", Environment.PRODUCTION) is None
    assert book.add(Fault(action=Silence())) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(at="connect", action=Silence()),
        Fault(at="connect", action=Mute(), tokens=["aa"]),
        Fault(action=LateSettings(delay_ms=1)),
        Fault(action=Silence(), tokens=["aa"], token_prefix="b"),
        Fault(action=Answer(reason="Teapot")),
    ],
)
def test_faults_that_make_no_sense_are_refused(fault):
    with pytest.raises(InvalidRequestError):
        FaultBook(0).add(fault)
