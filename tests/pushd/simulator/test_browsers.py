"""The browsers' side of the local push service, spoken by hand over a real WebSocket."""

import aiohttp
import pytest
import pytest_asyncio

from pushd.simulator.browsers import DELIVERED, UNDECRYPTABLE, Browsers

pytestmark = pytest.mark.asyncio

CHANNEL = "8ee21961-33b2-43f4-8be6-947ad1ca4ab6"


@pytest_asyncio.fixture
async def service():
    revoked = []
    browsers = Browsers(issue=lambda made: f"https://push.invalid/{made.channel}", revoke=revoked.append)
    browsers.port, browsers.revoked = await browsers.start(), revoked
    async with aiohttp.ClientSession() as session:
        browsers.connect = lambda: session.ws_connect(
            f"http://127.0.0.1:{browsers.port}/", protocols=("push-notification",)
        )
        yield browsers
    await browsers.stop()


async def ask(socket, **message):
    await socket.send_json(message)
    return await socket.receive_json(timeout=60)


async def subscribed(socket, agent=None):
    hello = await ask(socket, messageType="hello", use_webpush=True, uaid=agent)
    assert (hello["status"], hello["use_webpush"]) == (200, True)
    made = await ask(socket, messageType="register", channelID=CHANNEL, key="BPAAAAE=")
    assert made == {
        "messageType": "register",
        "channelID": CHANNEL,
        "status": 200,
        "pushEndpoint": f"https://push.invalid/{CHANNEL}",
    }
    return hello["uaid"]


async def test_a_browser_subscribes_receives_and_acknowledges(service):
    async with service.connect() as socket:
        assert socket.protocol == "push-notification"
        await subscribed(socket)
        subscription = service.subscriptions[CHANNEL]
        assert subscription.key == b"\x04\xf0\x00\x00\x01"
        version = await service.deliver(subscription, b"sealed", "aes128gcm")
        heard = await socket.receive_json(timeout=60)
        assert (heard["version"], heard["data"], heard["headers"]) == (version, "c2VhbGVk", {"encoding": "aes128gcm"})
        for code in (UNDECRYPTABLE, DELIVERED):
            version = await service.deliver(subscription, b"", "")
            assert "data" not in await socket.receive_json(timeout=60)
            await socket.send_json(
                {"messageType": "ack", "updates": [{"channelID": CHANNEL, "version": version, "code": code}]}
            )
            assert (await service.acknowledgement(version, 5)).code == code


async def test_a_message_nobody_acknowledges(service):
    assert await service.acknowledgement("none", 0.01) is None


async def test_messages_wait_for_a_browser_that_is_away(service):
    async with service.connect() as socket:
        agent = await subscribed(socket)
    versions = [await service.deliver(service.subscriptions[CHANNEL], b"x", "aes128gcm") for _ in range(3)]
    async with service.connect() as socket:
        assert (await ask(socket, messageType="hello", use_webpush=True, uaid=agent))["uaid"] == agent
        assert [(await socket.receive_json(timeout=60))["version"] for _ in versions] == versions


async def test_an_unknown_browser_gets_a_new_name(service):
    async with service.connect() as socket:
        assert (await ask(socket, messageType="hello", use_webpush=True, uaid="f" * 32))["uaid"] != "f" * 32


async def test_unsubscribing_revokes(service):
    async with service.connect() as socket:
        await subscribed(socket)
        assert (await ask(socket, messageType="unregister", channelID=CHANNEL, code=200))["status"] == 200
    assert [each.channel for each in service.revoked] == [CHANNEL]
    assert not service.subscriptions


@pytest.mark.parametrize("text", ['{"messageType":"register","channelID":"x"}', "[]", "{"])
async def test_what_is_not_of_the_protocol_ends_the_connection(service, text):
    async with service.connect() as socket:
        await socket.send_str(text)
        assert (await socket.receive(timeout=60)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_pings_are_answered(service):
    async with service.connect() as socket:
        assert await ask(socket) == {}
