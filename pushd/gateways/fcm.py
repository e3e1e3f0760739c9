"""The FCM gateway: pools per credential and lane over HTTP/2, one login per account, one quota per project."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from protocols import fcm, jwt, oauth2
from pushd import outcome
from pushd.batch import Batch, Lane, Rendered
from pushd.clock import Clock, SystemClock
from pushd.config.fcm import FcmConfig
from pushd.config.transport import TransportConfig
from pushd.credentials.oauth_endpoint import TokenEndpoint
from pushd.credentials.oauth_tokens import Login, Logins, RefreshTimes, digest
from pushd.errors import ConfigError
from pushd.gateway import Proof
from pushd.gateways import fcm_forms
from pushd.gateways.fcm_exchange import LOGIN_REFUSED, LOGIN_UNAVAILABLE, PACED, REASONS, FcmExchange
from pushd.gateways.fcm_probe import Prober
from pushd.gateways.fcm_quota import Quota, Quotas
from pushd.model.credential import FcmServiceAccount, Secret
from pushd.model.device import Environment, GatewayName, Kind, Route
from pushd.outcome import Reason
from pushd.service import Service
from pushd.transport.dial import Dialer
from pushd.transport.pool import STREAMS_ASSUMED, Pool
from pushd.transport.queue import Load, Sending
from pushd.transport.resolve import Resolver, SystemResolver
from pushd.transport.tls import client_context

HTTPS_PORT = 443

PROOF_TOPIC = fcm.Target("topic", "pushd-credential-test")
"""Whom a credential's test would be for, if it were sent."""

Prepare = Callable[[Sending], Iterable[Load]]


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class PoolKey(NamedTuple):
    """What rows must share to share links: credential (project and account with it) and lane."""

    credential_id: int
    lane: Lane


@dataclass(slots=True, eq=False)
class _Way:
    """All that rows of one pool key need on their way."""

    pool: Pool
    login: Login
    quota: Quota
    waiting: int = 0
    """Rows that wait for an access token or for the quota."""


class Published(NamedTuple):
    """What became of a message to a topic or a condition."""

    reason: Reason
    retry_after_s: float | None


class AccountGrant:
    """A service account's assertion (F-01). Addresses in its key file play no part (F-02)."""

    def __init__(self, secret: FcmServiceAccount) -> None:
        self._key: rsa.RSAPrivateKey = jwt.load_rsa(secret.private_key)
        self._key_id = secret.private_key_id
        self.account = secret.client_email
        self.identity = (secret.client_email, secret.private_key_id, fcm.OAUTH_SCOPE, digest(secret.private_key))

    def form(self, now: float) -> bytes:
        """The form that exchanges an assertion signed now."""
        signed = oauth2.assertion(
            self._key,
            key_id=self._key_id,
            issuer=self.account,
            audience=fcm.OAUTH_AUDIENCE,
            scope=fcm.OAUTH_SCOPE,
            now=now,
        )
        return oauth2.assertion_form(signed)


class FcmGateway:
    """Sends batches to Google, or to whatever the configuration names in its place."""

    name = GatewayName.FCM
    reasons = REASONS

    def __init__(
        self,
        config: FcmConfig,
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
        self._endpoint = TokenEndpoint(config.oauth_host, config.oauth_port, fcm.OAUTH_PATH, config.oauth_timeout_s)
        times = RefreshTimes(
            ahead_s=config.oauth_ahead_s,
            jitter_s=config.oauth_jitter_s,
            backoff_base_s=config.oauth_backoff_base_s,
            backoff_cap_s=config.oauth_backoff_cap_s,
        )
        self._logins = Logins(self._endpoint, times, self._clock)
        self._quotas = Quotas(self._clock, config)
        self._probes = Service()
        self._context: ssl.SSLContext | None = None
        self._ways: dict[PoolKey, _Way] = {}
        self._retired: set[Pool] = set()
        self._stopped = False

    async def start(self) -> None:
        """Reads the trusted roots; ConfigError when they cannot be read."""
        try:
            self._context = client_context(self._config.ca_file)
            self._endpoint.start(ssl.create_default_context(cafile=self._config.ca_file or None))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"fcm.ca_file cannot be read: {error}") from error

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for answers, then closes every link."""
        self._stopped = True
        pools = [*(way.pool for way in self._ways.values()), *self._retired]
        self._ways.clear()
        self._retired.clear()
        await asyncio.gather(*(pool.stop(drain_s) for pool in pools))
        await self._probes.stop()
        await self._logins.stop()

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        now = self._clock.now()
        await self._send(batch, partial(fcm_forms.loads, now=now))

    async def publish(
        self, credential_id: int, target: fcm.Target, rendered: Rendered, *, validate_only: bool = False
    ) -> Published:
        """What became of one message to a topic or a condition (F-11); with `validate_only` it reaches nobody (F-17).

        ValueError for a target that FCM could not take. At most 2,048 bytes of payload (F-16).
        """
        check = {"topic": fcm.check_topic, "condition": fcm.check_condition, "token": fcm.check_token}[target.field]
        check(target.value)
        if max(fcm.payload_bytes(orjson.loads(rendered.payload)).values()) > fcm.TOPIC_PAYLOAD_BYTES_MAX:
            return Published(outcome.PAYLOAD_TOO_LARGE, None)
        batch = Batch(
            route=Route(0, Kind.FCM, Environment.PRODUCTION, ""),
            credential_id=credential_id,
            lane=Lane.TRANSACTIONAL,
            ids=np.zeros(1, np.uint32),
            tokens=np.array([b"-"]),
            revisions=np.zeros(1, np.int32),
            notifications=0,
            payloads=rendered,
        )
        now = self._clock.now()
        await self._send(batch, partial(fcm_forms.target_loads, target=target, validate_only=validate_only, now=now))
        return Published(REASONS.by_code[int(batch.outcomes[0])], batch.retry_after.get(0))

    async def prove(self, route: Route, credential_id: int) -> Proof:
        """Has FCM validate a message that is not sent: that proves account, role, project and path (F-17)."""
        del route  # a project is one for all packages
        way = self._way(credential_id, Lane.TRANSACTIONAL)
        if way is not None:
            way.login.forget_refusal()
        published = await self.publish(
            credential_id, PROOF_TOPIC, Rendered(payload=b'{"data":{"pushd":"test"}}'), validate_only=True
        )
        return Proof.of(published.reason)

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:
        """How many rows the links of this lane and the quota of its project would take now, waiting ones counted."""
        del route
        way = self._ways.get(PoolKey(credential_id, lane))
        if way is not None:
            return max(0, min(way.pool.room(), way.quota.room(lane)) - way.waiting)
        return 0 if self._stopped else min(2 * STREAMS_ASSUMED * self._links(lane), self._transport.queue_rows_max)

    def drop_credential(self, credential_id: int) -> None:
        """Drains every link of this credential; later rows open new ones with what the credential then is."""
        for key in [key for key in self._ways if key.credential_id == credential_id]:
            way = self._ways.pop(key)
            way.login.forget_refusal()
            self._retire(way.pool)

    @property
    def pools(self) -> list[Pool]:
        """The pools in use, for metrics."""
        return [way.pool for way in self._ways.values()]

    async def _send(self, batch: Batch, prepare: Prepare) -> None:
        way = None if self._stopped or self._context is None else self._way(batch.credential_id, batch.lane)
        if way is None:
            stopped = self._stopped or self._context is None
            batch.settle_pending((outcome.NOT_WRITTEN if stopped else outcome.NO_CREDENTIAL).code)
            return
        way.waiting += len(batch)
        try:
            if await way.login.ready(self._config.oauth_wait_s) is None:
                batch.settle_pending((LOGIN_REFUSED if way.login.refused else LOGIN_UNAVAILABLE).code)
            elif not await way.quota.take(len(batch), batch.lane, self._config.quota_wait_s):
                batch.settle_pending(PACED.code)
        except asyncio.CancelledError:
            batch.settle_pending(outcome.NOT_WRITTEN.code)
            raise
        finally:
            way.waiting -= len(batch)
        if batch.pending:
            await way.pool.send(batch, prepare)

    def _way(self, credential_id: int, lane: Lane) -> _Way | None:
        """The way of a credential and lane; None where the credential cannot be used."""
        key = PoolKey(credential_id, lane)
        way = self._ways.get(key)
        if way is not None:
            return way
        secret = self._secrets.secret(credential_id)
        if self._stopped or self._context is None or not isinstance(secret, FcmServiceAccount):
            return None
        try:
            fcm.check_project_id(secret.project_id)
            login = self._logins.of(AccountGrant(secret))
        except ValueError:
            return None
        self._make_way()
        quota = self._quotas.of(secret.project_id)
        way = self._ways[key] = _Way(self._new_pool(key, secret.project_id, login, quota), login, quota)
        return way

    def _new_pool(self, key: PoolKey, project_id: str, login: Login, quota: Quota) -> Pool:
        assert self._context is not None
        config = self._config
        authority = (config.host if config.port == HTTPS_PORT else f"{config.host}:{config.port}").encode()

        async def ask(batch: Batch) -> None:
            quota.charge(len(batch))
            await pool.send(batch, fcm_forms.probe_loads)

        prober = Prober(ask, self._probes.spawn, config.probes_max)

        def exchange(stateless_headers: bool) -> FcmExchange:
            return FcmExchange(
                authority,
                project_id,
                login,
                quota,
                prober.doubt,
                self._clock,
                config,
                self._transport.server_errors_max,
                stateless_headers=stateless_headers,
            )

        pool = Pool(
            f"{config.host}/{key.credential_id}/{key.lane.name.lower()}",
            Dialer(config.host, config.port, self._context, self._resolver, self._transport),
            exchange,
            self._links(key.lane),
            self._transport,
        )
        return pool

    def _links(self, lane: Lane) -> int:
        return self._transport.bulk_links if lane is Lane.BULK else self._transport.transactional_links

    def _make_way(self) -> None:
        """Forgets pools without links when there are too many, and retired ones that are gone."""
        self._retired = {pool for pool in self._retired if not pool.idle}
        if len(self._ways) >= self._config.pools_max:
            for key in [key for key, way in self._ways.items() if way.pool.idle]:
                self._ways.pop(key).pool.retire()

    def _retire(self, pool: Pool) -> None:
        pool.retire()
        self._retired.add(pool)
