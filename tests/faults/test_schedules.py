"""What is scheduled while the database is away, or while somebody sets the clock: late by its policy, and once."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.earth import earth

BEGIN = 1_800_000_000.0
HOUR = 3_600.0
PHONES = {"one": "Europe/Berlin", "two": "Asia/Tokyo", "three": ""}


def every_hour(start, missed=None):
    recurrence = {"every_s": int(HOUR), "starts_at": start}
    said = {"strategy": "utc", "past_times": "ignore", "recurrence": recurrence}
    return {"schedule": said | ({"missed": missed} if missed else {})}


def once(at):
    return {"schedule": {"strategy": "utc", "send_at": at, "past_times": "ignore"}}


@pytest.mark.asyncio
async def test_while_the_database_is_away_and_the_clock_is_set():
    async with earth(PHONES, BEGIN) as here:
        await here.send("late", **every_hour(BEGIN + 600))
        await here.send("skipped", **every_hour(BEGIN + 600, {"type": "skip"}))
        await here.send("once", **once(BEGIN + 900))
        await here.postgres.stop()
        for at in (600, 900, 1_800):
            here.clock.set(BEGIN + at)
            await asyncio.sleep(0.3)
        here.harvest()
        assert not here.arrivals
        await here.postgres.start()
        await here.quiet()
        assert sent(here) == {"late": {BEGIN + 1_800}, "once": {BEGIN + 1_800}}
        here.clock.set(BEGIN + HOUR + 600)
        await here.quiet()
        on_time = {"late": {BEGIN + 1_800, BEGIN + HOUR + 600}, "skipped": {BEGIN + HOUR + 600}}
        assert sent(here) == {"once": {BEGIN + 1_800}, **on_time}
        here.clock.set(BEGIN)  # somebody sets the clock back, and what has been comes again
        await asyncio.sleep(0.2)
        here.clock.set(BEGIN + HOUR + 700)
        await asyncio.sleep(0.2)
        await here.quiet()
        assert sent(here) == {"once": {BEGIN + 1_800}, **on_time}
        here.clock.set(BEGIN + 50 * HOUR)  # and far ahead: the last that was missed is fifty minutes late
        await here.quiet()
        here.clock.set(BEGIN + 2 * HOUR)
        await here.quiet()
        on_time["late"].add(BEGIN + 50 * HOUR)
        assert sent(here) == {"once": {BEGIN + 1_800}, **on_time}
        assert len(here.arrivals) == len(PHONES) * 5


def sent(here):
    """When what came to all phones did, by what it said; each notification once."""
    found = {}
    for title, arrivals in here.by_title().items():
        assert len(arrivals) == len({(each.phone, each.notification) for each in arrivals})
        found[title] = {each.at for each in arrivals}
        for at in found[title]:
            assert {each.phone for each in arrivals if each.at == at} == set(PHONES)
    return found
