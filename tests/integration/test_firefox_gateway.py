"""The whole of Web Push with nobody of ours at the end: the gateway, the local push service, and a real Firefox."""

import asyncio

import orjson
import pytest

from protocols import vapid, webpush
from pushd.batch import Rendered
from pushd.credentials import vapid_keys
from pushd.gateways.webpush import WebPushGateway
from pushd.model.credential import VapidKeys
from pushd.simulator.browsers import DELIVERED
from pushd.simulator.webpush import PushService
from tests.contract.webpush_far import config_for, public
from tests.firefox import firefox
from tests.pushd.gateways.apns_world import QUICK, Credentials
from tests.pushd.gateways.webpush_world import World

pytestmark = pytest.mark.asyncio


async def test_w25_firefox_reads_what_the_gateway_sent(tmp_path):
    service = PushService(tmp_path / "identity")
    await service.start()
    secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
    gateway = WebPushGateway(config_for(service, padding_block_bytes=128), QUICK, Credentials({1: secret}))
    await gateway.start()
    key = public(secret)
    try:
        async with firefox(
            vapid.public_text(vapid.load_private(secret.private_key).public_key()), service.browser_port
        ) as browser:
            made = await browser.subscription()
            (subscription,) = service.browsers.subscriptions.values()
            assert subscription.key == key
            keys = made["keys"]
            line = webpush.address(made["endpoint"], keys["p256dh"], keys["auth"], vapid.fingerprint(key))
            for title in ("Grüße", "zweite"):
                payload = orjson.dumps({"notification": {"title": title}})
                batch = World.batch(None, [line], payloads=Rendered(payload=payload, headers=(("urgency", "high"),)))
                await asyncio.wait_for(gateway.send(batch), 10)
                assert batch.outcomes.tolist() == [1]
                assert await browser.received() == payload.decode()
            for _ in range(100):
                if len(service.browsers.acknowledged) == 2:
                    break
                await asyncio.sleep(0.05)
            assert {each.code for each in service.browsers.acknowledged} == {DELIVERED}
    finally:
        await gateway.stop(0.3)
        await service.stop()
