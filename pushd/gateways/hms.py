"""The HMS gateway: batches as few requests of many devices each, with OAuth access tokens, to Huawei's Push Kit."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import aiohttp
import numpy as np

from protocols import hms, oauth2
from pushd import outcome
from pushd.batch import Batch, Lane, Rendered
from pushd.clock import Clock, SystemClock
from pushd.config.hms import HmsConfig
from pushd.config.transport import TransportConfig
from pushd.credentials.oauth_endpoint import TokenEndpoint
from pushd.credentials.oauth_tokens import Login, Logins, RefreshTimes, digest
from pushd.errors import ConfigError
from pushd.gateway import Proof
from pushd.gateways.hms_answers import ILLEGAL, REASONS
from pushd.gateways.hms_pool import Pool
from pushd.gateways.hms_requests import requests
from pushd.model.credential import HmsClient, Secret
from pushd.model.device import GatewayName, Route
from pushd.transport.queue import Sending
from pushd.transport.tls import client_context

AHEAD = 2
"""Requests that may wait for each that is on the wire."""

NOBODY = b"pushd-asks-with-a-token-that-no-device-has"
PROBE = Rendered(payload=hms.probe_frame())


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class PoolKey(NamedTuple):
    """What requests must share to share a queue."""

    credential_id: int
    lane: Lane


@dataclass(frozen=True, slots=True)
class ClientGrant:
    """Client credentials of an app (H-01)."""

    secret: HmsClient

    @property
    def account(self) -> str:
        """The client id."""
        return f"hms {self.secret.client_id}"

    @property
    def identity(self) -> tuple[str, ...]:
        """Client id and a digest of the secret."""
        return "hms", self.secret.client_id, digest(self.secret.client_secret)

    def form(self, now: float) -> bytes:  # noqa: ARG002  assertions carry a time, client credentials none
        """The form to post, the secret percent-encoded in it."""
        return oauth2.client_credentials_form(self.secret.client_id, self.secret.client_secret)


class HmsGateway:
    """Sends batches to Huawei, or to whatever the configuration names in its place."""

    name = GatewayName.HMS
    reasons = REASONS

    def __init__(
        self, config: HmsConfig, transport: TransportConfig, secrets: Secrets, clock: Clock | None = None
    ) -> None:
        self._config = config
        self._transport = transport
        self._secrets = secrets
        self._clock = clock or SystemClock()
        self._endpoint = TokenEndpoint(config.oauth_host, config.oauth_port, hms.TOKEN_PATH, config.oauth_timeout_s)
        times = RefreshTimes(
            ahead_s=config.oauth_ahead_s,
            jitter_s=config.oauth_jitter_s,
            backoff_base_s=config.oauth_backoff_base_s,
            backoff_cap_s=config.oauth_backoff_cap_s,
        )
        self._logins = Logins(self._endpoint, times, self._clock)
        self._session: aiohttp.ClientSession | None = None
        self._pools: dict[PoolKey, Pool] = {}
        self._retired: set[Pool] = set()
        self._stopped = False

    async def start(self) -> None:
        """Reads the trusted roots; ConfigError when they cannot be read."""
        try:
            context = client_context(self._config.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"hms.ca_file cannot be read: {error}") from error
        context.set_alpn_protocols(["http/1.1"])
        self._endpoint.start(context)
        await self._logins.start()
        # Pools bound how many requests there are; the connector only keeps connections for them.
        connector = aiohttp.TCPConnector(
            ssl=context, limit=0, keepalive_timeout=self._config.idle_close_s, use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._transport.connect_timeout_s,
                sock_read=self._transport.response_timeout_s,
            ),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for answers, then closes every connection."""
        self._stopped = True
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        await asyncio.gather(*(pool.stop(drain_s) for pool in pools))
        await self._logins.stop()
        if self._session is not None:
            await self._session.close()

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        if self._stopped or self._session is None:
            batch.settle_pending(outcome.NOT_WRITTEN.code)
            return
        pool = self._pool(batch)
        if pool is None:
            batch.settle_pending(outcome.NO_CREDENTIAL.code)
            return
        sending = Sending(batch, asyncio.get_running_loop().create_future())
        await pool.send(sending, requests(sending, self._per_request(batch.lane), ILLEGAL))

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:  # noqa: ARG002  one host for every route
        """How many rows the requests of this credential and lane would take now, waiting ones counted."""
        if self._stopped:
            return 0
        pool = self._pools.get(PoolKey(credential_id, lane))
        most = min(AHEAD * self._config.requests_max * self._per_request(lane), self._transport.queue_rows_max)
        return max(0, most - (0 if pool is None else pool.rows))

    def drop_credential(self, credential_id: int) -> None:
        """Ends the pools of this credential; later rows are sent with what the credential then is."""
        secret = self._secrets.secret(credential_id)
        if isinstance(secret, HmsClient):
            self._login(secret).forget_refusal()
        for key in [key for key in self._pools if key.credential_id == credential_id]:
            pool = self._pools.pop(key)
            pool.retire()
            self._retired.add(pool)

    async def prove(self, route: Route, credential_id: int) -> Proof:
        """Asks with `validate_only` and a token that no device has."""
        batch = Batch(
            route=route,
            credential_id=credential_id,
            lane=Lane.TRANSACTIONAL,
            ids=np.zeros(1, np.uint32),
            tokens=np.array([NOBODY]),
            revisions=np.zeros(1, np.int32),
            notifications=0,
            payloads=PROBE,
        )
        await self.send(batch)
        return Proof.of(REASONS.by_code[int(batch.outcomes[0])])

    def _per_request(self, lane: Lane) -> int:
        config = self._config
        return config.tokens_per_request if lane is Lane.BULK else config.transactional_tokens_per_request

    def _login(self, secret: HmsClient) -> Login:
        return self._logins.of(ClientGrant(secret))

    def _pool(self, batch: Batch) -> Pool | None:
        """The pool of a batch's key; None where its credential cannot be used."""
        key = PoolKey(batch.credential_id, batch.lane)
        pool = self._pools.get(key)
        if pool is not None:
            return pool
        secret = self._secrets.secret(batch.credential_id)
        if not isinstance(secret, HmsClient) or self._session is None:
            return None
        self._make_way()
        url = f"https://{self._config.host}:{self._config.port}{hms.send_path(secret.client_id, secret.project_id)}"
        pool = Pool(url, self._login(secret), self._session, self._config, self._transport, self._clock)
        self._pools[key] = pool
        return pool

    def _make_way(self) -> None:
        """Forgets idle pools when there are too many, and retired ones that are done."""
        self._retired = {pool for pool in self._retired if not pool.idle}
        if len(self._pools) >= self._config.pools_max:
            for key in [key for key, pool in self._pools.items() if pool.idle]:
                self._pools.pop(key).retire()
