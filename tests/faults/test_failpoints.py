"""Fail points name code that is there, and strike at the hit that was asked for."""

import asyncio

import pytest

from tests.faults import failpoints
from tests.faults.failpoints import POINTS, Point, When


class Part:
    def __init__(self):
        self.done = []

    def step(self, number):
        self.done.append(number)
        return number

    async def turn(self, number):
        await asyncio.sleep(0.01)
        self.done.append(number)
        return number


@pytest.mark.parametrize("name", POINTS)
def test_a_point_names_a_function_of_the_product(name):
    owner, attribute = failpoints._find(POINTS[name].place)
    assert callable(getattr(owner, attribute))


@pytest.mark.asyncio
@pytest.mark.parametrize("function", ["step", "turn"])
@pytest.mark.parametrize(
    ("when", "counts", "seen"),
    [
        (When.BEFORE, None, [1, 2]),
        (When.AFTER, None, [1, 2, 3]),
        (When.DURING, None, [1, 2]),
        (When.BEFORE, lambda _, number: number == 4, [1, 2, 3]),
        (When.AFTER, lambda number: number == 4, [1, 2, 3, 4]),
    ],
)
async def test_a_point_strikes_once_at_its_hit(monkeypatch, function, when, counts, seen):
    struck = []
    part = Part()
    place = f"{__name__}:Part.{function}"
    monkeypatch.setattr(failpoints, "_find", lambda _: (Part, function))
    monkeypatch.setattr(Part, function, getattr(Part, function))
    monkeypatch.setitem(POINTS, "here", Point(place, when, counts))
    failpoints.arm(f"here:{1 if counts else 3}", lambda: struck.append(list(part.done)))
    for number in range(1, 6):
        result = getattr(part, function)(number)
        assert number == (await result if asyncio.iscoroutine(result) else result)
        await asyncio.sleep(0.002)
    if when is When.DURING and function == "step":
        seen = [*seen, 3]  # what does not wait has ended before it can be cut off
    assert struck == [seen]
