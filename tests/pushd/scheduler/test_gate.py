"""The gate against plain Python: zones, changes of clocks, quiet hours of apps and users, held or dropped."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.model.audience import Broadcast, UserIds
from pushd.model.caps import Cap
from pushd.model.quiet import Policy, QuietHours
from pushd.outcome import QUIET_HOURS
from pushd.scheduler import gate as gates
from pushd.scheduler import pauses
from pushd.scheduler.gate import Gate
from pushd.scheduler.quiet import Drop, Go, Hold, decide
from pushd.store.database import Database
from pushd.store.tallies import TallyStore
from tests.pushd.scheduler.crowd import Someone, app_of, device_rows, everyone, index_of, send_of, user_rows

NIGHT = QuietHours(from_minute=22 * 60, to_minute=7 * 60)
LUNCH = QuietHours(from_minute=12 * 60, to_minute=13 * 60)


def at(text):
    return datetime.fromisoformat(text).timestamp()


def gate_of(index):
    return Gate(index, TallyStore(Database(StoreConfig(), "")), 1)  # the database is not asked without caps


def judge(index, app, send, devices, when):
    return asyncio.run(gate_of(index).judge(app, send, devices, when))


ZONES = ["", "Europe/Berlin", "america/new_york", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Mars/Olympus"]
MINUTES = st.sampled_from([0, 60, 150, 180, 420, 720, 1320, 1439])
HOURS = st.builds(QuietHours, from_minute=MINUTES, to_minute=MINUTES).filter(
    lambda each: each.from_minute != each.to_minute
)
TIMES = st.one_of(
    st.integers(0, 40 * 31_557_600),
    # Around changes of clocks: Berlin, New York, Lord Howe.
    st.sampled_from([1774746000, 1792890000, 1772953200, 1793512800, 1775314800, 1791039600]).flatmap(
        lambda change: st.integers(change - 90_000, change + 90_000)
    ),
)
PEOPLE = st.lists(st.tuples(st.sampled_from(ZONES), st.integers(0, 5)), min_size=1, max_size=40)


@settings(max_examples=300)
@given(
    PEOPLE,
    st.dictionaries(st.integers(1, 5), HOURS, max_size=5),
    HOURS | st.none(),
    st.sampled_from(Policy),
    st.booleans(),
    TIMES,
    st.sets(st.integers(1, 40)),
)
def test_each_device_goes_by_its_clock(rows, quiet, app_quiet, policy, transactional, when, left_out):
    people = [Someone(id=number, zone=zone, user=user) for number, (zone, user) in enumerate(rows, 1)]
    app = app_of(time_zone="Asia/Tokyo", quiet_hours=app_quiet)
    send = send_of(quiet_hours=policy, transactional=transactional)
    devices = everyone(people) - Devices(left_out)
    admission = judge(index_of(people, quiet), app, send, devices, when)

    names = {"america/new_york": "America/New_York", "": "Asia/Tokyo", "Mars/Olympus": "Asia/Tokyo"}
    go, held, dropped = Devices(), defaultdict(Devices), Devices()
    for each in people:
        if each.id in devices:
            both = [hours for hours in (quiet.get(each.user), app_quiet) if hours is not None]
            zone = ZoneInfo(names.get(each.zone, each.zone))
            match decide(both, when, zone, policy=policy, transactional=transactional):
                case Go():
                    go.add(each.id)
                case Hold(until):
                    held[until].add(each.id)
                case Drop():
                    dropped.add(each.id)
    assert admission.go == go
    assert admission.held == tuple(sorted(held.items()))
    assert admission.dropped == (((dropped, QUIET_HOURS),) if dropped else ())
    assert admission.tally is None


def test_what_is_held_asks_again_and_goes_when_the_night_is_over():
    people = [Someone(1, "Europe/Berlin"), Someone(2, "America/New_York"), Someone(3, "Europe/Berlin", user=7)]
    index, app, send = index_of(people, {7: LUNCH}), app_of(quiet_hours=NIGHT), send_of()
    evening = at("2026-11-21T23:00+01:00")
    admission = judge(index, app, send, everyone(people), evening)
    morning = at("2026-11-22T07:00+01:00")
    assert admission.go == Devices([2])
    assert admission.held == ((morning, Devices([1, 3])),)
    assert judge(index, app, send, Devices([1, 3]), morning).go == Devices([1, 3])
    assert judge(index, app, send, Devices([1, 3]), morning - 1).held == ((morning, Devices([1, 3])),)


def test_zones_and_quiet_hours_are_those_of_the_moment_it_is_asked():
    people = [Someone(1, "Europe/Berlin", user=1), Someone(2, "Europe/Berlin", user=2)]
    index, app, noon = index_of(people, {1: LUNCH}), app_of(), at("2026-11-21T12:10+01:00")
    gate = gate_of(index)
    assert gate.concerns(app, send_of())
    assert judge(index, app, send_of(), everyone(people), noon).go == Devices([2])
    index.apply_devices(device_rows([Someone(1, "Asia/Tokyo", user=1)], revision=2))
    assert judge(index, app, send_of(), everyone(people), noon).go == Devices([1, 2])
    index.apply_users(user_rows({1: None, 2: LUNCH}, revision=2))
    assert judge(index, app, send_of(), everyone(people), noon).go == Devices([1])
    index.apply_users(user_rows({2: LUNCH}, revision=3, deleted=True))
    assert not gate.concerns(app, send_of())
    assert judge(index, app, send_of(), everyone(people), noon).go == Devices([1, 2])


def test_whom_it_could_concern():
    people = [Someone(1, user=1), Someone(2, user=2)]
    index, named = index_of(people), lambda *names: send_of(audience=UserIds(ids=list(names)))
    gate, plain = gate_of(index), app_of()
    capped, night = app_of(caps={"offers": Cap(messages=1, window_s=60)}), app_of(quiet_hours=NIGHT)
    assert not gate.concerns(plain, send_of(category="offers"))
    assert gate.concerns(capped, send_of(category="offers"))
    assert not gate.concerns(capped, send_of(category="news"))
    assert not gate.concerns(capped, send_of())
    assert gate.concerns(night, send_of())
    assert not gate.concerns(night, send_of(transactional=True))
    assert not gate.concerns(capped, send_of(category="offers", transactional=True))
    index.apply_users(user_rows({2: LUNCH}, revision=2))
    assert gate.concerns(plain, send_of(audience=Broadcast()))
    assert gate.concerns(plain, named("user-1", "user-2"))
    assert not gate.concerns(plain, named("user-1"))
    assert not gate.concerns(plain, named("nobody"))
    index.remove_app(1)
    assert not gate.concerns(plain, send_of(audience=Broadcast()))


def test_nobody_and_devices_that_are_gone():
    index = index_of([Someone(1, "Europe/Berlin")])
    night = at("2026-11-21T23:00+00:00")
    assert judge(index, app_of(quiet_hours=NIGHT), send_of(), Devices(), night).go == Devices()
    admission = judge(index, app_of(quiet_hours=NIGHT), send_of(), Devices([1, 5_000_000]), night)
    assert [devices for _, devices in admission.held] == [Devices([1]), Devices([5_000_000])]


@pytest.mark.parametrize("share", [0.001, 1.0], ids=["few users have their own", "all users have their own"])
def test_slices_come_to_the_same_as_one_piece(share, monkeypatch):
    rng = np.random.default_rng(5)
    people = [Someone(id=number, zone=ZONES[number % len(ZONES)], user=1 + number // 2) for number in range(1, 3_000)]
    hours = [NIGHT, LUNCH, QuietHours(from_minute=0, to_minute=1380)]
    quiet = {user: hours[user % 3] for user in range(1, 1_500) if rng.random() < share}
    index, app, when = index_of(people, quiet), app_of(quiet_hours=LUNCH), at("2026-11-21T12:30+01:00")
    whole = judge(index, app, send_of(), everyone(people), when)
    for name in ("SLICE_ROWS", "SLICE_USERS"):
        monkeypatch.setattr(gates, name, 7)
    sliced = judge(index, app, send_of(), everyone(people), when)
    assert (sliced.go, sliced.held) == (whole.go, whole.held)
    assert whole.held
    assert Devices.union(whole.go, *(devices for _, devices in whole.held)) == everyone(people)
    assert len(whole.go) + sum(len(devices) for _, devices in whole.held) == len(people)


@pytest.mark.asyncio
async def test_others_get_their_turn_meanwhile(monkeypatch):
    people = [Someone(id=number, zone=ZONES[number % 6], user=number) for number in range(1, 2_000)]
    monkeypatch.setattr(gates, "SLICE_ROWS", 100)
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)
    index = index_of(people, {each.user: LUNCH for each in people})
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await gate_of(index).judge(app_of(quiet_hours=NIGHT), send_of(), everyone(people), at("2026-11-21T12:30+01:00"))
    beside.cancel()
    assert turns >= 20
