"""The e-mail gateway: mails through the operator's relay, from the sender that each credential names."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from pushd import outcome
from pushd.batch import Batch, Lane, Rendered
from pushd.clock import Clock, SystemClock
from pushd.config.email import EmailConfig
from pushd.errors import ConfigError
from pushd.gateway import Proof
from pushd.gateways.email_answers import REASONS
from pushd.gateways.email_mail import shared
from pushd.gateways.email_pool import Part, Pool
from pushd.gateways.email_relay import Relay, RelayError
from pushd.model.credential import EmailSender, Secret
from pushd.model.device import GatewayName, Route
from pushd.transport.queue import Sending

PASSWORD_BYTES_MAX = 4_096


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class PoolKey(NamedTuple):
    """What mails must share to share connections."""

    credential_id: int
    lane: Lane


class EmailGateway:
    """Sends batches as mails."""

    name = GatewayName.EMAIL
    reasons = REASONS

    def __init__(self, config: EmailConfig, secrets: Secrets, clock: Clock | None = None) -> None:
        self._config = config
        self._secrets = secrets
        self._clock = clock or SystemClock()
        self._slots = asyncio.Semaphore(config.connections_max)
        self._relay: Relay | None = None
        self._pools: dict[PoolKey, Pool] = {}
        self._retired: set[Pool] = set()
        self._stopped = False

    async def start(self) -> None:
        """Reads password and trusted roots; ConfigError when they cannot be read."""
        config = self._config
        if not config.relay_host:
            return
        try:
            context = None if config.security == "none" else ssl.create_default_context(cafile=config.ca_file or None)
            password = ""
            if config.password_file:
                with Path(config.password_file).open() as file:  # noqa: ASYNC230  once, before anything is served
                    password = file.read(PASSWORD_BYTES_MAX).strip()
        except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigError(f"email.ca_file or email.password_file cannot be read: {type(error).__name__}") from None
        self._relay = Relay(config, context, password)

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for replies, then closes every connection."""
        self._stopped = True
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        await asyncio.gather(*(pool.stop(drain_s) for pool in pools))

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        if self._stopped:
            batch.settle_pending(outcome.NOT_WRITTEN.code)
            return
        if self._relay is None:
            batch.settle_pending(outcome.NOT_SUPPORTED.code)
            return
        secret = self._secrets.secret(batch.credential_id)
        pool = self._pool(batch, secret)
        if pool is None:
            batch.settle_pending(outcome.NO_CREDENTIAL.code)
            return
        sending = Sending(batch, asyncio.get_running_loop().create_future())
        await pool.send(sending, self._parts(sending, pool.sender))

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:  # noqa: ARG002  one relay for every route
        """How many mails of this credential and lane would be taken now, waiting ones counted."""
        if self._stopped:
            return 0
        pool = self._pools.get(PoolKey(credential_id, lane))
        most = self._connections(lane) * self._config.rows_ahead
        return max(0, most - (0 if pool is None else pool.rows))

    def drop_credential(self, credential_id: int) -> None:
        """Ends the pools of this credential; later mails are sent as what it then is."""
        for key in [key for key in self._pools if key.credential_id == credential_id]:
            pool = self._pools.pop(key)
            pool.retire()
            self._retired.add(pool)

    async def prove(self, route: Route, credential_id: int) -> Proof:  # noqa: ARG002  one relay for every route
        """Logs in at the relay and asks whether it takes mail from the sender; none is sent."""
        secret = self._secrets.secret(credential_id)
        if not isinstance(secret, EmailSender):
            return Proof.of(outcome.NO_CREDENTIAL)
        if self._relay is None:
            return Proof(None, "this daemon has no relay for e-mail")
        try:
            connection = await self._relay.connect()
        except RelayError as error:
            return Proof.of(REASONS.by_code[error.code])
        try:
            return Proof.of(REASONS.by_code[await connection.ask(secret.from_address)])
        finally:
            await connection.close()

    def _connections(self, lane: Lane) -> int:
        return self._config.bulk_connections if lane is Lane.BULK else self._config.transactional_connections

    def _pool(self, batch: Batch, secret: Secret | None) -> Pool | None:
        """The pool of a batch's key; None where its credential cannot be used."""
        key = PoolKey(batch.credential_id, batch.lane)
        pool = self._pools.get(key)
        if pool is not None:
            return pool
        if not isinstance(secret, EmailSender) or self._relay is None:
            return None
        self._make_way()
        pool = Pool(self._relay, secret, self._connections(batch.lane), self._slots, self._config, self._clock)
        self._pools[key] = pool
        return pool

    def _parts(self, sending: Sending, sender: EmailSender) -> list[Part]:
        """The rows of a batch by what they say; what cannot be a mail ends here."""
        batch, now = sending.batch, self._clock.now()
        alike: dict[bytes, list[int]] = {}
        if isinstance(batch.payloads, Rendered):
            alike[batch.payloads.payload] = list(range(len(batch)))
        else:
            for row, rendered in enumerate(batch.payloads):
                alike.setdefault(rendered.payload, []).append(row)
        parts = []
        for payload, rows in alike.items():
            pending = [row for row in rows if not batch.outcomes[row]]
            if pending:
                parts.append(Part(sending, pending, partial(shared, payload, sender, now)))
        return parts

    def _make_way(self) -> None:
        """Forgets idle pools when there are too many, and retired ones that are done."""
        self._retired = {pool for pool in self._retired if not pool.idle}
        if len(self._pools) >= self._config.pools_max:
            for key in [key for key, pool in self._pools.items() if pool.idle]:
                self._pools.pop(key).retire()
