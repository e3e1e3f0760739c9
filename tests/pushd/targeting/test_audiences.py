"""Limits of audiences, and what they name."""

from typing import get_args

import pytest

from pushd.errors import InvalidRequestError
from pushd.model.audience import And, Audience, Broadcast, DeviceIds, Not, Or, Segment, Tags, UserIds, UserNumbers
from pushd.targeting.audiences import DEPTH_MAX, LEAVES, LEAVES_MAX, check, names_people, walk


def nested(depth):
    audience = Broadcast()
    for _ in range(depth - 1):
        audience = And([Broadcast(), audience])
    return audience


def pointer(audience):
    with pytest.raises(InvalidRequestError) as caught:
        check(audience)
    return caught.value.faults[0].pointer


def test_depth_is_limited():
    check(nested(DEPTH_MAX))
    assert pointer(nested(DEPTH_MAX + 1)) == "/audience" + "/of/1" * (DEPTH_MAX - 1) + "/of/0"


def test_leaves_are_limited():
    check(Or([Or([Broadcast()] * 100)] * (LEAVES_MAX // 100)))
    assert pointer(Or([Or([Broadcast()] * 100)] * 10 + [Broadcast()])) == "/audience/of/10"


def test_tags_that_say_nothing_are_refused():
    assert pointer(And([Broadcast(), Not(Tags())])) == "/audience/of/1/of"
    check(Tags(exclude=["a"]))


def test_nodes_are_walked_in_written_order():
    audience = And([Or([Broadcast(), DeviceIds([1])]), Not(UserIds(["a"]))])
    assert [(type(node).__name__, at, depth) for node, at, depth in walk(audience, "")] == [
        ("And", "", 1),
        ("Or", "/of/0", 2),
        ("Broadcast", "/of/0/of/0", 3),
        ("DeviceIds", "/of/0/of/1", 3),
        ("Not", "/of/1", 2),
        ("UserIds", "/of/1/of", 3),
    ]


def test_which_audiences_name_people():
    assert names_people(And([Broadcast(), Not(UserNumbers([1]))]))
    assert names_people(UserIds(["a"]))
    assert not names_people(Or([DeviceIds([1]), Tags(any=["a"], of="user")]))


def test_every_sort_of_audience_has_its_function():
    # Segments are put in the place of their names before an audience is evaluated.
    assert set(LEAVES) == set(get_args(Audience)) - {Segment}
