"""A real Firefox behind the gateway and the local push service: it decrypts what is sent, and no broken bodies."""

import asyncio
import base64
import os

import orjson
import pytest

from protocols import aes128gcm, vapid, webpush
from pushd.batch import Rendered
from pushd.credentials import vapid_keys
from pushd.gateways.webpush import WebPushGateway
from pushd.model.credential import VapidKeys
from pushd.simulator.browsers import DELIVERED, UNDECRYPTABLE
from pushd.simulator.webpush import PushService
from tests.contract.webpush_far import config_for, public
from tests.firefox import firefox
from tests.pushd.gateways.apns_world import PATIENT, Credentials
from tests.pushd.gateways.webpush_world import World

pytestmark = pytest.mark.asyncio


def octets(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def acknowledged(browsers, subscription, body):
    """The code with which Firefox acknowledges a body."""
    said = await browsers.acknowledgement(await browsers.deliver(subscription, body, "aes128gcm"), 20)
    assert said is not None
    return said.code


async def test_w01_w25_firefox_reads_what_the_gateway_sent_and_no_broken_body(tmp_path):
    service = PushService(tmp_path / "identity")
    await service.start()
    secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
    gateway = WebPushGateway(config_for(service, padding_block_bytes=128), PATIENT, Credentials({1: secret}))
    await gateway.start()
    key = public(secret)
    text = vapid.public_text(vapid.load_private(secret.private_key).public_key())
    try:
        async with firefox(text, service.browser_port) as browser:
            made = await browser.subscription()
            (subscription,) = service.browsers.subscriptions.values()
            assert made["endpoint"] == subscription.endpoint
            assert subscription.key == key
            keys = made["keys"]
            line = webpush.address(made["endpoint"], keys["p256dh"], keys["auth"], vapid.fingerprint(key))
            for title in ("Grüße", "zweite"):
                payload = orjson.dumps({"notification": {"title": title}})
                batch = World.batch(None, [line], payloads=Rendered(payload=payload, headers=(("urgency", "high"),)))
                await asyncio.wait_for(gateway.send(batch), 60)
                assert batch.outcomes.tolist() == [1]
                assert await browser.received() == payload.decode()
            async with asyncio.timeout(60):
                while len(service.browsers.acknowledged) < 2:
                    await asyncio.sleep(0.02)
            assert {each.code for each in service.browsers.acknowledged} == {DELIVERED}

            secrets = octets(keys["p256dh"]), octets(keys["auth"])
            longest = "x" * aes128gcm.PLAINTEXT_BYTES_MAX
            body = aes128gcm.encrypt(longest.encode(), *secrets, aes128gcm.new_pair(), os.urandom(16))
            assert await acknowledged(service.browsers, subscription, body) == DELIVERED
            assert await browser.received() == longest
            broken = body[:-1] + bytes([body[-1] ^ 1])
            assert await acknowledged(service.browsers, subscription, broken) == UNDECRYPTABLE
    finally:
        await gateway.stop(0.3)
        await service.stop()
