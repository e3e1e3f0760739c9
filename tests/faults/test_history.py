"""The history checker finds what it is there to find."""

import pytest

from protocols.apns import apns_id
from tests.faults.gateway import Push
from tests.faults.history import Promise, Pushes, judge

A, B = "aa", "bb"


def push(notification, token, status=200, device=None):
    return Push(0, token, apns_id(notification, device or int(token, 16)), status)


@pytest.mark.parametrize(
    ("promise", "pushes", "found"),
    [
        (Promise(7, frozenset({A, B})), [push(7, A)], {"lost": [(7, B)]}),
        (Promise(7, frozenset({A})), [push(7, A, 503)], {"lost": [(7, A)]}),
        (Promise(7, frozenset({A})), [push(7, A), push(7, A, 0)], {"duplicates": 1}),
        (Promise(7, frozenset({A})), [push(7, A, 503), push(7, A)], {"duplicates": 0}),
        (Promise(7, frozenset({A}), True), [push(7, A), push(7, A)], {"twice": [(7, A)]}),
        (Promise(7, frozenset({A}), True), [], {"unsent": 1, "lost": []}),
        (Promise(7, frozenset({A})), [push(7, A), push(7, B)], {"strays": [(7, B)]}),
        (Promise(7, frozenset({A})), [push(7, A), push(8, A)], {"strays": [(8, A)]}),
        (Promise(7, frozenset({A})), [push(7, A), push(7, A, 503, device=3)], {"mixed": [A]}),
    ],
)
def test_the_verdict_tells_what_went_wrong(promise, pushes, found):
    verdict = judge([promise], Pushes.of(pushes))
    assert {name: getattr(verdict, name) for name in found} == found
    wrong = [name for name in ("lost", "twice", "strays", "mixed") if found.get(name)]
    if wrong or found.get("duplicates"):
        with pytest.raises(AssertionError):
            verdict.check(duplicates_max=0)
    else:
        verdict.check(duplicates_max=0)
