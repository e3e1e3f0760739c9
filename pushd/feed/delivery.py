"""Delivery: each webhook by one node, one request at a time, in order, so that none of them can delay another.

Theory of operation. A node claims webhooks as it claims all work: what nobody has, and what dead nodes had. Of each it
knows the place in the feed of the last event that is done with, which is in the store and moves under the fence of the
node: who is killed between an answer and that commit repeats, under the same ids, and loses nothing. A turn reads the
webhook as it stands, sends what comes next, and writes down what came of it. What fails pauses that webhook alone, for
longer and longer; with every failure the next request is half as large, so that an event which the receiver cannot take
ends up alone, and then among the dead letters. Receivers that are new, slow or failing share some of the requests that
may be under way: those that answer never wait for them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict, deque
from functools import partial

import asyncpg
import structlog

from pushd.clock import Clock
from pushd.config.feed import FeedConfig
from pushd.credentials.vault import Vault
from pushd.errors import ConfigError, UnavailableError
from pushd.feed import signing
from pushd.feed.post import Attempt, Poster
from pushd.feed.render import Renderer, Told
from pushd.feed.wakes import Wakes
from pushd.model.event import BATCH_MAX, Letter
from pushd.service import Service, is_set_within
from pushd.store.events import EventStore, Position
from pushd.store.webhooks import Delivery, Grave, WebhookStore
from pushd.telemetry import WEBHOOK_EVENTS, WEBHOOK_REQUESTS, WEBHOOKS_FAILING

log = structlog.get_logger(__name__)

LATE_S = 0.05
"""Before the first further look for an event that is committed and may not be read yet; then it doubles."""
LATE_MAX_S = 1.0
SKIP_INTERVAL_S = 60.0
"""How often it is noted that a webhook wants none of what was passed over."""
APP_SHARE = 8
"""An app has at most one in so many of the requests of its lane."""
STOP_S = 2.0
"""For requests under way at the end."""


class Endpoint:
    """A webhook that this node delivers."""

    __slots__ = (
        *("again", "app_id", "doubtful", "failing", "id", "late_s", "queued", "refusals", "refused", "revision"),
        *("running", "seen", "size", "skipped_at", "timer", "wake"),
    )

    def __init__(self, id_: int, app_id: int) -> None:
        self.id, self.app_id = id_, app_id
        self.wake = lambda: None
        self.running = self.queued = self.again = self.failing = False
        self.doubtful = True
        """Whether it is new, failed last time, or was slow."""
        self.size = BATCH_MAX
        """Events that a request may have: fewer after failures."""
        self.refused: Position | None = None
        self.refusals = 0
        """How often the event at that place was refused, alone, in a row."""
        self.seen = Position(0, 0, 0)
        """Up to there nothing is wanted, while the webhook has this revision."""
        self.revision = 0
        self.skipped_at = 0.0
        self.late_s = LATE_S
        self.timer: asyncio.TimerHandle | None = None


class Lane:
    """Webhooks that wait for a turn: apps take turns, and none has more than a part of the requests under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_app = max(1, most // APP_SHARE)
        self._waiting: OrderedDict[int, deque[Endpoint]] = OrderedDict()
        self.running: Counter[int] = Counter()
        """Turns under way, by app."""

    def put(self, endpoint: Endpoint) -> None:
        """Lets a webhook wait."""
        self._waiting.setdefault(endpoint.app_id, deque()).append(endpoint)

    def take(self) -> Endpoint | None:
        """Whose turn it is; None: nobody's now."""
        if self.running.total() >= self._most:
            return None
        app_id = next((app for app in self._waiting if self.running[app] < self._most_of_app), None)
        if app_id is None:
            return None
        waiting = self._waiting.pop(app_id)
        endpoint = waiting.popleft()
        if waiting:
            self._waiting[app_id] = waiting
        return endpoint

    def done(self, endpoint: Endpoint) -> None:
        """Makes room: a turn has ended."""
        self.running[endpoint.app_id] -= 1
        if not self.running[endpoint.app_id]:
            del self.running[endpoint.app_id]


class Deliverer(Service):
    """Delivers webhooks."""

    def __init__(
        self,
        config: FeedConfig,
        *,
        webhooks: WebhookStore,
        events: EventStore,
        renderer: Renderer,
        wakes: Wakes,
        vault: Vault,
        poster: Poster,
        clock: Clock,
        node_id: int,
        retry_s: float,
    ) -> None:
        super().__init__()
        self._config = config
        self._webhooks = webhooks
        self._events = events
        self._renderer = renderer
        self._wakes = wakes
        self._vault = vault
        self._poster = poster
        self._clock = clock
        self._node_id = node_id
        self._retry_s = retry_s
        self._endpoints: dict[int, Endpoint] = {}
        doubtful = config.doubtful_requests_max
        self._lanes = (Lane(max(1, config.requests_max - doubtful)), Lane(doubtful))
        """Of receivers that answer, and of doubtful ones."""
        self._looking = asyncio.Event()
        self._stopping = False
        self._idle = asyncio.Event()

    async def start(self) -> None:
        """Begins to claim webhooks and to deliver them."""
        WEBHOOKS_FAILING.set_function(lambda: sum(each.failing for each in self._endpoints.values()))
        self.spawn(self._look(), "webhooks")

    async def stop(self) -> None:
        """Lets requests under way end, for a while, and begins no more."""
        self._stopping = True
        for endpoint in list(self._endpoints.values()):
            self._drop(endpoint)
        if under_way := sum(lane.running.total() for lane in self._lanes):
            self._idle.clear()
            if not await is_set_within(self._idle, STOP_S):
                log.info("webhooks_cut_off", requests=under_way)
        await super().stop()

    async def _look(self) -> None:
        while True:
            try:
                await self.look()
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("webhooks_wait", error=str(error))
            await is_set_within(self._looking, self._config.look_interval_s)
            self._looking.clear()

    def look_soon(self) -> None:
        """Looks for webhooks at once: there is a new one."""
        self._looking.set()

    async def look(self) -> None:
        """Takes webhooks that nobody delivers, and lets go of those that others do."""
        owned = await self._webhooks.claim(self._node_id, self._config.webhooks_max)
        for endpoint in [each for each in self._endpoints.values() if each.id not in owned]:
            self._drop(endpoint)
        for webhook_id, app_id in owned.items():
            if webhook_id not in self._endpoints and not self._stopping:
                endpoint = self._endpoints[webhook_id] = Endpoint(webhook_id, app_id)
                endpoint.wake = partial(self._wake, endpoint)
                self._wakes.add(app_id, endpoint.wake)
                self._wake(endpoint)

    def _drop(self, endpoint: Endpoint) -> None:
        self._endpoints.pop(endpoint.id, None)
        self._wakes.remove(endpoint.app_id, endpoint.wake)
        if endpoint.timer is not None:
            endpoint.timer.cancel()

    # -- turns

    def _wake(self, endpoint: Endpoint) -> None:
        """Gives a webhook a turn; if it has one, another after that."""
        if endpoint.timer is not None:
            endpoint.timer.cancel()
            endpoint.timer = None
        if endpoint.running:
            endpoint.again = True
        elif not endpoint.queued and not self._stopping:
            endpoint.queued = True
            self._lanes[endpoint.doubtful].put(endpoint)
            self._fill()

    def _fill(self) -> None:
        for lane in self._lanes:
            while (endpoint := lane.take()) is not None:
                endpoint.queued = False
                if self._endpoints.get(endpoint.id) is endpoint:
                    endpoint.running = True
                    lane.running[endpoint.app_id] += 1
                    self.spawn(self._turn(endpoint, lane), f"webhook-{endpoint.id}")

    async def _turn(self, endpoint: Endpoint, lane: Lane) -> None:
        pause: float | None = self._retry_s
        try:
            pause = await self._deliver(endpoint)
        except (UnavailableError, asyncpg.PostgresError) as error:
            log.warning("webhook_waits", webhook=endpoint.id, error=type(error).__name__)
        finally:
            lane.done(endpoint)
            endpoint.running = False
            if not any(each.running.total() for each in self._lanes):
                self._idle.set()
        if self._endpoints.get(endpoint.id) is endpoint:
            if endpoint.again or pause == 0:
                endpoint.again = False
                self._wake(endpoint)
            elif pause is not None:
                endpoint.timer = asyncio.get_running_loop().call_later(pause, self._wake, endpoint)
        self._fill()

    async def _deliver(self, endpoint: Endpoint) -> float | None:
        """Sends what comes next. Seconds until another turn is worth it; None: when something happens."""
        webhook = await self._webhooks.own(self._node_id, endpoint.id)
        if webhook is None:
            self._drop(endpoint)
        if webhook is None or not webhook.active:
            return None
        if webhook.revision != endpoint.revision:
            endpoint.revision, endpoint.seen, endpoint.refused = webhook.revision, webhook.position, None
        now = self._clock.now()
        if webhook.next_at is not None and webhook.next_at > now:
            return webhook.next_at - now
        if webhook.replay and (letter := await self._webhooks.next_letter(webhook.id)) is not None:
            return await self._replay(endpoint, webhook, letter)
        return await self._go_on(endpoint, webhook)

    async def _go_on(self, endpoint: Endpoint, webhook: Delivery) -> float | None:
        """Sends the next events of a webhook, or finds that there are none."""
        position = max(webhook.position, endpoint.seen)
        size = min(webhook.batch_max, endpoint.size)
        page = await self._renderer.page(webhook.app_id, position, webhook.types, size)
        if not page.events:
            return await self._pass_over(endpoint, webhook, page.position)
        endpoint.late_s = LATE_S
        batch = _within(page.events, self._config.batch_bytes_max)
        attempt = await self._post(webhook, batch)
        self._note(endpoint, attempt, len(batch))
        if attempt.arrived:
            await self._webhooks.advance(self._node_id, webhook, batch[-1].position, delivered=True)
            return 0
        return await self._failed(endpoint, webhook, batch, attempt)

    async def _pass_over(self, endpoint: Endpoint, webhook: Delivery, position: Position) -> float | None:
        """Nothing is to be sent up to a place; something may be, as soon as an older transaction has ended."""
        endpoint.seen = position
        now = asyncio.get_running_loop().time()
        if now - endpoint.skipped_at > SKIP_INTERVAL_S:
            endpoint.skipped_at = now
            await self._webhooks.advance(self._node_id, webhook, position, delivered=False)
        if not await self._events.late(webhook.app_id):
            endpoint.late_s = LATE_S
            return None
        pause, endpoint.late_s = endpoint.late_s, min(LATE_MAX_S, endpoint.late_s * 2)
        return pause

    async def _failed(self, endpoint: Endpoint, webhook: Delivery, batch: list[Told], attempt: Attempt) -> float:
        """Pauses a webhook after a failure, buries what it does not take, or ends it; seconds until its next turn."""
        if attempt.gone:
            await self._webhooks.disable(self._node_id, webhook, attempt.failure)
            return 0
        if attempt.refused and len(batch) == 1:
            place = batch[0].position
            endpoint.refusals = endpoint.refusals + 1 if endpoint.refused == place else 1
            endpoint.refused = place
            if endpoint.refusals >= self._config.refusals_max:
                grave = Grave(place, batch[0].type, batch[0].at, endpoint.refusals, attempt.failure)
                await self._webhooks.bury(self._node_id, webhook, grave, self._config.letters_max)
                WEBHOOK_EVENTS.labels("dead").inc()
                return 0
        pause_s = self._pause(webhook.attempts, attempt)
        await self._webhooks.fail(self._node_id, webhook, attempt.failure, pause_s, self._config.disable_after_s)
        return pause_s

    def _pause(self, failures: int, attempt: Attempt) -> float:
        """Exponential back-off with full jitter, or what the receiver asks for."""
        config = self._config
        ceiling = min(config.backoff_cap_s, config.backoff_base_s * 2.0 ** min(failures, 30))
        drawn = random.uniform(ceiling / 10, ceiling)  # noqa: S311  jitter is no secret
        return max(drawn, attempt.retry_after_s or 0.0)

    async def _replay(self, endpoint: Endpoint, webhook: Delivery, letter: Letter) -> float:
        """Sends a dead letter anew: gone when it arrives, or when its event is; refused, it stays one."""
        number, _, part = letter.event_id.partition(".")
        told = await self._renderer.one(webhook.app_id, int(number), int(part or 0))
        if told is None:
            await self._webhooks.discard(webhook.id, letter.id)
            return 0
        attempt = await self._post(webhook, [told])
        self._note(endpoint, attempt, 1)
        if attempt.arrived:
            await self._webhooks.discard(webhook.id, letter.id)
            return 0
        if attempt.gone or not attempt.refused:
            return await self._failed(endpoint, webhook, [told], attempt)
        await self._webhooks.letter_failed(letter.id, attempt.failure)
        return 0

    def _note(self, endpoint: Endpoint, attempt: Attempt, count: int) -> None:
        """Learns from an attempt how a receiver is to be treated."""
        endpoint.failing = not attempt.arrived
        endpoint.doubtful = endpoint.failing or attempt.took_s > self._config.slow_s
        endpoint.size = min(BATCH_MAX, count * 2) if attempt.arrived else max(1, count // 2)
        if attempt.arrived:
            WEBHOOK_EVENTS.labels("delivered").inc(count)
        WEBHOOK_REQUESTS.labels("arrived" if attempt.arrived else "refused" if attempt.refused else "failed").inc()

    async def _post(self, webhook: Delivery, batch: list[Told]) -> Attempt:
        id_ = batch[0].id if len(batch) == 1 else f"{batch[0].id}-{batch[-1].id}-{len(batch)}"
        body = b'{"events":[' + b",".join(each.body for each in batch) + b"]}"
        return await self.post(webhook.app_id, webhook.id, webhook.url, webhook.sealed, id_, body)

    async def post(self, app_id: int, webhook_id: int, url: str, sealed: bytes, id_: str, body: bytes) -> Attempt:
        """What became of a signed request to a webhook."""
        try:
            known = signing.load(self._vault.open(app_id, webhook_id, sealed))
        except ConfigError as error:
            log.error("webhook_secret_unreadable", webhook=webhook_id, error=error.detail)  # noqa: TRY400  it says all
            return Attempt("secret_unreadable")
        return await self._poster.post(url, signing.headers(id_, self._clock.now(), body, known), body)


def _within(events: list[Told], bytes_max: int) -> list[Told]:
    """As many of the first events as have so many bytes together, one at least."""
    total = 0
    for count, each in enumerate(events):
        total += len(each.body)
        if total > bytes_max and count:
            return events[:count]
    return events
