"""Leaves of the past on a bare index: what was gathered meets who is there now; tags folded from the left."""

from functools import reduce
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.errors import InvalidRequestError
from pushd.model.audience import And, Broadcast, Installs, Not, Opened, Or, Outcome, TagElement, TagsSegment, UserIds
from pushd.model.device import ALERT_KINDS
from pushd.model.rows import DeviceFlag
from pushd.targeting import Index, evaluation
from pushd.targeting.audiences import check
from pushd.targeting.leaves_past import GATHERED_MAX, InstallDevices

from .naive import DeviceImage, UserImage, device_rows, user_rows

OPENED = Outcome(notification_id=7, is_="opened")
LATELY = Opened(is_=True, within_days=3)
NOT_LATELY = Opened(is_=False, within_days=3)
TAGS = {1: "news", 2: "SPORT", 3: "STRASSE"}
STEPS = st.lists(
    st.tuples(st.sampled_from(["AND", "AND_NOT", "OR", "OR_NOT"]), st.sampled_from([*TAGS, 9])),
    min_size=1,
    max_size=4,
    unique_by=lambda step: step[1],
)


def of(*devices):
    index = Index()
    index.apply_devices(device_rows(*devices))
    return index


def reached(index, audience, gathered=None):
    return set(index.resolve(1, audience, ALERT_KINDS, gathered=gathered).devices)


@given(st.lists(st.sets(st.sampled_from([*TAGS])), min_size=1, max_size=8), STEPS)
@settings(max_examples=150)
def test_a_tags_segment_is_a_fold_from_the_left(carried, steps):
    index = of(*(DeviceImage(at, tags=tuple(sorted(tags))) for at, tags in enumerate(carried, 1)))
    everyone = set(range(1, len(carried) + 1))
    tagged = {number: {at for at, tags in enumerate(carried, 1) if number in tags} for number in [*TAGS, 9]}

    def step(matched, given):
        how, number = given
        chosen = tagged[number] if how in ("AND", "OR") else everyone - tagged[number]
        return matched & chosen if how.startswith("AND") else matched | chosen

    (first, number), *rest = steps
    begun = tagged[number] if first in ("AND", "OR") else everyone - tagged[number]
    elements = [TagElement(how, TAGS.get(number, "unheard of")) for how, number in steps]
    assert reached(index, TagsSegment(elements)) == reduce(step, rest, begun)


def test_what_was_gathered_counts_for_those_who_are_there():
    index = of(
        DeviceImage(1), DeviceImage(2), DeviceImage(3, flags=int(DeviceFlag.PUSH_ENABLED)), DeviceImage(9, route=4)
    )
    past = {id(OPENED): Devices([1, 3, 9, 77]), id(LATELY): Devices([2, 9, 77]), id(NOT_LATELY): Devices([2, 77])}
    assert reached(index, OPENED, past) == {1}
    assert reached(index, LATELY, past) == {2}
    assert reached(index, NOT_LATELY, past) == {1}
    assert reached(index, Not(OPENED), past) == {2}
    assert reached(index, Or([OPENED, LATELY]), past) == {1, 2}
    assert reached(index, And([OPENED, NOT_LATELY]), past) == {1}
    found = index.resolve(1, OPENED, ALERT_KINDS, gathered=past)
    assert found.skipped == {"no_token": 1}


@pytest.mark.parametrize("few", [0, 1_000], ids=["in slices", "at once"])
def test_devices_that_come_and_go_meanwhile(few):
    index = of(DeviceImage(1), DeviceImage(2), DeviceImage(3))
    past = {id(OPENED): Devices([1, 2]), id(NOT_LATELY): Devices([1])}
    waiting = [
        (DeviceImage(4),),
        (DeviceImage(2, revision=2, flags=int(DeviceFlag.DELETED)), DeviceImage(3, revision=2, tags=(1,))),
    ]
    with mock.patch.object(evaluation, "SLICE_S", -1), mock.patch.object(evaluation, "FEW_CHANGED", few):
        audience = Or([And([Broadcast(), OPENED]), And([Broadcast(), NOT_LATELY])])
        steps = index.resolve_in_slices(1, audience, ALERT_KINDS, gathered=past)
        try:
            while True:
                steps.send(None)
                if waiting:
                    index.apply_devices(device_rows(*waiting.pop()))
        except StopIteration as end:
            found = end.value
    assert not waiting
    assert set(found.devices) == {1, 3, 4}


def test_a_retry_asks_the_past_no_more():
    index = of(DeviceImage(1, user=1), DeviceImage(2, user=1), DeviceImage(3, user=2))
    index.apply_users(user_rows(UserImage(1, external="ada"), UserImage(2, external="bob")))
    batch = Devices([1, 2, 3])
    for leaf in (OPENED, LATELY, NOT_LATELY, Installs(["a"]), Not(OPENED), Not(Not(LATELY)), Not(Installs(["a"]))):
        assert index.still(1, batch, leaf, ALERT_KINDS) == batch
        assert index.still(1, batch, And([UserIds(["ada"]), leaf]), ALERT_KINDS) == Devices([1, 2])


def test_installs_that_are_missing_are_told_apart():
    index = of(DeviceImage(1), DeviceImage(2, route=3), DeviceImage(3, flags=int(DeviceFlag.PUSH_ENABLED)))
    leaf = Installs(["gone", "phone", "quiet", "empty", "phone"])
    devices = InstallDevices([1, 2, 3, 50])
    devices.names = ["gone", "phone", "quiet", "empty"]
    devices.known = np.array([False, True, True, True])
    devices.rows = np.array([1, 1, 2, 3])
    found = index.resolve(1, leaf, ALERT_KINDS, gathered={id(leaf): devices})
    assert set(found.devices) == {1}
    assert (found.unknown["installs"], found.unsubscribed["installs"]) == (["gone"], ["quiet", "empty"])
    assert (found.named, found.missing) == (4, 3)
    excluded = And([Broadcast(), Not(leaf)])
    found = index.resolve(1, excluded, ALERT_KINDS, gathered={id(leaf): devices})
    assert (set(found.devices), found.named, found.missing) == (set(), 0, 0)


def test_questions_to_the_store_are_bounded():
    check(Or([OPENED] * GATHERED_MAX))
    with pytest.raises(InvalidRequestError) as caught:
        check(Not(Or([LATELY, *[OPENED] * GATHERED_MAX])))
    assert caught.value.faults[0].pointer == f"/audience/of/of/{GATHERED_MAX}"


@pytest.mark.parametrize(
    ("leaf", "pointer"),
    [
        (Outcome(notification_id=1, is_="clicked", reasons=["x"]), "/audience/reasons"),
        (Outcome(notification_id=1, is_="failed", buttons=["x"]), "/audience/buttons"),
        (TagsSegment([TagElement("AND", "straße"), TagElement("OR", "STRASSE")]), "/audience/elements/1/name"),
    ],
)
def test_what_a_leaf_cannot_say(leaf, pointer):
    with pytest.raises(InvalidRequestError) as caught:
        check(leaf)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
