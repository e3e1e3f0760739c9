"""A real Firefox decrypts what `protocols.aes128gcm` encrypts, and says so (protocols: W-01 and the browsers' side)."""

import base64
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocols import aes128gcm, vapid
from pushd.simulator.browsers import DELIVERED, UNDECRYPTABLE, Browsers
from tests.firefox import firefox

pytestmark = pytest.mark.asyncio


def octets(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_w01_firefox_decrypts_our_bodies_and_no_broken_ones():
    browsers = Browsers(issue=lambda made: f"https://push.invalid/{made.channel}", revoke=lambda _: None)
    key = ec.generate_private_key(ec.SECP256R1())
    port = await browsers.start()
    try:
        async with firefox(vapid.public_text(key.public_key()), port) as browser:
            made = await browser.subscription()
            (subscription,) = browsers.subscriptions.values()
            assert made["endpoint"] == subscription.endpoint
            assert subscription.key == vapid.public_bytes(key.public_key())
            keys = octets(made["keys"]["p256dh"]), octets(made["keys"]["auth"])

            for plaintext in ("Grüße aus Übersee", "x" * aes128gcm.PLAINTEXT_BYTES_MAX):
                body = aes128gcm.encrypt(plaintext.encode(), *keys, aes128gcm.new_pair(), os.urandom(16))
                version = await browsers.deliver(subscription, body, "aes128gcm")
                said = await browsers.acknowledgement(version, 20)
                assert said is not None
                assert said.code == DELIVERED
                assert await browser.received() == plaintext

            broken = body[:-1] + bytes([body[-1] ^ 1])
            version = await browsers.deliver(subscription, broken, "aes128gcm")
            said = await browsers.acknowledgement(version, 20)
            assert said is not None
            assert said.code == UNDECRYPTABLE
    finally:
        await browsers.stop()
