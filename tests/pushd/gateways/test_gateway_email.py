"""The e-mail gateway: what a mail looks like to others' parsers and servers, logins, and connections that end."""

import asyncio
import email
import email.policy
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import orjson
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from pushd.batch import Batch, Lane, Rendered
from pushd.cli.children import free_port
from pushd.config import EmailConfig
from pushd.gateways.email import EmailGateway
from pushd.model.credential import EmailSender
from pushd.model.device import Environment, Kind, Route
from pushd.outcome import Outcome
from pushd.simulator.identity import Identity
from pushd.simulator.smtp import Script, SmtpSimulator

pytestmark = pytest.mark.asyncio

ROUTE = Route(1, Kind.EMAIL, Environment.PRODUCTION, "")
SENDER = EmailSender(
    from_address="orchard@example.com",
    from_name="Der Öbstgarten, Inc.",
    reply_to="help@example.com",
    unsubscribe_url="https://example.com/u/{device}",
    unsubscribe_mail="leave@example.com",
)


def payload(**mail):
    return Rendered(payload=orjson.dumps({"subject": "Äpfel", "text": "Apples\n.\n.dot\r\nend"} | mail))


class Far:
    def __init__(self, gateway, simulator):
        self.gateway, self.simulator = gateway, simulator
        self.secrets = {1: SENDER}

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    def batch(self, rows, payloads=None, tokens=None):
        tokens = tokens or [f"ada.{number}@example.org" for number in range(rows)]
        return Batch(
            route=ROUTE,
            credential_id=1,
            lane=Lane.BULK,
            ids=np.arange(100, 100 + rows, dtype=np.uint32),
            tokens=np.array([token.encode() for token in tokens]),
            revisions=np.ones(rows, np.int32),
            notifications=7,
            payloads=payloads or payload(),
        )

    async def send(self, rows, **rest):
        batch = self.batch(rows, **rest)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        assert not batch.pending
        return Counter(self.gateway.reasons.name(code) for code in batch.outcomes.tolist())


@asynccontextmanager
async def relay(*, settings=None, **simulated):
    simulator = SmtpSimulator(**simulated)
    await simulator.start()
    config = EmailConfig(
        relay_host="localhost",
        relay_port=simulator.port,
        security="none",
        connect_timeout_s=2.0,
        reply_timeout_s=0.5,
        idle_close_s=0.1,
    )
    far = Far(None, simulator)
    far.gateway = EmailGateway(msgspec.structs.replace(config, **(settings or {})), far)
    await far.gateway.start()
    try:
        yield far
    finally:
        await far.gateway.stop(0.5)
        await simulator.stop()
        assert not simulator.violations


def parsed(octets):
    return email.message_from_bytes(octets, policy=email.policy.default)


async def test_a_mail_is_whole():
    async with relay() as far:
        assert await far.send(1, payloads=payload(html="<p>Äpfel</p>")) == {"accepted": 1}
        (mail,) = far.simulator.mails
        assert (mail.sender, mail.recipient) == ("orchard@example.com", "ada.0@example.org")
        message = parsed(mail.octets)
        assert message["To"] == "ada.0@example.org"
        assert message["From"].addresses[0].addr_spec == "orchard@example.com"
        assert message["From"].addresses[0].display_name == "Der Öbstgarten, Inc."
        assert message["Reply-To"] == "help@example.com"
        assert message["Subject"] == "Äpfel"
        assert message["Message-ID"] == "<pushd.7.100@example.com>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Precedence"] == "bulk"
        assert message["Date"].datetime is not None
        assert message["List-Unsubscribe"] == (
            "<https://example.com/u/100>, <mailto:leave@example.com?subject=unsubscribe%20100>"
        )
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        text, html = message.get_body(("plain",)), message.get_body(("html",))
        assert text.get_content().splitlines() == ["Apples", ".", ".dot", "end"]
        assert html.get_content().strip() == "<p>Äpfel</p>"


async def test_every_header_stands_once_and_none_can_be_smuggled_in():
    async with relay() as far:
        far.secrets[1] = msgspec.structs.replace(SENDER, from_name='Eve" <eve@example.org>, "x')
        await far.send(1, payloads=payload(subject="a" * 900 + " Bcc: eve@example.org"))
        message = parsed(far.simulator.mails[0].octets)
        assert not [name for name, count in Counter(message.keys()).items() if count > 1]
        assert [each.addr_spec for each in message["From"].addresses] == ["orchard@example.com"]
        assert message["Bcc"] is None


async def test_what_could_never_be_an_address_is_not_sent():
    async with relay() as far:
        tokens = ["ada@example.org", "a>,<b@example.org", "eve@example.org\r\nRCPT TO:<x@y>"]
        assert await far.send(3, tokens=tokens) == {"accepted": 1, "address_malformed": 2}
        assert set(far.simulator.arrived) == {"ada@example.org"}


async def test_one_connection_carries_many_mails_and_is_replaced_in_time():
    settings = {"bulk_connections": 2, "mails_per_connection": 20}
    async with relay(settings=settings) as far:
        assert await far.send(100) == {"accepted": 100}
        assert 5 <= far.simulator.connections <= 7
        assert set(far.simulator.arrived.values()) == {1}


async def test_every_mail_of_a_batch_of_many_messages():
    async with relay() as far:
        assert await far.send(30, payloads=[payload(text=f"number {number}") for number in range(30)]) == {
            "accepted": 30
        }
        texts = {parsed(mail.octets).get_body(("plain",)).get_content().strip() for mail in far.simulator.mails}
        assert texts == {f"number {number}" for number in range(30)}


async def test_starttls_and_login(tmp_path):
    identity = Identity(tmp_path / "relay")
    secret = tmp_path / "password"
    secret.write_text("orchard password\n")
    settings = {
        "security": "starttls",
        "ca_file": str(identity.ca_file),
        "username": "pushd",
        "password_file": str(secret),
    }
    users = {"pushd": "orchard password"}
    async with relay(settings=settings, starttls=identity.tls(()), users=users) as far:
        assert (await far.gateway.prove(ROUTE, 1)).accepted is True
        assert await far.send(3) == {"accepted": 3}
        far.simulator.users = {"pushd": "another"}
        far.gateway.drop_credential(1)
        assert await far.send(3) == {"relay_refuses_login": 3}
        proof = await far.gateway.prove(ROUTE, 1)
        assert proof == (False, "relay_refuses_login")
        assert not far.simulator.arrived.total() > 3


async def test_a_relay_without_tls_gets_no_password(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("orchard password")
    settings = {"security": "starttls", "username": "pushd", "password_file": str(secret)}
    async with relay(settings=settings, users={"pushd": "orchard password"}) as far:
        assert await far.send(2) == {"no_connection": 2}
        assert not far.simulator.arrived


async def test_without_a_relay_nothing_is_mailed():
    far = Far(None, None)
    far.gateway = EmailGateway(EmailConfig(), far)
    await far.gateway.start()
    assert await far.send(2) == {"not_supported_on_platform": 2}
    assert (await far.gateway.prove(ROUTE, 1)).accepted is None
    await far.gateway.stop(0.1)


@pytest.mark.parametrize(
    ("stage", "outcome"),
    [("mail", Outcome.UNPROCESSED), ("rcpt", Outcome.UNPROCESSED), ("data", Outcome.LOST), ("end", Outcome.LOST)],
)
@pytest.mark.parametrize("reply", [None, b""])
async def test_g02_a_connection_that_ends_loses_what_it_may_have_taken_only(stage, outcome, reply):
    async with relay() as far:
        name = "" if stage == "mail" else "ada.0@example.org"
        far.simulator.scripts[name] = Script(stage, reply)
        batch = far.batch(1)
        await asyncio.wait_for(far.gateway.send(batch), 60)
        assert far.gateway.reasons.outcome(int(batch.outcomes[0])) is outcome


async def test_credentials_take_turns_where_connections_are_few():
    async with relay(settings={"connections_max": 1, "mails_per_connection": 5}) as far:
        far.secrets[2] = SENDER
        other = far.batch(20)
        other.credential_id = 2
        batch = far.batch(60)
        first = asyncio.create_task(far.gateway.send(batch))
        await asyncio.sleep(0)
        await asyncio.wait_for(far.gateway.send(other), 60)
        assert batch.pending
        await first
        assert set(batch.outcomes.tolist()) == set(other.outcomes.tolist()) == {1}


class Kept(MessageHandler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def handle_message(self, message):
        self.messages.append(message)


async def test_an_independent_server_takes_our_mails():
    """aiosmtpd, which nobody here wrote."""
    kept = Kept()
    port = free_port()
    controller = Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    far = Far(None, None)
    far.gateway = EmailGateway(EmailConfig(relay_host="127.0.0.1", relay_port=port, security="none"), far)
    try:
        await far.gateway.start()
        assert await far.send(25, payloads=payload(html="<b>Äpfel</b>")) == {"accepted": 25}
    finally:
        await far.gateway.stop(0.5)
        await asyncio.to_thread(controller.stop)
    assert sorted(message["X-RcptTo"] for message in kept.messages) == sorted(f"ada.{n}@example.org" for n in range(25))
    assert {message.is_multipart() for message in kept.messages} == {True}
