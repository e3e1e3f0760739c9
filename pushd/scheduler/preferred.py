"""At which hour of their day users open most: learned from opens, forgotten by half-lives, in columns."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pushd.scheduler import zones

HOURS: Final = 24
HALF_LIFE_S: Final = 28 * 86_400
"""After four weeks an open counts half: a new job or a new zone is learned within a month."""
EVIDENCE_MIN: Final = 3.0
"""Opens, as decayed, below which a user's own hours say nothing yet."""
ASSUMED_HOUR: Final = 12
"""Where nothing at all is known."""
SLICE_ROWS: Final = 16_384
"""Rows that are worked on at a time: a few milliseconds."""
_NEIGHBOUR: Final = 0.5
"""What an open says of the hours before and after it: people are not punctual."""
_SHARE: Final = _NEIGHBOUR / (1 + 2 * _NEIGHBOUR)
_OPENS_MAX: Final = 60_000.0
"""Beyond, the half precision of the columns would end."""
_QUARTER_S: Final = 900

Rows = NDArray[np.uint32]
Hours = NDArray[np.int8]
Histogram = NDArray[np.float64]


class Preferences:
    """Opens by local hour for each row (a user of an app, as the caller numbers them), 52 bytes a row.

    A row holds 24 weights and when they were last decayed. An open adds 1 to its hour; everything halves every
    `half_life_s`. Hours are local ones at the time of the open, so habits travel with their people: who moves to
    another zone, or changes his clock, keeps his hour. Asked for the best hour, each hour is weighed together with
    half of either neighbour; of equal ones the hour that has most opens itself wins, then the earlier.
    """

    __slots__ = ("_half_life_s", "_touched", "_weights", "app")

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_s = half_life_s
        self._weights = np.zeros((0, HOURS), np.float16)
        self._touched = np.zeros(0, np.uint32)
        self.app = Crowd(half_life_s)
        """The opens of all rows together."""

    def reach(self, rows: int) -> None:
        """Makes room for at least so many rows."""
        size = len(self._touched)
        if rows > size:
            more = max(rows, size + max(size >> 3, 1_024)) - size
            self._weights = np.concatenate([self._weights, np.zeros((more, HOURS), np.float16)])
            self._touched = np.concatenate([self._touched, np.zeros(more, np.uint32)])

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return self._weights.nbytes + self._touched.nbytes

    def observe(self, rows: Rows, hours: Hours, at: float) -> None:
        """Takes opens in: one of each row at a local hour, rows may repeat; `at` is now, in UNIX seconds."""
        if not len(rows):
            return
        self.reach(int(rows.max()) + 1)
        # A clock that was set back makes nobody younger.
        distinct, places = np.unique(rows, return_inverse=True)
        now = np.maximum(self._touched[distinct], np.uint32(at))
        fresh = self._decayed(distinct, now)
        np.add.at(fresh, (places, hours), 1.0)
        self._weights[distinct] = np.minimum(fresh, _OPENS_MAX)
        self._touched[distinct] = now
        self.app.observe(np.bincount(hours, minlength=HOURS), at)

    def forget(self, rows: Rows) -> None:
        """Empties rows, for users that are deleted."""
        self._weights[rows] = 0
        self._touched[rows] = 0

    def best(self, rows: Rows, at: float, crowd: Histogram | None = None) -> Hours:
        """The preferred hour of each row: its own, else the crowd's (a segment's), else the app's, else noon."""
        fallback = self.fallback(at, crowd)
        found = np.full(len(rows), fallback, np.int8)
        for begin in range(0, len(rows), SLICE_ROWS):
            piece = rows[begin : begin + SLICE_ROWS]
            known = np.flatnonzero(piece < len(self._touched))
            weights = self._decayed(piece[known], at)
            sure = weights.sum(axis=1) >= EVIDENCE_MIN
            found[begin + known[sure]] = _peaks(weights[sure])
        return found

    def fallback(self, at: float, crowd: Histogram | None = None) -> int:
        """The hour of those of whom too little is known."""
        for weights in (crowd, self.app.histogram(at)):
            if weights is not None and weights.sum() >= EVIDENCE_MIN:
                return int(_peaks(weights[None, :].astype(np.float32))[0])
        return ASSUMED_HOUR

    def crowd(self, rows: Rows, at: float) -> Histogram:
        """The hours of some rows together: each row counts as much as it is known, up to three opens, not more."""
        total = np.zeros(HOURS)
        for begin in range(0, len(rows), SLICE_ROWS):
            piece = rows[begin : begin + SLICE_ROWS]
            weights = self._decayed(piece[piece < len(self._touched)], at)
            sums = weights.sum(axis=1, keepdims=True)
            total += (weights * (EVIDENCE_MIN / np.maximum(sums, EVIDENCE_MIN))).sum(axis=0, dtype=np.float64)
        return total

    def _decayed(self, rows: Rows, at: float | NDArray[np.uint32]) -> NDArray[np.float32]:
        ages = np.maximum(np.asarray(at, np.float64) - self._touched[rows], 0.0)
        factors = np.exp2(-ages / self._half_life_s).astype(np.float32)
        return self._weights[rows].astype(np.float32) * factors[:, None]


class Crowd:
    """Opens by local hour of many together, decayed as those of one are."""

    __slots__ = ("_half_life_s", "_touched", "_weights")

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_s = half_life_s
        self._weights: Histogram = np.zeros(HOURS)
        self._touched = 0.0

    def observe(self, opens: NDArray[np.int64], at: float) -> None:
        """Takes in so many opens at each hour; `at` is now."""
        self._weights = self.histogram(at) + opens
        self._touched = max(self._touched, at)

    def histogram(self, at: float) -> Histogram:
        """The opens at each hour as they count at an instant."""
        age = max(at - self._touched, 0.0)
        return self._weights * float(np.exp2(-age / self._half_life_s))


def local_hours(instants: NDArray[np.float64], of: ZoneInfo) -> Hours:
    """The hour that a zone's clocks show at each instant.

    The clocks are asked once for each quarter of an hour; that is when offsets change.
    """
    quarters, places = np.unique((instants // _QUARTER_S).astype(np.int64), return_inverse=True)
    starts = [int(quarter) * _QUARTER_S for quarter in quarters]
    walls = [zones.shown(start, of) for start in starts]
    shown = np.array([wall.hour * 3600 + wall.minute * 60 + wall.second for wall in walls], np.int64)
    seconds = shown[places] + (instants - quarters[places] * _QUARTER_S).astype(np.int64)
    hours: Hours = (seconds // 3600 % HOURS).astype(np.int8)
    return hours


def _peaks(weights: NDArray[np.float32]) -> Hours:
    """The hour of each row that weighs most together with its neighbours."""
    near = np.roll(weights, 1, axis=1) + np.roll(weights, -1, axis=1)
    smooth = weights * (1 - 2 * _SHARE) + near * _SHARE
    # A thousandth decides between hours that only look alike; argmax takes the first.
    peaks: Hours = np.argmax(smooth + weights * np.float32(1e-3), axis=1).astype(np.int8)
    return peaks
