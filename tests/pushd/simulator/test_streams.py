"""Streams, settings, credit and connection rules of the simulated APNs."""

import asyncio
import ssl

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import PriorityFrame

from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Block, Fault, LateSettings, Reset, Settings, Slow, Step, Window

LIMIT = int(SettingCodes.MAX_CONCURRENT_STREAMS)
WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)
TOKENS = [f"{number:064x}" for number in range(200)]


def kinds(simulator):
    return dict(simulator.record.violation_kinds)


@pytest.mark.asyncio
async def test_a60_first_settings_are_apples(simulator, connect):
    async with connect(simulator) as client:
        await client.until(lambda: client.settings)
        assert client.settings[0] == {1: 4096, LIMIT: 1, WINDOW: 65_535, 5: 16_384, 6: 8_000}


@pytest.mark.asyncio
async def test_a60_one_stream_until_a_valid_token_was_seen(simulator, connect, bearer):
    async with connect(simulator) as client:
        assert (await client.push(authorization="bearer a.b.c")).status == 403
        assert len(client.settings) == 1
        assert (await client.push("xyz")).status == 400
        await client.until(lambda: len(client.settings) == 2)
        assert client.settings[1] == {LIMIT: 1000}


@pytest.mark.asyncio
async def test_a60_a_second_stream_before_settings_is_refused(simulator, connect):
    async with connect(simulator, start=False) as client:
        client.h2.initiate_connection()
        streams = [client.post(token) for token in TOKENS[:3]]
        client.flush()
        replies = [await client.reply(stream) for stream in streams]
        assert [reply.status for reply in replies] == [200, None, None]
        assert [reply.resets for reply in replies] == [[], [7], [7]]
        assert kinds(simulator) == {"streams_before_settings": 2}
        assert simulator.record.unprocessed == {"refused": 2}


@pytest.mark.asyncio
async def test_a61_too_many_streams_end_the_connection(simulator, connect):
    async with connect(simulator) as client:
        await client.until(lambda: client.settings)
        streams = [client.post(token, authorization="bearer a.b.c") for token in TOKENS[:2]]
        client.flush()
        await client.gone()
        assert client.goaways == [(streams[0], 7, b"Too many active streams")]
        assert client.replies[streams[0]].status == 403
        assert client.replies[streams[1]].status is None
    assert kinds(simulator) == {"too_many_streams": 1}
    assert simulator.record.connections[-1].ended == "too_many_streams"


@pytest.mark.asyncio
async def test_a61_exactly_the_limit_is_allowed_and_one_more_is_not(make_simulator, connect):
    simulator = await make_simulator(behaviour=Behaviour(streams_max=50, latency_ms=30))
    async with connect(simulator) as client:
        await client.ready()
        streams = [client.post(token) for token in TOKENS[:50]]
        client.flush()
        assert {(await client.reply(stream)).status for stream in streams} == {200}
        assert simulator.record.connections[-1].open_streams_peak == 50
        for token in TOKENS[:51]:
            client.post(token)
        client.flush()
        await client.gone()
        assert kinds(simulator) == {"too_many_streams": 1}


@pytest.mark.asyncio
async def test_a61_a_lowered_limit_binds_only_once_it_is_acknowledged(simulator, connect):
    steps = [Step(max_concurrent_streams=3), Step(max_concurrent_streams=2)]
    simulator.faults.add(Fault(tokens=[TOKENS[0]], count=1, action=Settings(steps=steps)))
    async with connect(simulator) as client:
        await client.ready()
        client.post(TOKENS[0])
        client.flush()
        for token in TOKENS[1:100]:  # written before the new limits can be known
            client.post(token)
        client.flush()
        await client.until(lambda: len(client.settings) == 4)
        assert [list(frame.values()) for frame in client.settings[1:]] == [[1000], [3], [2]]
        assert {(await client.reply(stream)).status for stream in list(client.replies)} == {200}
        for token in TOKENS[:2]:
            client.post(token)
        client.flush()
        assert {(await client.reply(stream)).status for stream in list(client.replies)} == {200}
        assert not kinds(simulator)
        for token in TOKENS[:3]:
            client.post(token)
        client.flush()
        await client.gone()
        assert kinds(simulator) == {"too_many_streams": 1}


@pytest.mark.asyncio
async def test_x03_the_limit_flaps(simulator, connect):
    limits = [1, 1000, 1, 0, 500]
    steps = [Step(max_concurrent_streams=limit, after_ms=2) for limit in limits]
    simulator.faults.add(Fault(at="connect", action=Settings(steps=steps)))
    async with connect(simulator) as client:
        await client.until(lambda: len(client.settings) == 6)
        assert [frame[LIMIT] for frame in client.settings] == [1, *limits]
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a_limit_of_zero_allows_none(simulator, connect):
    simulator.faults.add(Fault(at="connect", action=Settings(steps=[Step(max_concurrent_streams=0)])))
    async with connect(simulator) as client:
        await client.until(lambda: len(client.settings) == 2)
        client.post()
        client.flush()
        await client.gone()
        assert client.goaways[0][1] == 7


@pytest.mark.asyncio
async def test_x04_the_first_settings_come_late(simulator, connect):
    simulator.faults.add(Fault(at="connect", action=LateSettings(delay_ms=60)))
    async with connect(simulator) as client:
        stream = client.post()
        client.flush()
        await asyncio.sleep(0.02)
        assert client.raw == b""
        assert (await client.reply(stream)).status == 200
        assert client.raw[3] == 4, "SETTINGS is the first frame"
        assert not kinds(simulator)


@pytest.mark.asyncio
async def test_a51_a_rejection_lowers_the_limit_and_an_acceptance_raises_it(make_simulator, connect):
    simulator = await make_simulator(behaviour=Behaviour(throttle_on_rejection=True, streams_max=500))
    simulator.faults.answer([TOKENS[1]], "Unregistered")
    async with connect(simulator) as client:
        await client.ready()
        assert (await client.push(TOKENS[1])).status == 410
        assert (await client.push("xyz")).status == 400
        await client.until(lambda: len(client.settings) == 3)
        assert (await client.push()).status == 200
        await client.until(lambda: len(client.settings) == 4)
        assert [frame[LIMIT] for frame in client.settings] == [1, 500, 1, 500]


@pytest.mark.asyncio
async def test_x14_no_initial_window(simulator, connect):
    action = Window(initial_window_size=0, stream_credit=10, stream_credit_after_ms=20)
    simulator.faults.add(Fault(at="connect", action=action))
    async with connect(simulator) as client:
        await client.until(lambda: len(client.settings) == 2)
        stream = client.begin(client.headers())
        assert client.h2.local_flow_control_window(stream) == 0
        client.flush()
        await client.until(lambda: (stream, 10) in client.window_updates)
        client.h2.send_data(stream, b'{"a":1234}', end_stream=True)
        client.flush()
        assert (await client.reply(stream)).status == 200
        assert not kinds(simulator)


@pytest.mark.asyncio
async def test_x14_a_window_shrinks_below_zero(simulator, connect):
    simulator.faults.add(Fault(tokens=[TOKENS[0]], action=Settings(steps=[Step(initial_window_size=0)])))
    simulator.faults.add(Fault(at="connect", action=Window(stream_credit=100, stream_credit_after_ms=500)))
    async with connect(simulator) as client:
        await client.ready()
        stream = client.begin(client.headers())
        client.h2.send_data(stream, b'{"a":')
        assert (await client.push(TOKENS[0])).status == 200
        await client.until(lambda: len(client.settings) == 3)
        assert client.h2.local_flow_control_window(stream) == -5
        await client.until(lambda: (stream, 100) in client.window_updates)
        assert client.h2.local_flow_control_window(stream) == 95
        client.h2.send_data(stream, b"1}" + b" " * 93, end_stream=True)
        client.flush()
        assert (await client.reply(stream)).status == 200
        assert not kinds(simulator)


@pytest.mark.asyncio
async def test_bytes_beyond_the_window_are_a_violation(simulator, connect):
    simulator.faults.add(Fault(at="connect", action=Window(initial_window_size=10)))
    async with connect(simulator) as client:
        await client.until(lambda: len(client.settings) == 2)
        stream = client.begin(client.headers())
        client.h2.streams[stream].outbound_flow_control_window = 1_000
        client.h2.send_data(stream, b"{" + b" " * 10 + b"}", end_stream=True)
        client.flush()
        await client.gone()
        assert client.goaways[0][1] == 3
    assert kinds(simulator) == {"FlowControlError": 1}


@pytest.mark.asyncio
async def test_x14_connection_credit_is_held_back(simulator, connect):
    simulator.faults.add(Fault(at="connect", action=Window(hold_ms=80)))
    async with connect(simulator) as client:
        await client.ready()
        body = b"{" + b" " * 4_000 + b"}"
        for token in TOKENS[:16]:
            client.post(token, body)
        client.flush()
        assert {(await client.reply(stream)).status for stream in list(client.replies)} == {200}
        assert not [size for stream, size in client.window_updates if stream == 0]
        await client.until(lambda: [size for stream, size in client.window_updates if stream == 0])
        assert client.h2.outbound_flow_control_window == 65_535


@pytest.mark.asyncio
async def test_a70_credit_comes_back_as_bodies_are_read(simulator, connect):
    async with connect(simulator) as client:
        await client.ready()
        body = b"{" + b" " * 4_000 + b"}"
        for token in TOKENS[:100]:
            await client.until(lambda: client.h2.outbound_flow_control_window > len(body))
            client.post(token, body)
            client.flush()
        assert {(await client.reply(stream)).status for stream in list(client.replies)} == {200}
        assert client.h2.outbound_flow_control_window >= 32_768


@pytest.mark.asyncio
async def test_a_larger_connection_window(make_simulator, connect):
    simulator = await make_simulator(behaviour=Behaviour(connection_window=1_000_000))
    async with connect(simulator) as client:
        await client.until(lambda: client.window_updates)
        assert client.h2.outbound_flow_control_window == 1_000_000
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a72_answers_wait_for_the_clients_credit(simulator, connect):
    """A client that never gives credit back gets no error bodies once the connection's window is used up."""
    async with connect(simulator) as client:
        client.automatic_credit = False
        await client.ready()
        body = len(b'{"reason":"BadDeviceToken"}')
        fit = 65_535 // body
        for start in range(0, fit + 5, 100):
            streams = [client.post("xyz") for _ in range(start, min(start + 100, fit + 5))]
            client.flush()
            if start + 100 < fit:
                for stream in streams:
                    await client.reply(stream)
        answered = [reply for reply in client.replies.values() if reply.body]
        await client.until(lambda: sum(bool(reply.body) for reply in client.replies.values()) == fit)
        assert len(answered) <= fit
        client.h2.increment_flow_control_window(60_000)
        client.flush()
        for stream in list(client.replies):
            await client.reply(stream)
        assert simulator.record.statuses[400] == fit + 5


# What a client must not do


@pytest.mark.asyncio
async def test_garbage_is_a_violation(simulator, connect):
    async with connect(simulator, start=False) as client:
        client.transport.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.gone()
    assert kinds(simulator) == {"ProtocolError": 1}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "extra", [("Upper", "x"), ("connection", "close"), ("te", "gzip"), (":status", "200"), ("bad name", "x")]
)
async def test_t14_malformed_requests_are_reset(simulator, connect, extra):
    async with connect(simulator) as client:
        stream = client.begin([*client.headers(), extra], end=True)
        client.flush()
        assert (await client.reply(stream)).resets == [1]
        assert (await client.push()).status == 200, "a sound request of that connection is judged by itself"
    assert kinds(simulator) == {"malformed": 1}


@pytest.mark.asyncio
async def test_t14_a_header_list_beyond_the_limit(simulator, connect):
    async with connect(simulator) as client:
        await client.ready()
        client.begin([*client.headers(), ("x-large", "x" * 8_000)], end=True)
        client.flush()
        await client.gone()
        assert client.goaways[0][1] == 11
    assert kinds(simulator) == {"DenialOfServiceError": 1}


@pytest.mark.asyncio
async def test_a42_device_paths_do_not_belong_into_the_header_table(simulator, connect):
    async with connect(simulator) as client:
        await client.ready()
        assert not kinds(simulator)
        for _ in range(2):
            stream = client.begin(client.headers(), end=True, keep_out=False)
            client.flush()
            await client.reply(stream)
    assert kinds(simulator) == {"indexed_path": 1, "indexed_authorization": 1}


@pytest.mark.asyncio
async def test_a43_priority_frames(simulator, connect):
    async with connect(simulator) as client:
        client.transport.write(PriorityFrame(1, depends_on=0, stream_weight=15).serialize())
        assert (await client.push()).status == 200
    assert simulator.record.violation_kinds["priority"] == 1


@pytest.mark.asyncio
async def test_a31_a_missing_push_type_is_noted(simulator, connect):
    async with connect(simulator) as client:
        assert (await client.push(apns_push_type=None)).status == 200
        assert (await client.push(apns_push_type=None)).status == 200
    assert simulator.record.violation_kinds["no_push_type"] == 1


@pytest.mark.asyncio
async def test_an_acknowledgement_of_nothing(simulator, connect):
    async with connect(simulator) as client:
        await client.until(lambda: client.settings)
        client.transport.write(bytes.fromhex("000000040100000000"))
        await client.gone()
    assert kinds(simulator) == {"ProtocolError": 1}


@pytest.mark.asyncio
async def test_a_cancelled_request_is_not_answered(simulator, connect):
    simulator.faults.add(Fault(tokens=[TOKENS[0]], action=Slow(latency_ms=30)))
    async with connect(simulator) as client:
        await client.ready()
        stream = client.post(TOKENS[0])
        unfinished = client.begin(client.headers(TOKENS[1]))
        client.h2.reset_stream(stream, 8)
        client.h2.reset_stream(unfinished, 8)
        client.flush()
        await asyncio.sleep(0.05)
        assert (await client.push()).status == 200
        assert simulator.record.connections[-1].resets == 2
        assert simulator.record.unprocessed == {"cancelled": 1}


@pytest.mark.asyncio
async def test_t09_a_clients_goaway_does_not_stop_its_answers(simulator, connect):
    simulator.faults.add(Fault(action=Slow(latency_ms=20)))
    async with connect(simulator) as client:
        stream = client.post()
        client.flush()
        client.transport.write(bytes.fromhex("0000080700000000000000000000000000"))
        assert (await client.reply(stream)).status == 200
    assert simulator.record.connections[-1].ended == "client_goaway"


@pytest.mark.asyncio
async def test_t10_pings_are_answered(simulator, connect):
    async with connect(simulator) as client:
        client.h2.ping(b"12345678")
        client.flush()
        await client.until(lambda: client.pings_answered == [b"12345678"])
        assert simulator.record.connections[-1].pings == 1


@pytest.mark.asyncio
async def test_a02_no_alpn_no_service(simulator):
    context = ssl.create_default_context(cafile=str(simulator.ca_file))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", simulator.port, ssl=context, server_hostname="localhost"
    )
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(9)
    writer.close()
    assert kinds(simulator) == {"alpn": 1}


@pytest.mark.asyncio
async def test_hpack_a_client_without_a_header_table_gets_the_same_answers(simulator, connect):
    """The short way to a 200 is what hpack would have said."""
    async with connect(simulator, start=False) as client:
        client.h2.local_settings.header_table_size = 0
        client.h2.local_settings.acknowledge()
        client.h2.decoder.max_allowed_table_size = 4_096
        client.start()
        ids = [f"123e4567-e89b-82d3-a456-{number:012x}" for number in range(5)]
        for apns_id in ids:
            reply = await client.push(apns_id=apns_id)
            assert reply.headers == {":status": "200", "apns-id": apns_id}
        assert (await client.push()).status == 200
        assert (await client.push("xyz", apns_id=ids[0])).reason == "BadDeviceToken"
        assert (await client.push(apns_id=ids[0])).headers == {":status": "200", "apns-id": ids[0]}


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [None, Slow(latency_ms=1), Reset(), Reset(code=2, status=200), Block(hex="88")])
async def test_x17_a_request_and_its_cancellation_in_one_read(simulator, connect, action):
    if action is not None:
        simulator.faults.add(Fault(tokens=[TOKENS[0]], action=action))
    async with connect(simulator) as client:
        await client.ready()
        stream = client.post(TOKENS[0], apns_id="123e4567-e89b-82d3-a456-426614174000")
        client.h2.reset_stream(stream, 8)
        client.flush()
        assert (await client.push()).status == 200
        assert not client.replies[stream].frames
        assert simulator.record.connections[-1].open_streams == 0
