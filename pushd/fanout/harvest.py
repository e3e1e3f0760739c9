"""The harvest: filled outcome tables become settled rows, retries, retirements and held credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import structlog
from numpy.typing import NDArray

from pushd.batch import Lane
from pushd.clock import Clock
from pushd.config import FanoutConfig
from pushd.fanout.breaker import RetireBreaker
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Outlet
from pushd.fanout.planner import Flight, Settled
from pushd.fanout.recorder import Recorder
from pushd.fanout.retry import LAST_MOMENT, Pacing
from pushd.gateway import Gateway
from pushd.model.device import GatewayName, Kind
from pushd.outcome import CANCELLED, EXPIRED, RETRYABLE, Outcome
from pushd.store.settlements import Retirement
from pushd.telemetry import BREAKER_STATE, DELIVERY_LATENCY, RETRIES

log = structlog.get_logger(__name__)

Rows = NDArray[np.intp]

CLOCK_SKEW_MS = 1_000
"""A token registered less than this before a gateway calls it dead is kept: clocks differ (A-50)."""


class Harvester:
    """Reads what gateways wrote into batches. It decides, per code and never per row, what happens next."""

    def __init__(
        self,
        config: FanoutConfig,
        gateways: Mapping[GatewayName, Gateway],
        recorder: Recorder,
        pacing: Pacing,
        clock: Clock,
        refused: Callable[[int, str, str | None], None],
        place: Callable[[Wave], None],
        relocate: Callable[[Campaign], None],
        secret: Callable[[int], object],
    ) -> None:
        self._config = config
        self._gateways = gateways
        self._recorder = recorder
        self._lanes, self._later, self._backoff, self._budgets = pacing
        self._clock = clock
        self._refused = refused
        self._place = place
        self._relocate = relocate
        self._secret = secret
        self.breakers: dict[tuple[int, bool], RetireBreaker] = {}

    def harvest(self, flight: Flight) -> int:
        """Takes in the rows that got an outcome since the last look; how many there were."""
        outcomes = flight.batch.outcomes
        fresh = (outcomes != 0) & ~flight.harvested
        count = int(np.count_nonzero(fresh))
        if not count:
            return 0
        flight.harvested |= fresh
        rows = np.flatnonzero(fresh)
        reasons = self._gateways[flight.batch.route.kind.gateway].reasons
        codes = outcomes[rows]
        present: list[int] = np.flatnonzero(np.bincount(codes)).tolist()
        DELIVERY_LATENCY.observe(self._clock.now() - flight.campaigns[0].notification.released_at)
        self._judge_pool(flight, codes)
        self._judge_campaign(flight, codes)
        self._judge_tokens(flight, codes)
        if len(present) == 1 and count == len(outcomes) and self._settle_whole(flight, present[0]):
            return count
        for code in present:
            chosen = rows if len(present) == 1 else rows[codes == code]
            self._consequence(flight, code, reasons.outcome(code), chosen)
        for campaign in flight.campaigns:
            self._recorder.finish_if_spent(campaign)
        return count

    def _settle_whole(self, flight: Flight, code: int) -> bool:
        """Settles a batch of small sends that came home as a whole and was accepted, as nearly all are."""
        outcome = self._gateways[flight.batch.route.kind.gateway].reasons.outcome(code)
        if outcome is not Outcome.ACCEPTED or not all(campaign.inline for campaign in flight.campaigns):
            return False
        flight.outlet.pause_s = 0.0
        self._recorder.settle_spans(flight, code)
        return True

    def forget_idle(self, now: float) -> None:
        """Forgets the breakers of credentials that had no answer within the window."""
        self.breakers = {key: breaker for key, breaker in self.breakers.items() if not breaker.idle(now)}
        BREAKER_STATE.labels("retire").set(sum(each.open for each in self.breakers.values()))

    def _consequence(self, flight: Flight, code: int, outcome: Outcome, rows: Rows) -> None:
        if outcome is Outcome.ACCEPTED:
            flight.outlet.pause_s = 0.0
        if outcome is Outcome.MISCONFIGURED:
            self._give_back(flight, rows)
            self._pause_credential(flight, code)
        elif outcome in RETRYABLE:
            self._retry(flight, code, outcome, rows)
        else:
            for campaign, own in spans(flight, rows):
                self._settle(flight, campaign, code, own)
            if outcome is Outcome.UNREGISTERED:
                self._retire(flight, code, rows)

    def _settle(self, flight: Flight, campaign: Campaign, code: int, rows: Rows) -> None:
        campaign.in_flight -= len(rows)
        gateway = flight.batch.route.kind.gateway.number
        settled = Settled(campaign=campaign, gateway=gateway, code=code, ids=flight.batch.ids[rows])
        self._recorder.settle((settled,), flight.outlet)

    def _give_back(self, flight: Flight, rows: Rows) -> None:
        """Queues rows as if they had never been taken, with whatever credential their route has by now."""
        for campaign, own in spans(flight, rows):
            if campaign.cancelled:
                self._settle(flight, campaign, CANCELLED.code, own)
                continue
            self._free(flight, campaign, own)
            self._again(flight, campaign, own)

    def _again(self, flight: Flight, campaign: Campaign, rows: Rows) -> None:
        """Queues rows without counting an attempt. Not at their old outlet: its credential may be gone."""
        batch = flight.batch
        self._place(Wave(campaign=campaign, route=batch.route, ids=batch.ids[rows], attempt=batch.attempt))

    def _retry(self, flight: Flight, code: int, outcome: Outcome, rows: Rows) -> None:
        free = outcome is Outcome.UNPROCESSED
        waits = flight.batch.retry_after
        if free and not flight.recalled and not (waits and waits.keys() >= set(rows.tolist())):
            self._rest(flight.outlet)
        for campaign, own in spans(flight, rows):
            final = self._final_code(campaign, flight.batch.attempt, code, outcome)
            if final is not None:
                self._settle(flight, campaign, final, own)
                continue
            for asked, part in by_retry_after(flight, own):
                if free and not asked:
                    self._free(flight, campaign, part)
                    self._again(flight, campaign, part)
                else:
                    self._requeue(flight, campaign, code, part, asked)
        RETRIES.labels(self._gateways[flight.batch.route.kind.gateway].reasons.name(code)).inc(len(rows))

    def _final_code(self, campaign: Campaign, attempt: int, code: int, outcome: Outcome) -> int | None:
        """The code that ends such a row here, or None where it may go out again."""
        if campaign.cancelled:
            return CANCELLED.code
        if outcome is Outcome.LOST and campaign.at_most_once:
            return code
        if outcome is not Outcome.UNPROCESSED and attempt >= self._config.attempts_max:
            return code
        if campaign.expired(self._clock.now(), attempt + 1):
            return EXPIRED.code if outcome is Outcome.UNPROCESSED else code
        return None

    def _requeue(self, flight: Flight, campaign: Campaign, code: int, rows: Rows, asked_s: float) -> None:
        """Keeps rows for another attempt within the message's life; where there can be none, they end as they are."""
        batch, key = flight.batch, flight.outlet.key
        reasons = self._gateways[batch.route.kind.gateway].reasons
        if asked_s and reasons.speaks_for_pool(code) and not batch.alone.issuperset(rows.tolist()):
            until = self._clock.monotonic() + min(asked_s, self._config.pool_retry_after_max_s)
            self._lanes.rest(key.pool, until)
        left_s = campaign.left_s(self._clock.now())
        delay = self._backoff.delay(batch.attempt, asked_s, left_s)
        if delay is None:
            self._settle(flight, campaign, code, rows)
            return
        self._free(flight, campaign, rows)
        attempt = batch.attempt + (reasons.outcome(code) is not Outcome.UNPROCESSED)
        wave = Wave(campaign=campaign, route=batch.route, ids=batch.ids[rows], attempt=attempt)
        now = self._clock.monotonic()
        self._later.put(now + delay, key, wave, latest=now + LAST_MOMENT * left_s)

    def _free(self, flight: Flight, campaign: Campaign, rows: Rows) -> None:
        """Gives back the credit of rows that wait again."""
        campaign.in_flight -= len(rows)
        flight.outlet.release(len(rows))

    def _rest(self, outlet: Outlet) -> None:
        """Unprocessed rows are free of attempts, not of pacing: their outlet rests, twice as long each time."""
        now = self._clock.monotonic()
        if outlet.resume_at <= now:
            outlet.pause_s = self._backoff.pause(outlet.pause_s)
            outlet.resume_at = now + outlet.pause_s

    def _pause_credential(self, flight: Flight, code: int) -> None:
        if self._secret(flight.batch.credential_id) is not flight.secret:
            return  # it was replaced or removed meanwhile: the refusal is not about what serves the route now
        route = flight.batch.route
        reason = self._gateways[route.kind.gateway].reasons.by_code[code]
        self._refused(flight.batch.credential_id, reason.name, route.bundle if reason.topic_only else None)

    def _judge_pool(self, flight: Flight, codes: NDArray[np.uint8]) -> None:
        """Notes whether the gateway answers at all, and how retries fare."""
        now, outlet, first = self._clock.monotonic(), flight.outlet, flight.batch.attempt == 1
        counts = np.bincount(
            self._gateways[flight.batch.route.kind.gateway].reasons.outcomes[codes], minlength=len(Outcome)
        ).tolist()
        lost, unprocessed = counts[Outcome.LOST], counts[Outcome.UNPROCESSED]
        outlet.landed(len(codes), now, answered=lost + unprocessed < len(codes), lost=lost > 0)
        if first and unprocessed:
            self._budgets.of(outlet.key.pool).sent(-unprocessed, now)
        elif not first:
            failed = lost + counts[Outcome.UNAVAILABLE] + counts[Outcome.THROTTLED]
            if failed or counts[Outcome.ACCEPTED]:
                self._budgets.of(outlet.key.pool).answered(counts[Outcome.ACCEPTED], failed)

    def _judge_campaign(self, flight: Flight, codes: NDArray[np.uint8]) -> None:
        """Sends a campaign that would slow down the link of the others on by another one (A-51)."""
        campaign, config = flight.campaigns[0], self._config
        if flight.batch.lane is not Lane.BULK or campaign.lane is not Lane.BULK:
            return
        campaign.answered += len(codes)
        campaign.slowing += int(
            np.count_nonzero(self._gateways[flight.batch.route.kind.gateway].reasons.slows_link[codes])
        )
        if campaign.slowing >= max(config.doubt_min, config.doubt_ratio * campaign.answered):
            campaign.lane = Lane.DOUBTFUL
            log.warning("campaign_doubted", notification=campaign.id, rejected=campaign.slowing, of=campaign.answered)
            self._relocate(campaign)

    def _judge_tokens(self, flight: Flight, codes: NDArray[np.uint8]) -> None:
        outcomes = self._gateways[flight.batch.route.kind.gateway].reasons.outcomes[codes]
        dead = int(np.count_nonzero(outcomes == Outcome.UNREGISTERED))
        judged = judged_with(flight)
        breaker = self.breakers.get(judged)
        if breaker is None:
            breaker = self.breakers[judged] = RetireBreaker(self._config)
        accepted = int(np.count_nonzero(outcomes == Outcome.ACCEPTED))
        was_open = breaker.open
        breaker.seen(self._clock.monotonic(), dead=dead, accepted=accepted)
        if breaker.open != was_open:
            BREAKER_STATE.labels("retire").set(sum(each.open for each in self.breakers.values()))
            log.warning(
                "retire_breaker_opened" if breaker.open else "retire_breaker_closed",
                credential=flight.batch.credential_id,
                withheld=breaker.withheld,
            )

    def _retire(self, flight: Flight, code: int, rows: Rows) -> None:
        breaker = self.breakers[judged_with(flight)]
        if breaker.open:
            breaker.withhold(len(rows))
            return
        batch = flight.batch
        since = batch.invalid_since
        now_ms = int(self._clock.now() * 1000)
        self._recorder.retire(
            Retirement(
                ids=batch.ids[rows],
                revisions=batch.revisions[rows],
                at_ms=np.array([since.get(row, now_ms) for row in rows.tolist()], np.int64) - CLOCK_SKEW_MS,
                reason=self._gateways[batch.route.kind.gateway].reasons.name(code),
                credential_id=batch.credential_id,
            )
        )


def judged_with(flight: Flight) -> tuple[int, bool]:
    """Whose answers tell together whether tokens really die: a credential's, but channels' and devices' apart.

    A bundle's channels can all be deleted at once, and each accepted broadcast counts for one address only.
    """
    return flight.batch.credential_id, flight.batch.route.kind is Kind.APNS_CHANNEL


def spans(flight: Flight, rows: Rows) -> Iterator[tuple[Campaign, Rows]]:
    """The rows of a flight, split by the campaign they belong to."""
    if len(flight.campaigns) == 1:
        yield flight.campaigns[0], rows
        return
    if len(rows) == len(flight.batch):
        for campaign, start, end in flight.spans():
            yield campaign, rows[start:end]
        return
    owners = np.searchsorted(flight.starts, rows, side="right") - 1
    edges = np.flatnonzero(np.diff(owners)) + 1
    for part in np.split(rows, edges):
        if len(part):
            yield flight.campaigns[int(np.searchsorted(flight.starts, part[0], side="right")) - 1], part


def by_retry_after(flight: Flight, rows: Rows) -> Iterator[tuple[float, Rows]]:
    """The rows of a flight, split by the seconds that the gateway asked to wait; 0 where it asked nothing."""
    asked = flight.batch.retry_after
    if not asked:
        yield 0.0, rows
        return
    waits = np.array([asked.get(row, 0.0) for row in rows.tolist()])
    for wait in np.unique(waits):
        yield float(wait), rows[waits == wait]


def lane_for(targets: int, transactional: bool, config: FanoutConfig) -> Lane:
    """The lane of a send: by its flag, or because it is small."""
    small = targets <= config.transactional_rows_max
    return Lane.TRANSACTIONAL if transactional or small else Lane.BULK
