"""Every local vendor under one CA: where each listens, what arrived, what scripts it, and what a daemon needs."""

import json
import re
import ssl
from pathlib import Path

import aiohttp
import aiosmtplib
import pytest
import pytest_asyncio

from pushd.config import ApnsConfig
from pushd.config.load import load
from pushd.credentials import secrets
from pushd.gateways.safari import SafariGateway
from pushd.model.credential import SafariCertificate
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.simulator import Simulator
from pushd.simulator.vendors import Vendors
from tests.pushd.gateways.apns_world import PATIENT, Credentials

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def simulator(tmp_path):
    made = Simulator(tmp_path, others=lambda identity, clock: Vendors(identity, clock=clock))
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def ask(simulator):
    async with aiohttp.ClientSession(f"http://127.0.0.1:{simulator.control_port}") as session:

        async def ask(path, body=None):
            async with session.request("GET" if body is None else "POST", path, json=body) as answer:
                return answer.status, await answer.json()

        yield ask


async def test_the_manifest_tells_a_daemon_where_everything_is(simulator, tmp_path):
    manifest = json.loads((tmp_path / "simulator.json").read_text())
    config = load(None, manifest["environ"] | {"HOME": str(tmp_path)}).config
    assert (config.apns.production_port, config.apns.sandbox_port) == (simulator.port, simulator.sandbox_port)
    assert config.apns.production_management_port == simulator.management_port == manifest["management_port"]
    assert config.apns.sandbox_management_port == simulator.sandbox_management_port
    others = manifest["others"]
    assert (config.fcm.port, config.fcm.oauth_port) == (others["fcm"]["port"], others["fcm"]["oauth_port"])
    assert config.hms.port == others["hms"]["port"]
    push = others["webpush"]
    assert set(config.webpush.hosts_added) == {f"localhost:{push['port']}", f"localhost:{push['http1_port']}"}
    assert "127.0.0.0/8" in config.webpush.networks_allowed
    assert (config.email.relay_host, config.email.relay_port) == ("127.0.0.1", others["email"]["port"])
    assert json.loads(Path(others["fcm"]["key_file"]).read_bytes())["project_id"] == "pushd-demo"


async def test_counts_start_at_nothing(ask):
    status, counts = await ask("/vendors")
    assert status == 200
    assert {name: each["accepted"] for name, each in counts.items()} == {"fcm": 0, "webpush": 0, "hms": 0, "email": 0}


async def test_faults_are_scripted_per_vendor(simulator, ask):
    fault = {"token_prefix": "x", "action": {"type": "answer", "reason": "UNREGISTERED"}}
    for name, book in simulator.others.faults.items():
        assert (await ask(f"/vendors/{name}/faults", fault))[0] == 201
        assert len(book.listed()) == 1
    assert not simulator.faults.listed()
    assert (await ask("/vendors/nobody/faults", fault))[0] == 404


async def test_subscriptions_of_played_browsers(simulator, ask):
    key = "BJdf9_2eOdzjUdM7gyQnbJuy1dVRSmyNe6sWyPlFH6FWsm-3KDbM0Xy1bFkUCMbzxeX2FUFx4xXW5ORVaxzy1uQ"
    status, made = await ask("/vendors/webpush/subscriptions", {"count": 3, "key": key})
    assert status == 201
    assert len({each["endpoint"] for each in made}) == 3
    assert all(re.fullmatch(r"[\w-]{87}", each["keys"]["p256dh"]) for each in made)
    for bad in ({"count": 0, "key": key}, {"count": 1}, {"count": 10_001, "key": key}):
        assert (await ask("/vendors/webpush/subscriptions", bad))[0] == 400


async def test_a_daemon_mails_through_the_relay(simulator, ask, tmp_path):
    manifest = json.loads((tmp_path / "simulator.json").read_text())
    config = load(None, manifest["environ"] | {"HOME": str(tmp_path)}).config
    client = aiosmtplib.SMTP(
        hostname=config.email.relay_host,
        port=config.email.relay_port,
        start_tls=True,
        tls_context=ssl.create_default_context(cafile=config.email.ca_file),
    )
    assert config.email.security == "starttls"
    script = {"stage": "rcpt", "recipient": "gone@example.org", "reply": "550 5.1.1 No such user"}
    assert (await ask("/vendors/email/scripts", script))[0] == 201
    async with client:
        await client.sendmail("a@example.com", "ada@example.org", b"Subject: x\r\n\r\nApples\r\n")
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await client.sendmail("a@example.com", "gone@example.org", b"Subject: x\r\n\r\nApples\r\n")
    assert (await ask("/vendors"))[1]["email"] == {"accepted": 1, "violations": {"email": 0}}
    for bad in ({"stage": "never"}, {"stage": "rcpt", "reply": "250 x\r\n"}, {}):
        assert (await ask("/vendors/email/scripts", bad))[0] == 400


async def test_s02_the_website_is_known_to_the_local_apns(simulator, ask, tmp_path):
    website = json.loads((tmp_path / "simulator.json").read_text())["others"]["safari"]
    path = Path(website["p12_file"])
    assert path.stat().st_mode & 0o777 == 0o600
    secret = SafariCertificate(p12=path.read_bytes(), password=website["password"], url_format=website["url_format"])
    assert secrets.examine(secret)["topics"] == website["website_push_id"]
    config = ApnsConfig(production_host="localhost", production_port=simulator.port, ca_file=str(simulator.ca_file))
    gateway = SafariGateway(config, PATIENT, Credentials({1: secret}))
    await gateway.start()
    try:
        route = Route(1, Kind.SAFARI, Environment.PRODUCTION, website["website_push_id"])
        assert (await gateway.prove(route, 1)).accepted is True
    finally:
        await gateway.stop(0.5)
    assert (await ask("/summary"))[1]["accepted_topics"] == {}
