"""Lanes: turns, rests and holds, and that a look costs nothing for outlets that cannot send."""

import numpy as np
import pytest

from pushd.batch import Lane
from pushd.config import FanoutConfig
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Lanes, OutletKey
from pushd.model.app import Settings
from pushd.model.device import Environment, Kind, Route
from tests.pushd.fanout.conftest import notification


@pytest.fixture
def lanes():
    return Lanes(FanoutConfig())


def outlet(lanes, number, app_id=None, lane=Lane.BULK):
    route = Route(app_id or number, Kind.APNS, Environment.PRODUCTION, f"com.example.app{number}")
    return lanes.outlet(OutletKey(route, number, lane))


def ready(lanes, now):
    """The outlets that stand in line, app by app."""
    return [outlet for share in lanes.ready(Lane.BULK, now) for outlet in share.line]


def wave(of, rows=10):
    given = {"notification": notification(1), "run": 1, "settings": Settings(), "kinds": frozenset()}
    campaign = Campaign(**given, lane=Lane.BULK, targeted=rows, inline=False)
    return Wave(campaign=campaign, route=of.key.route, ids=np.arange(1, rows + 1, dtype=np.uint32))


def test_outlets_take_turns(lanes):
    one, two = outlet(lanes, 1), outlet(lanes, 2)
    for each in (one, two, one):
        each.add(wave(each))
    assert ready(lanes, 0.0) == [one, two]
    lanes.turn(one)
    assert ready(lanes, 0.0) == [two, one]
    assert lanes.ready(Lane.TRANSACTIONAL, 0.0) == []


def test_who_rests_is_not_looked_at_until_the_pause_is_over(lanes):
    one, two = outlet(lanes, 1), outlet(lanes, 2)
    one.resume_at = 5.0
    for each in (one, two):
        each.add(wave(each))
    assert ready(lanes, 0.0) == [two]
    one.add(wave(one))
    assert ready(lanes, 0.0) == [two]
    assert lanes.next_wake() == 5.0
    lanes.wake(4.9)
    assert ready(lanes, 4.9) == [two]
    lanes.wake(5.0)
    assert ready(lanes, 5.0) == [two, one]
    assert lanes.next_wake() is None


def test_who_is_held_stands_in_line_again_when_it_is_not(lanes):
    one = outlet(lanes, 1)
    one.add(wave(one))
    one.held = True
    assert ready(lanes, 0.0) == []
    one.add(wave(one))
    assert not lanes._turns[Lane.BULK]
    one.held = False
    assert ready(lanes, 0.0) == [one]


def test_who_has_nothing_left_leaves_the_line_and_comes_back_with_the_next(lanes):
    one = outlet(lanes, 1)
    given = wave(one)
    one.add(given)
    given.take(10)
    lanes.turn(one)
    assert ready(lanes, 0.0) == []
    assert not lanes._turns[Lane.BULK]
    one.add(wave(one))
    assert ready(lanes, 0.0) == [one]


def test_a_pause_is_remembered_as_long_again_and_then_forgotten(lanes):
    one = outlet(lanes, 1)
    one.resume_at, one.pause_s = 5.0, 4.0
    lanes.prune(8.9)
    assert list(lanes) == [one]
    lanes.prune(9.0)
    assert list(lanes) == []


def test_credit_is_one_for_all_outlets(lanes):
    one, two = outlet(lanes, 1), outlet(lanes, 2)
    one.acquire(3, 0.0)
    two.acquire(4, 0.0)
    one.release(2)
    assert (lanes.credit.used, one.in_flight, two.in_flight) == (5, 1, 4)
    assert (one.share.in_flight, two.share.in_flight) == (1, 4)
