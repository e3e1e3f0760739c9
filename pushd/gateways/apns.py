"""The APNs gateway: pools per credential, environment and lane over HTTP/2, with provider tokens or certificates."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple, Protocol

import numpy as np

from protocols import apns
from pushd import outcome
from pushd.batch import Batch, Lane, Rendered
from pushd.clock import Clock, SystemClock
from pushd.config.apns import ApnsConfig
from pushd.config.transport import TransportConfig
from pushd.credentials.apns_tokens import TokenMints
from pushd.errors import ConfigError
from pushd.gateway import Proof
from pushd.gateways import apns_forms
from pushd.gateways.apns_channels import ChannelManagement, Login
from pushd.gateways.apns_exchange import REASONS, TOPIC_NOT_CERTIFIED, ApnsExchange, TokenExchange
from pushd.model.credential import ApnsCertificate, ApnsToken, CertificateSecret, Secret
from pushd.model.device import Environment, GatewayName, Kind, Route
from pushd.outcome import Reason
from pushd.transport.dial import CLIENT_CERTIFICATE, Dialer, DialError
from pushd.transport.pool import STREAMS_ASSUMED, Pool
from pushd.transport.resolve import Resolver, SystemResolver
from pushd.transport.tls import client_context

HTTPS_PORT = 443

NOBODY = b"dead" * 16
"""A well-formed device token that Apple gives to no device."""

PROBE = Rendered(
    payload=b'{"aps":{"content-available":1}}', headers=(("apns-push-type", "background"), ("apns-priority", "5"))
)


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class PoolKey(NamedTuple):
    """What rows must share to share links (A-05): host, credential (team and key with it) and lane."""

    environment: Environment
    credential_id: int
    lane: Lane


class ApnsGateway:
    """Sends batches to Apple, or to whatever the configuration names in its place."""

    name = GatewayName.APNS
    reasons = REASONS
    certificates: type[CertificateSecret] = ApnsCertificate
    """The secrets that prove themselves by a certificate here."""
    probe = PROBE

    def __init__(
        self,
        config: ApnsConfig,
        transport: TransportConfig,
        secrets: Secrets,
        clock: Clock | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._transport = transport
        self._secrets = secrets
        self._clock = clock or SystemClock()
        self._resolver = resolver or SystemResolver(transport.resolve_timeout_s)
        self._mints = TokenMints(self._clock, config)
        self._context: ssl.SSLContext | None = None
        self._pools: dict[PoolKey, Pool] = {}
        self._retired: set[Pool] = set()
        self._stopped = False
        self.channels = ChannelManagement(config, transport, secrets, self._login, self._clock, self._resolver)
        """Creates and deletes the channels of broadcasts, which are other hosts' business."""

    async def start(self) -> None:
        """Reads the trusted roots; ConfigError when they cannot be read."""
        try:
            self._context = client_context(self._config.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"apns.ca_file cannot be read: {error}") from error

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for answers, then closes every link."""
        self._stopped = True
        self.channels.stop()
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        await asyncio.gather(*(pool.stop(drain_s) for pool in pools))

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        if self._stopped or self._context is None:
            batch.settle_pending(outcome.NOT_WRITTEN.code)
            return
        pool = self._pool(batch)
        if isinstance(pool, Reason):
            batch.settle_pending(pool.code)
            return
        await pool.send(batch, apns_forms.loads)

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:
        """How many rows the links of this route and lane would take now, waiting ones counted."""
        pool = self._pools.get(PoolKey(route.environment, credential_id, lane))
        if pool is not None:
            return pool.room()
        return 0 if self._stopped else min(2 * STREAMS_ASSUMED * self._links(lane), self._transport.queue_rows_max)

    def drop_credential(self, credential_id: int) -> None:
        """Drains every link of this credential; later rows open new ones with what the credential then is (A-06)."""
        self.channels.drop_credential(credential_id)
        for key in [key for key in self._pools if key.credential_id == credential_id]:
            self._retire(self._pools.pop(key))

    async def prove(self, route: Route, credential_id: int) -> Proof:
        """Asks with a token that no device has: Apple looks at the credential and the topic first."""
        if route.kind is Kind.APNS_CHANNEL:
            route = route._replace(kind=Kind.APNS)  # of a channel it would say nothing more
        batch = Batch(
            route=route,
            credential_id=credential_id,
            lane=Lane.TRANSACTIONAL,
            ids=np.zeros(1, np.uint32),
            tokens=np.array([NOBODY]),
            revisions=np.zeros(1, np.int32),
            notifications=0,
            payloads=self.probe,
        )
        await self.send(batch)
        return Proof.of(REASONS.by_code[int(batch.outcomes[0])])

    @property
    def pools(self) -> list[Pool]:
        """The pools in use, for metrics."""
        return list(self._pools.values())

    def _pool(self, batch: Batch) -> Pool | Reason:
        """The pool of a batch's key; a reason where its credential cannot be used for it."""
        key = PoolKey(batch.route.environment, batch.credential_id, batch.lane)
        secret = self._secrets.secret(batch.credential_id)
        if isinstance(secret, CertificateSecret) and (unfit := self._unfit(batch, secret)):
            return unfit
        pool = self._pools.get(key)
        if pool is not None:
            return pool
        try:
            login = self._login(secret)
        except (ValueError, ssl.SSLError):
            login = None
        if login is None:
            return outcome.NO_CREDENTIAL
        self._make_way()
        pool = self._pools[key] = self._new_pool(key, login)
        return pool

    def _unfit(self, batch: Batch, secret: CertificateSecret) -> Reason | None:
        """Why a certificate cannot carry a batch: it has expired (A-25), or does not list the topic (A-21)."""
        rendered = batch.payloads if isinstance(batch.payloads, Rendered) else next(iter(batch.payloads), None)
        if rendered is None:
            return None
        try:
            identity = secret.identity
        except ValueError:
            return outcome.NO_CREDENTIAL
        if self._clock.now() >= identity.not_after:
            return outcome.CERTIFICATE_EXPIRED
        # The push types of one kind of address have one topic, so the first message speaks for all.
        push_type = dict(rendered.headers).get(apns_forms.PUSH_TYPE, "alert")
        bundle = batch.route.bundle
        # Of a broadcast Apple sees the bundle id alone.
        topic = bundle if batch.route.kind is Kind.APNS_CHANNEL else apns.topic(bundle, push_type)
        return None if topic in identity.topics else TOPIC_NOT_CERTIFIED

    def _login(self, secret: Secret | None) -> Login | None:
        """How links prove who they are; ValueError or ssl.SSLError for key material that cannot be used."""
        assert self._context is not None
        if isinstance(secret, self.certificates):
            return Login(client_context(self._config.ca_file, secret.identity), None)
        if isinstance(secret, ApnsToken) and secret.gateway is self.name:
            return Login(self._context, self._mints.of(secret))
        return None

    def _new_pool(self, key: PoolKey, login: Login) -> Pool:
        config = self._config
        production = key.environment is Environment.PRODUCTION
        host = config.production_host if production else config.sandbox_host
        port = config.production_port if production else config.sandbox_port
        authority = (host if port == HTTPS_PORT else f"{host}:{port}").encode()

        errors_max = self._transport.server_errors_max

        def exchange(stateless: bool) -> ApnsExchange:
            if login.mint is None:
                return ApnsExchange(authority, self._clock, config, errors_max, stateless_headers=stateless)
            return TokenExchange(authority, login.mint, self._clock, config, errors_max, stateless_headers=stateless)

        return Pool(
            f"{host}/{key.credential_id}/{key.lane.name.lower()}",
            Dialer(host, port, login.context, self._resolver, self._transport),
            exchange,
            self._links(key.lane),
            self._transport,
            _undialled,
        )

    def _links(self, lane: Lane) -> int:
        return self._transport.bulk_links if lane is Lane.BULK else self._transport.transactional_links

    def _make_way(self) -> None:
        """Forgets pools without links when there are too many, and retired ones that are gone."""
        self._retired = {pool for pool in self._retired if not pool.idle}
        if len(self._pools) >= self._config.pools_max:
            for key in [key for key, pool in self._pools.items() if pool.idle]:
                self._pools.pop(key).retire()

    def _retire(self, pool: Pool) -> None:
        pool.retire()
        self._retired.add(pool)


def _undialled(error: DialError) -> int:
    """Waiting rows go home where the peer refuses our certificate (A-24): the next connect would end as this one."""
    return outcome.CERTIFICATE_REFUSED.code if error.kind == CLIENT_CERTIFICATE else 0
