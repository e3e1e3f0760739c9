"""Stages: each device once, at its own time, however people travel meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from msgspec import convert, json

from pushd.bitset import Devices
from pushd.model.notification import Send
from pushd.scheduler import zones
from pushd.scheduler.releases import AtHours, Everyone, InZones
from pushd.scheduler.stages import Crowd, Stage, planned, reached, stages, union

NEAR_S = 0.5
NAMES = ["Asia/Tokyo", "Asia/Kolkata", "Europe/Berlin", "Europe/London", "America/New_York", "Pacific/Honolulu"]
ELSEWHERE = ["Australia/Lord_Howe", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


ACCEPTED = at("2026-11-20T12:00")


def send(**when):
    said = {"audience": {"type": "broadcast"}, "message": {"title": "Pears"}, **when}
    return convert(json.decode(json.encode(said)), Send)


def local(wall, past_times="ignore"):
    return send(schedule={"strategy": "local", "send_at": wall, "past_times": past_times})


def intelligent(day, past_times="ignore"):
    return send(schedule={"strategy": "intelligent", "send_at": day, "past_times": past_times})


def test_a_stage_comes_back_as_it_was_kept():
    for stage in (Stage(as_of=1.5), Stage(as_of=2.25, occurrence=86_400.0, passed=True), Stage(as_of=3.0, last=True)):
        assert Stage.load(stage.dump()) == stage


def test_whose_time_is_past_comes_first_and_the_last_one_is_marked():
    wanted, stage = local("2026-11-20T20:00"), Stage(as_of=ACCEPTED)
    found = stages(planned(wanted, stage, NAMES, "UTC"), stage)
    assert [each.passed for _, each in found] == [True, *[False] * (len(found) - 1)]
    assert [each.last for _, each in found] == [*[False] * (len(found) - 1), True]
    assert [when for when, _ in found] == sorted(when for when, _ in found)


def test_unions():
    east, west = InZones(frozenset({"Asia/Tokyo"})), InZones(frozenset({"America/New_York"}))
    assert union([east, west]) == InZones(east.names | west.names)
    assert union([east, Everyone()]) == Everyone()
    both = union([AtHours(((9, east.names),)), AtHours(((9, west.names), (10, east.names)))])
    assert both == AtHours(((9, east.names | west.names), (10, east.names)))


def test_who_is_in_no_known_zone_goes_by_the_app():
    places = {"Asia/Tokyo": Devices([1, 2, 9]), "Europe/Berlin": Devices([3])}
    crowd = Crowd(Devices([1, 3, 4]), places)
    assert set(crowd.within(InZones(frozenset({""})))) == {4}
    assert set(crowd.within(InZones(frozenset({"Asia/Tokyo", "Mars/Olympus"})))) == {1}
    assert set(crowd.within(Everyone())) == {1, 3, 4}


class Round:
    """A notification on its way: devices with zones and hours, which may change between releases."""

    def __init__(self, wanted, dice, devices=200):
        self.wanted, self.dice = wanted, dice
        self.zone = {device: dice.choice([*NAMES, ""]) for device in range(1, devices + 1)}
        self.hour = {device: dice.randrange(24) for device in self.zone}
        self.got = {}
        self.passed = set()
        self.counts = Counter()

    def crowd(self, devices):
        places = {}
        for device, name in self.zone.items():
            if name:
                places.setdefault(name, Devices()).add(device)
        ids = np.array(sorted(devices), np.uint32)
        return Crowd(devices, places, (ids, np.array([self.hour[each] for each in ids.tolist()], np.int8)))

    def go(self, meanwhile=lambda: None):
        stage = Stage(as_of=ACCEPTED)
        waiting = stages(planned(self.wanted, stage, self.crowd(Devices()).zones, "Europe/Berlin"), stage)
        while waiting:
            when, stage = waiting.pop(0)
            meanwhile()
            left = Devices(self.zone) - Devices(self.got) - Devices(self.passed)
            crowd = self.crowd(left)
            found = planned(self.wanted, stage, crowd.zones, "Europe/Berlin")
            if stage.passed:
                self.passed |= set(crowd.within(found.passed))
                continue
            devices = crowd.within(reached(found, when + NEAR_S))
            self.got |= dict.fromkeys(devices, when)
            self.counts.update(devices)
            if stage.last:
                later = crowd.later(found.releases, when + NEAR_S, devices)
                waiting += [
                    (each, msgspec.structs.replace(stage, last=number == len(later)))
                    for number, (each, _) in enumerate(later, 1)
                ]


@pytest.mark.parametrize("past_times", ["ignore", "next_day"])
@pytest.mark.parametrize("wall", ["2026-11-20T14:00", "2026-11-21T09:00"])
def test_who_stays_gets_it_when_his_clock_shows_the_time(wall, past_times):
    here = Round(local(wall, past_times), random.Random(1))
    here.go()
    naive = datetime.fromisoformat(wall)
    for device, name in here.zone.items():
        of = zones.zone(name or "Europe/Berlin")
        when = zones.instant(naive, of)
        if when >= ACCEPTED - 60:
            assert here.got[device] == max(when, ACCEPTED)
        elif past_times == "ignore":
            assert device in here.passed
            assert device not in here.got
        else:
            assert zones.shown(here.got[device], of) == naive.replace(day=21)
    assert set(here.counts.values()) <= {1}


def test_who_stays_gets_it_at_his_hour():
    here = Round(intelligent("2026-11-21"), random.Random(2))
    here.go()
    for device, name in here.zone.items():
        shown = zones.shown(here.got[device], zones.zone(name or "Europe/Berlin"))
        assert (shown.day, shown.hour, shown.minute) == (21, here.hour[device], 0)


def test_as_soon_as_possible_is_within_a_day_at_the_hour():
    here = Round(send(intelligent_delivery=True), random.Random(3))
    here.go()
    for device, name in here.zone.items():
        shown = zones.shown(here.got[device], zones.zone(name or "Europe/Berlin"))
        assert shown.hour == here.hour[device]
        assert 0 <= here.got[device] - ACCEPTED <= 86_400


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["local", "next_day", "intelligent"])
def test_whoever_travels_gets_it_once(kind, seed):
    """Also to zones that nobody was in when it was planned."""
    dice = random.Random(f"{kind} {seed}")
    wanted = {
        "local": local("2026-11-21T09:00"),
        "next_day": local("2026-11-20T14:00", "next_day"),
        "intelligent": intelligent("2026-11-21"),
    }[kind]
    here = Round(wanted, dice)

    def travel():
        for device in dice.sample(sorted(here.zone), 20):
            here.zone[device] = dice.choice([*NAMES, *ELSEWHERE, ""])
            here.hour[device] = dice.randrange(24)

    here.go(travel)
    assert set(here.counts.values()) == {1}
    assert set(here.got) | here.passed == set(here.zone)
    assert not set(here.got) & here.passed
