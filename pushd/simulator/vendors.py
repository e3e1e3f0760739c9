"""The other vendors beside the local APNs, under one CA: FCM, push service, HMS, SMTP relay, a website for Safari."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from pushd.clock import Clock
from pushd.errors import InvalidRequestError
from pushd.model.device import Environment
from pushd.service import Service
from pushd.simulator.fcm import LocalFcm
from pushd.simulator.hms import HmsSimulator
from pushd.simulator.identity import Identity, write_private
from pushd.simulator.smtp import Script, SmtpSimulator
from pushd.simulator.webpush import PushService

SUBSCRIPTIONS_MAX = 10_000
"""Subscriptions that one request may ask for."""
WEBSITE, WEBSITE_FILE, WEBSITE_PASSWORD = "web.com.example.orchard", "website.p12", "simulator"
"""A website push id, and where the certificate lies with which the local APNs knows it."""


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """How many subscriptions, made with which application server key (base64url)."""

    count: int
    key: str


class Scripted(Struct, frozen=True, forbid_unknown_fields=True):
    """What the relay replies to mails for a recipient ("" for any), at which stage; null is silence, "" a cut."""

    stage: Literal["login", "mail", "rcpt", "data", "end"]
    recipient: str = ""
    reply: Annotated[str, Meta(max_length=200, pattern=r"^[ -~]*$")] | None = None


class Vendors(Service):
    """FCM, a push service, HMS, a relay. `first_port`: theirs are this and the following ones; 0 picks free ones."""

    def __init__(self, identity: Identity, *, host: str = "127.0.0.1", first_port: int = 0, clock: Clock) -> None:
        super().__init__()
        port = (lambda at: first_port + at) if first_port else (lambda _: 0)
        self.fcm = LocalFcm(identity, host=host, port=port(0), oauth_port=port(1), clock=clock)
        self.push = PushService(
            identity, host=host, port=port(2), http1_port=port(3), browser_port=port(4), clock=clock
        )
        self.hms = HmsSimulator(identity, host=host, port=port(5), clock=clock)
        self.relay = SmtpSimulator(host=host, port=port(6), starttls=identity.tls(alpn=()))
        self.faults = {"fcm": self.fcm.faults, "webpush": self.push.faults, "hms": self.hms.faults}
        self._host = host
        self._identity = identity
        self._website = identity.directory / WEBSITE_FILE

    async def start(self) -> None:
        """Listens for all of them; a website's certificate is made."""
        p12 = self._identity.p12([WEBSITE], WEBSITE_PASSWORD, environments=[Environment.PRODUCTION])
        write_private(self._website, p12)
        for vendor in (self.fcm, self.push, self.hms, self.relay):
            await vendor.start()

    async def stop(self) -> None:
        """Closes listeners and connections."""
        for vendor in (self.relay, self.hms, self.push, self.fcm):
            await vendor.stop()
        await super().stop()

    def listing(self) -> dict[str, dict[str, Any]]:
        """By vendor, where it listens and what it knows."""
        (client_id, client_secret), *_ = self.hms.clients.items()
        account = self.fcm.account
        key_file = self._identity.directory / f"{account.client_email.partition('@')[0]}.{account.project_id}.json"
        return {
            "fcm": {"port": self.fcm.port, "oauth_port": self.fcm.oauth_port, "key_file": str(key_file)},
            "webpush": {
                "port": self.push.port,
                "http1_port": self.push.http1_port,
                "browser_port": self.push.browser_port,
            },
            "hms": {"port": self.hms.port, "client_id": client_id, "client_secret": client_secret},
            "email": {"port": self.relay.port},
            "safari": {
                "website_push_id": WEBSITE,
                "p12_file": str(self._website),
                "password": WEBSITE_PASSWORD,
                "url_format": "https://orchard.example/%@",
            },
        }

    def environ(self) -> dict[str, str]:
        """The settings with which a daemon sends here, as environment variables."""
        hosts = [f"{self.push.name}:{port}" for port in (self.push.port, self.push.http1_port)]
        ca_file = str(self._identity.ca_file)
        return {
            "PUSHD__FCM__HOST": self._host,
            "PUSHD__FCM__PORT": str(self.fcm.port),
            "PUSHD__FCM__OAUTH_HOST": self._host,
            "PUSHD__FCM__OAUTH_PORT": str(self.fcm.oauth_port),
            "PUSHD__FCM__CA_FILE": ca_file,
            "PUSHD__WEBPUSH__HOSTS_ADDED": msgspec.json.encode(hosts).decode(),
            "PUSHD__WEBPUSH__NETWORKS_ALLOWED": '["127.0.0.0/8","::1/128"]',
            "PUSHD__WEBPUSH__CA_FILE": ca_file,
            "PUSHD__HMS__HOST": self._host,
            "PUSHD__HMS__PORT": str(self.hms.port),
            "PUSHD__HMS__OAUTH_HOST": self._host,
            "PUSHD__HMS__OAUTH_PORT": str(self.hms.port),
            "PUSHD__HMS__CA_FILE": ca_file,
            "PUSHD__EMAIL__RELAY_HOST": self._host,
            "PUSHD__EMAIL__RELAY_PORT": str(self.relay.port),
            "PUSHD__EMAIL__SECURITY": "starttls",
            "PUSHD__EMAIL__CA_FILE": ca_file,
        }

    def counts(self) -> dict[str, dict[str, Any]]:
        """By vendor, what arrived."""
        return {
            "fcm": {"accepted": self.fcm.accepted.total(), "violations": dict(self.fcm.record.violation_kinds)},
            "webpush": {"accepted": self.push.accepted.total(), "violations": dict(self.push.record.violation_kinds)},
            "hms": {"accepted": self.hms.arrived.total(), "violations": {"hms": len(self.hms.violations)}},
            "email": {"accepted": self.relay.arrived.total(), "violations": {"email": len(self.relay.violations)}},
        }

    def script_mail(self, body: bytes) -> None:
        """Has the relay reply to a recipient's mails so; InvalidRequestError for a request that is none."""
        try:
            wanted = msgspec.json.decode(body, type=Scripted)
        except msgspec.DecodeError as error:
            raise InvalidRequestError(str(error)) from None
        reply = None if wanted.reply is None else wanted.reply.encode("ascii", "replace")
        self.relay.scripts[wanted.recipient] = Script(wanted.stage, reply)

    def subscribe(self, body: bytes) -> list[dict[str, Any]]:
        """New subscriptions of browsers that are played here; InvalidRequestError for a request that is none."""
        try:
            wanted = msgspec.json.decode(body, type=Wanted)
            key = base64.urlsafe_b64decode(wanted.key + "=" * (-len(wanted.key) % 4))
        except (msgspec.DecodeError, binascii.Error, ValueError) as error:
            raise InvalidRequestError(str(error)) from None
        if not 1 <= wanted.count <= SUBSCRIPTIONS_MAX:
            raise InvalidRequestError(f"count must be from 1 to {SUBSCRIPTIONS_MAX}")
        return [self.push.subscribe(key).to_json() for _ in range(wanted.count)]
