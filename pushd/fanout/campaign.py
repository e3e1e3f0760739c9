"""A release that runs: the waves that still wait, the rows in flight, and what was committed of it so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pushd.batch import Lane, Rendered
from pushd.fanout.personal import Personal
from pushd.model.app import Settings
from pushd.model.device import Kind, Route, Shape
from pushd.model.notification import Delivery, Ledger, Notification
from pushd.outcome import FAILED, Outcome, Reason, Reasons


@dataclass(slots=True, eq=False, kw_only=True)
class Wave:
    """Rows of one campaign that wait for one route, as ids only: tokens are read when a batch is planned."""

    campaign: Campaign
    route: Route
    ids: NDArray[np.uint32]
    attempt: int = 1
    at: int = 0
    """How many rows from the front have been taken."""
    version: int = -1
    """The index's version when these rows were last known to be reachable; -1: never looked at."""

    @property
    def left(self) -> int:
        """How many rows still wait."""
        return len(self.ids) - self.at

    def take(self, rows: int) -> NDArray[np.uint32]:
        """The next rows, taken from the front."""
        taken = self.ids if not self.at and rows >= len(self.ids) else self.ids[self.at : self.at + rows]
        self.at += len(taken)
        return taken


@dataclass(slots=True, eq=False, kw_only=True)
class Campaign:
    """One release of a notification while it runs: for nearly all, the notification.

    Pending is counted from what waits and flies, so that drift can be seen.
    """

    notification: Notification
    """With the life of this release."""
    run: int
    """Its number in the store."""
    settings: Settings
    kinds: frozenset[Kind]
    lane: Lane
    targeted: int
    inline: bool
    """Few enough targets that outcomes are rows, not bitmaps."""
    waves: set[Wave] = field(default_factory=set)
    in_flight: int = 0
    """Rows handed to a gateway that have no outcome yet."""
    settling: int = 0
    """Rows with a final outcome that is not committed yet."""
    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    """Committed outcomes by (gateway number, code)."""
    answered: int = 0
    slowing: int = 0
    """Rows with an answer, and those of them whose answer slows a link down."""
    rendered: dict[tuple[Kind, Shape], Rendered | Reason | Personal] = field(default_factory=dict)
    cancelled: bool = False
    paused: bool = False
    """What waits of it stands in no lane."""
    finishing: bool = False
    """Its end is on its way to the store."""

    @property
    def id(self) -> int:
        """The notification's id."""
        return self.notification.id

    @property
    def app_id(self) -> int:
        """Whose it is."""
        return self.notification.app_id

    @property
    def at_most_once(self) -> bool:
        """Whether a row that was written and never answered is lost rather than sent again."""
        return self.notification.send.delivery is Delivery.AT_MOST_ONCE

    @property
    def waiting(self) -> int:
        """Rows that wait in a lane or for a retry."""
        return sum(wave.left for wave in self.waves)

    @property
    def pending(self) -> int:
        """Rows without a committed outcome."""
        return self.waiting + self.in_flight + self.settling

    @property
    def spent(self) -> bool:
        """Whether every row has its final outcome, committed or about to be."""
        return not self.in_flight and (not self.waves or not self.waiting)

    def expired(self, now: float, attempt: int) -> bool:
        """Whether its life is over. A message with no life at all (TTL 0) still goes out once."""
        return self.outlived(now) and not (attempt == 1 and self.notification.send.ttl_s == 0)

    def outlived(self, now: float) -> bool:
        """Whether its life is over, and it has to wait: then also "now or never" (TTL 0) is never."""
        end = self.notification.expires_at
        return end is not None and now >= end

    def left_s(self, now: float) -> float:
        """Seconds of its life that are left; infinite where it has no end."""
        end = self.notification.expires_at
        return math.inf if end is None else end - now


def tally(
    counts: Mapping[tuple[int, int], int], reasons: Mapping[int, Reasons], *, targeted: int, pending: int
) -> Ledger:
    """The ledger of committed counts by (gateway number, code)."""
    sums = dict.fromkeys(("accepted", "failed", "expired", "cancelled", "suppressed"), 0)
    for (gateway, code), count in counts.items():
        sums[column(reasons[gateway].outcome(code))] += count
    return Ledger(targeted=targeted, pending=pending, **sums)


def column(outcome: Outcome) -> str:
    """The ledger's column that a final outcome counts in."""
    return "failed" if outcome in FAILED else outcome.name.lower()
