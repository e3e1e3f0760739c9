"""At which hour of their day users open most: learned from opens, forgotten by half-lives, in columns."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

HOURS: Final = 24
HALF_LIFE_S: Final = 28 * 86_400
"""After four weeks an open counts half: a new job or a new zone is learned within a month."""
EVIDENCE_MIN: Final = 3.0
"""Opens, as decayed, below which a user's own hours say nothing yet."""
ASSUMED_HOUR: Final = 12
"""Where nothing at all is known."""
UNKNOWN: Final = -1
"""In columns of hours: too little is known."""
_NEIGHBOUR: Final = 0.5
"""What an open says of the hours before and after it: people are not punctual."""
_SHARE: Final = _NEIGHBOUR / (1 + 2 * _NEIGHBOUR)
_QUARTER_S: Final = 900

Rows = NDArray[np.intp]
Hours = NDArray[np.int8]
Times = NDArray[np.int64]
"""UNIX seconds."""
Weights = NDArray[np.float32]
"""A row for each user: his opens by hour, as they counted at some time."""
Histogram = NDArray[np.float64]
"""The hours of many together."""


def decayed(weights: Weights, touched: Times, at: float | Times) -> Weights:
    """Weights that counted so when they were touched, as they count at a time; a clock set back changes nothing."""
    factors = np.exp2(-np.maximum(at - touched, 0) / HALF_LIFE_S).astype(np.float32)
    fewer: Weights = weights * factors[:, None]
    return fewer


def learn(weights: Weights, touched: Times, rows: Rows, hours: Hours, times: Times) -> tuple[Weights, Times]:
    """Weights, and when they were touched, with these opens: each of a row, at an hour of its clock, at a time.

    An open adds 1 at its time and from then on halves every half-life, so it makes no difference in which order, or
    how late, opens are learned.
    """
    now = touched.copy()
    np.maximum.at(now, rows, times)
    gains = np.exp2(-(now[rows] - times) / HALF_LIFE_S)
    cells = rows * HOURS + hours
    added = np.bincount(cells, weights=gains, minlength=weights.size).reshape(weights.shape)
    return decayed(weights, touched, now) + added.astype(np.float32), now


def preferred(weights: Weights) -> Hours:
    """The hour of each row that weighs most together with half of either neighbour; `UNKNOWN` below the evidence.

    Of equal ones the hour that has most opens itself wins, then the earlier.
    """
    near = np.roll(weights, 1, axis=1) + np.roll(weights, -1, axis=1)
    smooth = weights * (1 - 2 * _SHARE) + near * _SHARE
    # A thousandth decides between hours that only look alike; argmax takes the first.
    peaks = np.argmax(smooth + weights * np.float32(1e-3), axis=1).astype(np.int8)
    return np.where(weights.sum(axis=1) >= EVIDENCE_MIN, peaks, np.int8(UNKNOWN))


def crowd(weights: Weights) -> Histogram:
    """The hours of some rows together: each row counts as much as it is known, up to three opens, not more."""
    sums = weights.sum(axis=1, keepdims=True)
    together: Histogram = (weights * (EVIDENCE_MIN / np.maximum(sums, EVIDENCE_MIN))).sum(axis=0, dtype=np.float64)
    return together


def fallback(*crowds: Histogram) -> int:
    """The hour of those of whom too little is known: of the first of these of which enough is, else noon."""
    for each in crowds:
        hour = int(preferred(each[None, :].astype(np.float32))[0])
        if hour != UNKNOWN:
            return hour
    return ASSUMED_HOUR


def local_hours(instants: Times, of: ZoneInfo) -> Hours:
    """The hour that a zone's clocks show at each instant.

    The clocks are asked once for each quarter of an hour; that is when offsets change.
    """
    quarters, places = np.unique(instants // _QUARTER_S, return_inverse=True)
    walls = [datetime.fromtimestamp(quarter * _QUARTER_S, of) for quarter in quarters.tolist()]
    shown = np.array([wall.hour * 3600 + wall.minute * 60 + wall.second for wall in walls], np.int64)
    seconds = shown[places] + (instants - quarters[places] * _QUARTER_S)
    hours: Hours = (seconds // 3600 % HOURS).astype(np.int8)
    return hours
