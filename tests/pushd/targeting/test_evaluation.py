"""Evaluations in slices: exactly the audience of the moment they end, whatever changes while they stand still."""

from __future__ import annotations

import asyncio
import time
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.model.audience import Aliases, And, Broadcast, DeviceIds, Not, Or, Tags, UserEmails, UserIds
from pushd.model.device import ALERT_KINDS, Kind
from pushd.model.rows import DeviceFlag
from pushd.targeting import Index, evaluation, scope
from pushd.targeting.audiences import names_people
from pushd.targeting.resolution import LISTED_MAX

from .naive import LIVE, DeviceImage, Naive, UserImage, device_rows, user_rows
from .test_index import AUDIENCES, CHANGES, KINDS, FixedClock, feed, feed_naive


def paused(index, app, audience, kinds, between):
    """The resolution, and how often it stood still; `between` is called at each pause."""
    steps = index.resolve_in_slices(app, audience, kinds)
    pauses = 0
    while True:
        try:
            steps.send(None)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1
        between(pauses)


@given(
    *(CHANGES, CHANGES, AUDIENCES, KINDS, st.sampled_from([0, 2, 1_000]), st.sampled_from([1, 7])),
    st.sampled_from([0, 256]),
)
@settings(max_examples=80)
def test_changes_between_slices_are_in_the_result(changes, late, audience, kinds, few, at_a_time, labels):
    index, naive = Index(FixedClock()), Naive()
    feed(index, changes, (1, 20), labels)
    feed_naive(naive, changes)
    waiting = list(late)

    def change(_):
        part, waiting[:at_a_time] = waiting[:at_a_time], []
        feed(index, part, (at_a_time,), labels)
        feed_naive(naive, part)

    with (
        mock.patch.object(evaluation, "SLICE_S", -1),
        mock.patch.object(evaluation, "FEW_CHANGED", few),
        mock.patch.object(scope, "SLICE_IDS", 2),
        mock.patch.object(scope, "SLICE_SETS", 1),
    ):
        found, _ = paused(index, 1, audience, kinds, change)
    assert set(found.devices) == naive.reach(1, audience, kinds)
    assert found.skipped == naive.skipped(1, audience, kinds)


@given(CHANGES, AUDIENCES, KINDS)
@settings(max_examples=40)
def test_in_slices_all_is_as_at_once(changes, audience, kinds):
    index = Index(FixedClock())
    feed(index, changes, (20,))
    whole = index.resolve(1, audience, kinds)
    with mock.patch.object(evaluation, "SLICE_S", -1), mock.patch.object(scope, "SLICE_IDS", 2):
        parts, _ = paused(index, 1, audience, kinds, lambda _: None)
    assert parts.devices == whole.devices
    assert (parts.skipped, parts.unknown, parts.unsubscribed) == (whole.skipped, whole.unknown, whole.unsubscribed)
    assert (parts.named, parts.missing) == (whole.named, whole.missing)


@given(CHANGES, AUDIENCES, KINDS, st.sets(st.integers(1, 31)))
@settings(max_examples=40)
def test_asked_within_some_devices_an_audience_says_of_them_what_it_says_of_all(changes, audience, kinds, asked):
    index = Index(FixedClock())
    feed(index, changes, (20,))
    with mock.patch.object(scope, "SLICE_IDS", 2):
        still = index.still(1, Devices(asked), audience, kinds)
    naive = Naive()
    feed_naive(naive, changes)
    there = {key for key in asked & naive.known(1) if not naive.state(key, kinds)}
    assert set(still) == (naive.match(1, audience) & there if names_people(audience) else there)


def crowd(users):
    index = Index(FixedClock())
    index.apply_users(user_rows(*(UserImage(key, external=f"person {key}") for key in range(1, users + 1))))
    index.apply_devices(device_rows(*(DeviceImage(key, user=key) for key in range(1, users + 1))))
    return index


def test_one_user_is_answered_without_a_pause():
    index = crowd(3)
    with mock.patch.object(evaluation, "SLICE_S", -1):
        found, pauses = paused(index, 1, UserIds(["person 2"]), ALERT_KINDS, lambda _: None)
    assert (list(found.devices), pauses) == ([2], 0)


def test_nothing_is_watched_once_an_evaluation_ended_or_was_dropped():
    index = crowd(10)
    audience = Or([Broadcast(), Tags(any=["news"])])
    with mock.patch.object(evaluation, "SLICE_S", -1):
        _, pauses = paused(index, 1, audience, ALERT_KINDS, lambda _: None)
        assert pauses
        assert index._population.watches == []
        steps = index.resolve_in_slices(1, audience, ALERT_KINDS)
        steps.send(None)
        assert len(index._population.watches) == 1
        steps.close()
    assert index._population.watches == []


def test_an_app_that_goes_meanwhile_has_nobody():
    index = crowd(10)
    audience = Or([Broadcast(), DeviceIds([3])])
    with mock.patch.object(evaluation, "SLICE_S", -1):
        found, _ = paused(index, 1, audience, ALERT_KINDS, lambda _: index.remove_app(1))
    assert not found.devices


def test_changes_that_never_end_are_asked_again_a_bounded_number_of_times():
    index = crowd(20)
    audience = And([Or([UserIds(["person 1"]), Broadcast()]), Not(DeviceIds([2]))])

    def change(turn):
        flags = LIVE if turn % 2 else int(DeviceFlag.PUSH_ENABLED)
        index.apply_devices(
            device_rows(*(DeviceImage(key, user=key, revision=turn + 1, flags=flags) for key in (1, 2, 3)))
        )

    with mock.patch.object(evaluation, "SLICE_S", -1), mock.patch.object(evaluation, "FEW_CHANGED", 0):
        found, pauses = paused(index, 1, audience, ALERT_KINDS, change)
    assert pauses < 20 * evaluation.ROUNDS_MAX
    assert found.devices == index.resolve(1, audience, ALERT_KINDS).devices


@pytest.mark.asyncio
async def test_a_hundred_thousand_users_are_asked_in_slices():
    index = crowd(5_000)
    ids = [f"person {key}" for key in range(1, 100_001)]
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    begun = time.perf_counter()
    found = await index.resolve_in_slices(1, UserIds(ids), frozenset(Kind))
    took = time.perf_counter() - begun
    beside.cancel()
    assert (len(found.devices), found.named, found.missing) == (5_000, 100_000, 95_000)
    assert turns >= min(5, took / 0.02)


class Name(str):
    """Counts how often names are looked at."""

    __slots__ = ()
    looks = 0

    def __hash__(self):
        Name.looks += 1
        return super().__hash__()

    def lower(self):
        return Name(super().lower())


@pytest.mark.parametrize("leaf", [UserEmails, Aliases])
def test_names_that_nobody_has_are_looked_at_in_slices(leaf):
    """However long the list of those that are missing is made: the first names of it are told, and their count."""
    names = [Name(f"Person.{number}@example.org") for number in range(20_000)]
    at_once, Name.looks = [], 0

    def look(_):
        at_once.append(Name.looks)
        Name.looks = 0

    with mock.patch.object(evaluation, "SLICE_S", -1):
        found, _ = paused(crowd(10), 1, leaf(names), frozenset(Kind), look)
    look(0)
    assert max(at_once) <= 4 * scope.SLICE_IDS
    assert (found.named, found.missing) == (20_000, 20_000)
    ((_, told),) = [(group, each) for group, each in found.unknown.items() if each]
    assert told == names[:LISTED_MAX]


def test_the_first_device_of_an_app_may_come_while_it_stands_still():
    index = Index(FixedClock())
    first = DeviceImage(id=1, revision=1, route=1, flags=LIVE, token=b"t")

    def change(_):
        feed(index, [first], (1,), 0)

    with mock.patch.object(evaluation, "SLICE_S", -1):
        found, pauses = paused(index, 1, Or(of=[Broadcast()]), frozenset(Kind), change)
    assert (set(found.devices), pauses > 0) == ({1}, True)
