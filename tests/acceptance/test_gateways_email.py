"""E-mail through the daemon: asked for, never broadcast, and the ledger exact to the row."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from pushd.config import EmailConfig
from pushd.gateways.email import EmailGateway
from pushd.model.device import GatewayName
from pushd.simulator.smtp import Script, SmtpSimulator

pytestmark = pytest.mark.asyncio(loop_scope="package")

SENDER = {"type": "email_sender", "from_address": "orchard@example.com", "from_name": "Orchard"}


@asynccontextmanager
async def relay(world):
    """A relay behind the running daemon."""
    simulator = SmtpSimulator()
    await simulator.start()
    daemon = world.daemon
    config = EmailConfig(relay_host="localhost", relay_port=simulator.port, security="none", idle_close_s=0.2)
    gateway = EmailGateway(config, daemon.keyring, daemon.clock)
    await gateway.start()
    usual, daemon.gateways[GatewayName.EMAIL] = daemon.gateways[GatewayName.EMAIL], gateway
    try:
        yield simulator
    finally:
        daemon.gateways[GatewayName.EMAIL] = usual
        await gateway.stop(1.0)
        await simulator.stop()
        assert not simulator.violations


async def register(tenant, address, **more):
    body = {"install_id": address, "kind": "email", "token": address, "platform": "email", **more}
    return await tenant.server.ok("PUT", "/devices", body)


async def test_a_mail_is_asked_for_and_ends_dead_mailboxes(world):
    tenant = await world.tenant()
    async with relay(world) as simulator:
        made = await tenant.server.ok("POST", "/credentials", {"secret": SENDER, "name": "mail"})
        assert made["gateway"] == "email"
        assert made["summary"]["from_address"] == "orchard@example.com"
        assert (await tenant.server.ok("POST", f"/credentials/{made['id']}/test", {}))["accepted"] is True
        addresses = [f"ada.{tenant.app_id}.{number}@example.org" for number in range(12)]
        for address in addresses:
            await register(tenant, address)
        phone = await tenant.register("phone")
        await asyncio.sleep(1.2)  # an address is not ended within a second of its registration: clocks differ
        simulator.scripts[addresses[0]] = Script("rcpt", b"550 5.1.1 No such user")
        simulator.scripts[addresses[1]] = Script("end", b"554 5.7.1 Spam")
        view = await tenant.sent(message={"title": "Hello"})
        assert (view["counts"]["targeted"], tenant.arrived(phone["token"])) == (1, 1)
        assert not simulator.mails
        mail = {"push_type": "email", "title": "Harvest", "body": "Apples"}
        view = await tenant.sent(message=mail)
        counts = view["counts"]
        assert (counts["targeted"], counts["accepted"], counts["failed"]) == (12, 10, 2)
        assert {(row["reason"], row["outcome"]) for row in view["reasons"]} >= {
            ("mailbox_unknown", "unregistered"),
            ("refused_by_policy", "rejected"),
        }
        assert simulator.arrived == dict.fromkeys(addresses[2:], 1)
        assert (await tenant.sent(message=mail))["counts"]["targeted"] == 11
        assert tenant.arrived(phone["token"]) == 1


async def test_a_sender_that_the_relay_refuses_holds_its_mails(world):
    tenant = await world.tenant()
    async with relay(world) as simulator:
        made = await tenant.server.ok("POST", "/credentials", {"secret": SENDER, "name": "mail"})
        address = f"bob.{tenant.app_id}@example.org"
        await register(tenant, address)
        simulator.scripts[""] = Script("mail", b"550 5.7.1 Sender not allowed")
        sent = await tenant.send(message={"push_type": "email", "body": "Apples"})
        await tenant.until(sent["id"], lambda view: view["counts"]["pending"] == 1)
        async with asyncio.timeout(60):
            while (await tenant.server.ok("GET", f"/credentials/{made['id']}"))["state"] != "paused":
                await asyncio.sleep(0.02)
        simulator.scripts.clear()
        await tenant.server.ok("POST", f"/credentials/{made['id']}/resume")
        assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 1
        assert simulator.mails[0].recipient == address


async def test_what_is_no_address_or_no_sender_is_refused(world):
    tenant = await world.tenant()
    for token in ("ada", "a>,<b@example.org", "ada@example.org\r\nx"):
        body = {"install_id": "x", "kind": "email", "token": token}
        refused = await tenant.server("PUT", "/devices", json=body)
        assert (refused.status, refused.pointers) == (400, ["/token"])
    for field, value in (("from_address", "x"), ("reply_to", "a,b@x"), ("unsubscribe_url", "http://x")):
        body = {"secret": SENDER | {field: value}, "name": "mail"}
        refused = await tenant.server("POST", "/credentials", json=body)
        assert refused.status == 400
        assert refused.pointers[0].endswith(f"/{field}")
