"""A real browser at the end of the line: what the API took, Firefox decrypts, acknowledges and hands to its page."""

import asyncio

import orjson
import pytest

from pushd.config.webpush import WebPushConfig
from pushd.simulator.browsers import DELIVERED
from pushd.simulator.webpush import PushService
from tests.acceptance.world import running
from tests.firefox import firefox

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def acknowledged(service, count):
    """The newest acknowledgements, once there are so many."""
    async with asyncio.timeout(60):
        while len(service.browsers.acknowledged) < count:
            await asyncio.sleep(0.02)
    return list(service.browsers.acknowledged)


async def test_w01_firefox_shows_what_the_api_was_asked_to_send(tmp_path):
    service = PushService(tmp_path / "push")
    await service.start()
    config = WebPushConfig(
        hosts_added=(f"localhost:{service.port}",),
        networks_allowed=("127.0.0.0/8", "::1/128"),
        ca_file=str(service.identity.ca_file),
        encrypt_workers=1,
        inline_rows_max=0,
        fresh_grace_s=0,
    )
    try:
        async with running(webpush=config) as world:
            tenant = await world.tenant(credential=False)
            secret = {"type": "vapid", "subject": "mailto:push@example.com"}
            made = await tenant.server.ok("POST", "/credentials", {"secret": secret})
            async with firefox(made["summary"]["public_key"], service.browser_port) as browser:
                subscription = await browser.subscription()
                body = {"install_id": "browser", "kind": "webpush", "subscription": subscription, "platform": "web"}
                await tenant.device.ok("PUT", "/devices", body)

                message = {"title": "Grüße", "body": "aus Übersee", "url": "https://example.com/o", "data": {"n": 1}}
                view = await tenant.sent(message=message)
                assert view["counts"]["accepted"] == 1
                shown = orjson.loads(await browser.received())
                assert (shown["notification"]["title"], shown["notification"]["body"]) == ("Grüße", "aus Übersee")
                assert shown["notification"]["data"]["n"] == 1

                for number in range(3):
                    await tenant.sent(message={"body": f"number {number}"})
                    assert orjson.loads(await browser.received())["notification"]["body"] == f"number {number}"
                assert {each.code for each in await acknowledged(service, 4)} == {DELIVERED}

                (subscriber,) = service.subscribers.values()
                subscriber.gone = True
                await asyncio.sleep(1.1)  # an address that was registered within the last second is not retired
                view = await tenant.sent()
                assert view["counts"]["failed"] == 1
                device = await tenant.server.ok("GET", "/devices?install_id=browser")
                assert not device["items"][0]["reachable"]
    finally:
        await service.stop()
