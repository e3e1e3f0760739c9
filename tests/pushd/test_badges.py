"""Counts of badges against a dictionary that does the same one device at a time."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pushd.badges import COUNT_MAX, COUNTED, Badges, Increment, Step, amount_of, increment, read_step, steps
from pushd.bitset import PART_BITS, Devices
from pushd.model.audience import Broadcast
from pushd.model.message import Message
from pushd.model.notification import Send

EDGE = 1 << PART_BITS
AROUND = list(range(EDGE - 150, EDGE + 150))
"""Devices of two parts."""
devices = st.one_of(
    st.lists(st.sampled_from(AROUND), min_size=1, max_size=5, unique=True).map(Devices),
    st.tuples(st.integers(0, 100), st.integers(200, 300), st.integers(1, 2)).map(
        lambda found: Devices(AROUND[found[0] : found[1] : found[2]])
    ),
)
amounts = st.one_of(st.integers(-3, 3), st.sampled_from([COUNT_MAX, -COUNT_MAX, COUNT_MAX - 1]))
sent = st.lists(st.tuples(st.integers(1, 2), amounts, devices).map(lambda each: Increment(*each)), max_size=8)


def kept(step: Step) -> Step:
    """The step as it is read again."""
    return read_step(step.amount, step.sets, step.packed, step.dump())


@given(st.lists(st.one_of(sent, st.tuples(st.integers(0, COUNT_MAX), devices)), max_size=6))
def test_steps_come_to_what_each_device_would_come_to_alone(turns):
    # Devices of app 2 lie in another range: apps share the column, never a device.
    badges, model = Badges(), defaultdict(int)
    for turn in turns:
        if isinstance(turn, tuple):
            count, some = turn
            badges.move(kept(Step(count, True, np.array(some.column()))))
            model.update(dict.fromkeys(some, count))
            continue
        moved = [each._replace(devices=Devices(d + 4 * EDGE for d in each.devices)) if each.app_id == 2 else each
                 for each in turn]  # fmt: skip
        for _, step in steps(moved):
            badges.move(kept(step))
        for _, amount, some in moved:
            for device in some:
                model[device] = min(max(model[device] + amount, 0), COUNT_MAX)
    ids = np.array(AROUND + [each + 4 * EDGE for each in AROUND], np.uint32)
    expected = [model[each] for each in ids.tolist()]
    assert badges.of(ids).tolist() == expected
    assert badges.of(ids[::-1].copy()).tolist() == expected[::-1]
    for part in (0, 1, 4, 5):
        some, counts = badges.counted(part * EDGE, (part + 1) * EDGE)
        again = Badges()
        again.put(some.column(), counts)
        mine = ids[ids >> PART_BITS == part]
        assert again.of(mine).tolist() == [model[each] for each in mine.tolist()]
    fresh = Badges()
    fresh.move(Step(7, True, np.array([EDGE - 11, EDGE - 5, EDGE + 5, 4 * EDGE], np.uint32)))
    badges.take(fresh, EDGE - 10, 4 * EDGE)
    model.update(dict.fromkeys(range(EDGE - 10, EDGE + 150), 0) | {EDGE - 5: 7, EDGE + 5: 7})
    assert badges.of(ids).tolist() == [model[each] for each in ids.tolist()]


def test_singles_that_follow_each_other_are_one_step():
    one, two, many = Devices([1]), Devices([2, 9]), Devices(range(EDGE - 100, EDGE + 100))
    found = steps([Increment(1, 1, one), Increment(2, 1, two), Increment(1, 1, one), Increment(1, 2, one)])
    assert [(app, step.amount, step.devices.tolist()) for app, step in found] == [
        (1, 1, [1, 1]),
        (2, 1, [2, 9]),
        (1, 2, [1]),
    ]
    found = steps([Increment(1, 1, one), Increment(1, 1, many), Increment(1, 1, one), Increment(1, 1, Devices())])
    assert [(step.packed, step.parts(), len(step.devices)) for _, step in found] == [
        (True, [0], 1),
        (False, [0], 100),
        (False, [1], 100),
        (True, [0], 1),
    ]


def test_devices_of_whom_nothing_is_counted_hold_nothing():
    badges = Badges()
    assert (badges.of(np.array([1, 2**31], np.uint32)).tolist(), badges.nbytes) == ([0, 0], 0)
    badges.move(Step(1, False, Devices([5])))
    assert badges.nbytes == 2 * EDGE


def test_a_send_counts_by_what_it_says():
    def amount(**fields):
        badge_from = fields.pop("badge_from", COUNTED)
        return amount_of(Send(audience=Broadcast(), message=Message(title="x", **fields), badge_from=badge_from))

    assert [amount(), amount(badge_increment=-2), amount(badge_increment=0)] == [1, -2, 0]
    assert [amount(badge_increment=2**31 - 1), amount(badge_from="user.unread"), amount(badge_from=None)] == [
        COUNT_MAX,
        None,
        None,
    ]
    everybody = Devices(range(5))
    plain = Send(audience=Broadcast(), message=Message(title="x"))
    counted = msgspec.structs.replace(plain, badge_from=COUNTED)
    nobody = ((Devices([1]), 3), (Devices([2, 4]), 5))
    assert increment(7, counted, everybody, nobody) == Increment(7, 1, Devices([0, 3]))
    assert increment(7, counted, everybody, ()).devices is everybody
    assert increment(7, plain, everybody, nobody) is None
