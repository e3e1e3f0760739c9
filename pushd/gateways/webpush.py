"""The Web Push gateway: rows by push service and key, encrypted, over links of each service's own (RFC 8030).

    addresses ─ sort ─► rows by origin and key ─ encrypt ─► bodies as a matrix ─► its way ─► link

A service has ways of its own for each credential and lane, and only so many rows may wait for one: what is more goes
home unprocessed, so that a slow service never holds what is meant for another. UnifiedPush has the same wire format.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols import aes128gcm, webpush
from pushd import outcome
from pushd.batch import Batch, Lane, Rendered
from pushd.clock import Clock, SystemClock
from pushd.config.transport import TransportConfig
from pushd.config.webpush import WebPushConfig
from pushd.credentials.vapid_keys import VapidRing, VapidTokens
from pushd.errors import ConfigError
from pushd.gateway import Proof
from pushd.gateways import webpush_forms, webpush_judge
from pushd.gateways.webpush_forms import Rows
from pushd.gateways.webpush_judge import REASONS, Judge
from pushd.gateways.webpush_seal import KEY_CHARS
from pushd.gateways.webpush_way import Origin, Reach, Way
from pushd.gateways.webpush_workers import Encryptor
from pushd.model.credential import Secret, VapidKeys
from pushd.model.device import GatewayName, Route
from pushd.outcome import Reason
from pushd.service import Contained
from pushd.transport.guard import Guard, parse
from pushd.transport.queue import Sending
from pushd.transport.resolve import Resolver, SystemResolver
from pushd.transport.tls import ALPN_H2, client_context

ORIGINS_MAX = 20_000
"""Push services remembered, with what they said of our keys; the least used goes first."""
SLICE_ROWS = 64
"""Messages of their own that are made ready between two turns of the event loop."""


class Secrets(Protocol):
    """Where credentials come from: the keyring."""

    def secret(self, credential_id: int) -> Secret | None:
        """The opened secret; None when there is none that can be used."""


class WayKey(NamedTuple):
    """What rows must share to share links."""

    origin: bytes
    credential_id: int
    lane: Lane


class _Part(NamedTuple):
    rows: NDArray[np.intp]
    of: Rows
    way: Way


class WebPushGateway:
    """Sends batches to push services, and to nobody that the guard does not let it."""

    name = GatewayName.WEBPUSH
    reasons = REASONS

    def __init__(
        self,
        config: WebPushConfig,
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
        self._tokens = VapidTokens(self._clock, config)
        self._encryptor = Encryptor(config)
        self._guard = Guard.of(config)
        self._reach: Reach | None = None
        self._rings: dict[int, tuple[VapidKeys, VapidRing]] = {}
        self._origins: OrderedDict[bytes, Origin | Reason] = OrderedDict()
        self._ways: OrderedDict[WayKey, Way] = OrderedDict()
        self._leaving: set[Way] = set()
        self._inside: dict[tuple[int, Lane], int] = {}
        self._stopped = False

    async def start(self) -> None:
        """Reads the trusted roots; ConfigError when they cannot be read. Workers start with the first bulk send."""
        try:
            context, context_http1 = client_context(self._config.ca_file), client_context(self._config.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"webpush.ca_file cannot be read: {error}") from error
        context.set_alpn_protocols([ALPN_H2, "http/1.1"])
        context_http1.set_alpn_protocols(["http/1.1"])
        self._reach = Reach(
            config=self._config,
            transport=self._transport,
            guard=self._guard,
            resolver=self._resolver,
            tokens=self._tokens,
            context=context,
            context_http1=context_http1,
        )

    async def stop(self, drain_s: float) -> None:
        """Takes nothing more, waits at most `drain_s` seconds for answers, then closes every link."""
        self._stopped = True
        await self._encryptor.stop()
        ways = {*self._ways.values(), *self._leaving}
        self._ways.clear()
        self._leaving.clear()
        await asyncio.gather(*(way.stop(drain_s) for way in ways))

    async def send(self, batch: Batch) -> None:
        """Returns when no row of `batch` is pending."""
        ring = None if self._stopped or self._reach is None else self._ring(batch.credential_id)
        if ring is None:
            stopped = self._stopped or self._reach is None
            batch.settle_pending((outcome.NOT_WRITTEN if stopped else outcome.NO_CREDENTIAL).code)
            return
        sending = Sending(batch, asyncio.get_running_loop().create_future())
        ways: set[Way] = set()
        unput = batch.outcomes == 0
        place = batch.credential_id, batch.lane
        self._inside[place] = self._inside.get(place, 0) + len(batch)
        try:
            try:
                with Contained("batch for web push", lambda _: _end(sending, unput, outcome.INTERNAL_ERROR)):
                    await self._make_loads(sending, ring, unput, ways)
            finally:
                self._inside[place] -= len(batch)
            await sending.done
        except asyncio.CancelledError:
            _end(sending, unput, outcome.NOT_WRITTEN)
            for way in ways:
                way.drop(sending)
            raise

    def room(self, route: Route, credential_id: int, lane: Lane) -> int:
        """How many rows would be taken now; what waits for a service that does not move counts for that one alone."""
        del route
        if self._stopped:
            return 0
        waiting = self._inside.get((credential_id, lane), 0)
        for key, way in self._ways.items():
            if key.credential_id == credential_id and key.lane is lane:
                waiting += way.moving
        return max(0, self._config.origin_rows_max - waiting)

    def drop_credential(self, credential_id: int) -> None:
        """Drains every link of this credential; later rows open new ones with what the credential then is."""
        self._rings.pop(credential_id, None)
        for key in [key for key in self._ways if key.credential_id == credential_id]:
            self._retire(key)

    async def prove(self, route: Route, credential_id: int) -> Proof:
        """Whether the keys can be used. No service can be asked: each knows a key only by its own subscriptions."""
        del route
        if self._ring(credential_id) is None:
            return Proof(False, outcome.NO_CREDENTIAL.name)
        return Proof(None, "usable keys; a push service takes them only together with a subscription")

    @property
    def ways(self) -> int:
        """Ways to push services in use, for metrics."""
        return len(self._ways)

    # -- inside

    def _ring(self, credential_id: int) -> VapidRing | None:
        secret = self._secrets.secret(credential_id)
        known = self._rings.get(credential_id)
        if known is not None and (known[0] is secret or secret is None):
            return known[1]
        if not isinstance(secret, VapidKeys):
            return None
        try:
            ring = VapidRing(secret)
        except ValueError:
            return None
        self._rings[credential_id] = secret, ring
        return ring

    async def _make_loads(self, sending: Sending, ring: VapidRing, unput: NDArray[np.bool_], ways: set[Way]) -> None:
        batch = sending.batch
        pending = np.flatnonzero(batch.outcomes == 0)
        if isinstance(batch.payloads, Rendered):
            await self._make_alike(sending, ring, batch.payloads, pending, unput, ways)
            return
        groups: dict[int, tuple[Rendered, list[int]]] = {}
        for row in pending.tolist():
            rendered = batch.payloads[row]
            groups.setdefault(id(rendered), (rendered, []))[1].append(row)
        for count, (rendered, rows) in enumerate(groups.values()):
            if count % SLICE_ROWS == SLICE_ROWS - 1:
                await asyncio.sleep(0)
            await self._make_alike(sending, ring, rendered, np.array(rows, np.intp), unput, ways)

    async def _make_alike(
        self,
        sending: Sending,
        ring: VapidRing,
        rendered: Rendered,
        rows: NDArray[np.intp],
        unput: NDArray[np.bool_],
        ways: set[Way],
    ) -> None:
        """Loads of rows that share a message: sorted by origin and key, encrypted in jobs that cut across them."""
        parts = self._sort(sending, ring, rendered, rows)
        ways.update(part.way for part in parts)
        step, jobs = self._config.job_rows, []
        order = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, np.intp)
        starts = np.cumsum([0, *(len(part.rows) for part in parts)])
        for begin in range(0, len(order), step):
            end = min(begin + step, len(order))
            first, last = np.searchsorted(starts, begin, "right") - 1, np.searchsorted(starts, end, "left")
            cut = [
                part._replace(rows=part.rows[max(0, begin - start) : end - start])
                for part, start in zip(parts[first:last], starts[first:last].tolist(), strict=True)
            ]
            jobs.append(self._make_some(sending, rendered, order[begin:end], cut, unput))
        if len(jobs) == 1:
            await jobs[0]
        elif jobs:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(job)

    async def _make_some(
        self, sending: Sending, rendered: Rendered, rows: NDArray[np.intp], parts: list[_Part], unput: NDArray[np.bool_]
    ) -> None:
        """Encrypts some rows and hands them to their ways."""
        bodies = None
        bad: list[int] = []
        if rendered.payload:
            octets = np.ascontiguousarray(sending.batch.tokens[rows])
            keys = octets.view(np.uint8).reshape(len(rows), octets.dtype.itemsize)[:, :KEY_CHARS].tobytes()
            padding = aes128gcm.padding_for(len(rendered.payload), self._config.padding_block_bytes)
            bodies, bad = await self._encryptor.encrypt(keys, rendered.payload, padding)
        at, now = 0, self._clock.now()
        for part in parts:
            chosen = np.arange(at, at + len(part.rows))
            at += len(part.rows)
            if bad:
                refused = np.isin(chosen, bad)
                self._refuse(sending, unput, rows[chosen[refused]], webpush_judge.BAD_SUBSCRIPTION)
                chosen = chosen[~refused]
            if len(chosen):
                sealed = None if bodies is None else bodies[chosen]
                for load in webpush_forms.loads(sending, part.of, rows[chosen], sealed, now):
                    unput[load.rows] = False
                    part.way.put(load)

    def _sort(self, sending: Sending, ring: VapidRing, rendered: Rendered, rows: NDArray[np.intp]) -> list[_Part]:
        """The rows that may go, by origin and key; the others are settled."""
        lines = sending.batch.tokens[rows].tolist()
        groups: dict[tuple[bytes, bytes], list[int]] = {}
        bad: list[int] = []
        key_at, endpoint_at = webpush.KEY_AT, webpush.ENDPOINT_AT
        for row, line in zip(rows.tolist(), lines, strict=True):
            path_at = line.find(b"/", endpoint_at + 8)
            if path_at < 0 or not webpush.is_address(line):
                bad.append(row)
            else:
                groups.setdefault((line[endpoint_at:path_at], line[key_at : endpoint_at - 1]), []).append(row)
        if bad:
            sending.settle(np.array(bad, np.intp), webpush_judge.BAD_SUBSCRIPTION.code)
        parts = []
        for (origin, fingerprint), members in groups.items():
            part = self._part(sending, ring, rendered, origin, fingerprint, np.array(members, np.intp))
            if part is not None:
                parts.append(part)
        return parts

    def _part(
        self,
        sending: Sending,
        ring: VapidRing,
        rendered: Rendered,
        name: bytes,
        fingerprint: bytes,
        rows: NDArray[np.intp],
    ) -> _Part | None:
        """Rows of one origin and key, as many as its way has room for; None where none may go."""
        batch = sending.batch
        origin = self._origin(name, batch.route.app_id)
        found = ring.find(fingerprint)
        if isinstance(origin, Reason) or found is None:
            reason = origin if isinstance(origin, Reason) else webpush_judge.OTHER_KEY
            sending.settle(rows, reason.code)
            return None
        key = ring.key(found)
        rests_s, held_s = origin.judge.rests_s(key), origin.judge.held_s(key)
        if rests_s or held_s:
            batch.wait_alone(rows.tolist(), max(rests_s, held_s))
            sending.settle(rows, (webpush_judge.ORIGIN_HELD if held_s else webpush_judge.ORIGIN_RESTS).code)
            return None
        way = self._way(WayKey(name, batch.credential_id, batch.lane), origin)
        room = 0 if way is None else way.room()
        if room < len(rows):
            failing = way is not None and way.failing
            sending.settle(rows[room:], (outcome.NO_CONNECTION if failing else outcome.NOT_WRITTEN).code)
            rows = rows[:room]
        if way is None or not len(rows):
            return None
        target = origin.target
        return _Part(rows, Rows(target.host.encode(), webpush.ENDPOINT_AT + len(name), key, rendered), way)

    def _origin(self, name: bytes, app_id: int) -> Origin | Reason:
        """The push service of this name, or why nothing goes there."""
        known = self._origins.get(name)
        if known is None:
            known = self._origins[name] = self._new_origin(name)
            if len(self._origins) > ORIGINS_MAX:
                self._origins.popitem(last=False)
        self._origins.move_to_end(name)
        if isinstance(known, Origin) and not self._guard.allows(known.target, app_id):
            return webpush_judge.FORBIDDEN
        return known

    def _new_origin(self, name: bytes) -> Origin | Reason:
        try:
            target = parse(name.decode("ascii") + "/")
        except ValueError:
            return webpush_judge.FORBIDDEN
        if target.origin.encode() != name:
            return webpush_judge.FORBIDDEN
        if target.host.encode() in webpush.DEAD_HOSTS:
            return webpush_judge.REMOVED
        named = self._guard.names(target)
        judge = Judge(
            target.origin,
            named=named,
            tokens=self._tokens,
            clock=self._clock,
            config=self._config,
            rested=partial(self._reconsider, name),
        )
        return Origin(target, judge)

    def _reconsider(self, origin: bytes) -> None:
        """Sends home what waits for an origin that has begun to rest."""
        for way in [way for key, way in self._ways.items() if key.origin == origin]:
            way.reconsider()

    def _way(self, key: WayKey, origin: Origin) -> Way | None:
        """The way of a key; None where there are too many and none is idle."""
        way = self._ways.get(key)
        if way is None:
            if len(self._ways) >= self._config.pools_max:
                self._make_way()
            if len(self._ways) >= self._config.pools_max or self._reach is None or self._stopped:
                return None
            label = f"{origin.target.host}/{key.credential_id}/{key.lane.name.lower()}"
            way = self._ways[key] = Way(origin, label, key.lane, self._reach)
        self._ways.move_to_end(key)
        return way

    def _make_way(self) -> None:
        """Forgets the ways that are idle, and the retired ones that are gone."""
        self._leaving = {way for way in self._leaving if not way.idle}
        for key in [key for key, way in self._ways.items() if way.idle]:
            self._retire(key)

    def _retire(self, key: WayKey) -> None:
        way = self._ways.pop(key)
        way.retire()
        self._leaving.add(way)

    @staticmethod
    def _refuse(sending: Sending, unput: NDArray[np.bool_], rows: NDArray[np.intp], reason: Reason) -> None:
        unput[rows] = False
        sending.settle(rows, reason.code)


def _end(sending: Sending, unput: NDArray[np.bool_], reason: Reason) -> None:
    """Settles what no way has and nobody settled."""
    rows = np.flatnonzero(unput & (sending.batch.outcomes == 0))
    if len(rows):
        sending.settle(rows, reason.code)
