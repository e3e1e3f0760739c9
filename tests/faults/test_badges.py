"""Badges that two nodes count, one of them killed again and again: no message counts twice, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections import Counter

import aiohttp
import orjson
import pytest

from tests.faults.earth import earth
from tests.faults.waiting import until

BEGIN = 1_800_000_000.0
PHONES = ("ada's", "bob's", "eve's")
POINTS = ("during-accept-commit:1", "before-release:1", "before-answers-are-read:1")


async def send(here, daemon, key, audience, point=""):
    """The id of a counted send, repeated under one key at one node until there is a 202."""
    body = orjson.dumps({"audience": audience, "message": {"title": key}, "badge_from": "device.badge"})
    headers = here._headers | {"Content-Type": "application/json", "Idempotency-Key": key}
    async with asyncio.timeout(60):
        while True:
            try:
                url = f"{daemon.url}/pushd/v1/notifications"
                async with here._session.post(url, data=body, headers=headers) as answer:
                    if answer.status == 202:
                        return orjson.loads(await answer.read())["id"]
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass
            if not daemon.running:
                await here.start(daemon, point=point)
            await asyncio.sleep(0.05)


def shown(here, phone):
    """The badge that a phone was sent last."""
    token = hashlib.sha256(phone.encode()).hexdigest()
    return orjson.loads(here.apple.record.last(token).payload)["aps"]["badge"]


async def counts(here):
    found = (await here.call("GET", "/devices"))["items"]
    return {each["install_id"]: each["badge"] for each in found}


@pytest.mark.asyncio
async def test_a_kill_at_any_moment_counts_every_message_once_on_both_nodes():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")
    dice, model = random.Random(seed), Counter()
    async with earth(dict.fromkeys(PHONES, "UTC"), BEGIN, speed=1.0, daemons=2) as here:
        everybody, bob = {"type": "broadcast"}, {"type": "users", "ids": ["user of bob's"]}
        plans = [(everybody, PHONES), (bob, PHONES[1:2])]
        for number in range(6):
            daemon, (audience, phones) = here.daemons[number % 2], plans[number % 3 == 2]
            await send(here, daemon, f"well-{number}", audience)
            model.update(phones)
            await here.quiet()
            assert [shown(here, each) for each in phones] == [model[each] for each in phones]
        victim, *points = here.daemons[0], *POINTS, ""
        await here.kill(victim)
        await here.start(victim, point=points[0])
        for number, point in enumerate(points[:-1]):
            (audience, phones), process = plans[number % 2], victim.process
            sending = asyncio.create_task(send(here, victim, f"ill-{number}", audience, point=points[number + 1]))
            await asyncio.wait_for(process.wait(), 30)
            await sending
            if not victim.running:
                await here.start(victim, point=points[number + 1])
            model.update(phones)
            await here.quiet()
            assert [shown(here, each) for each in phones] == [model[each] for each in phones], point
        sending = asyncio.create_task(send(here, victim, "ill", everybody))
        await asyncio.sleep(dice.uniform(0.0, 0.02))
        await here.kill(victim)
        await sending
        model.update(PHONES)
        await here.quiet()
        soon = {"strategy": "utc", "send_at": here.clock.now() + 0.7, "past_times": "ignore"}
        await here.call("POST", "/notifications", {
            "audience": everybody, "message": {"title": "x"}, "badge_from": "device.badge",
            "schedule": soon,
        })  # fmt: skip
        await asyncio.sleep(dice.uniform(0.5, 0.8))
        await here.kill(victim)
        await here.start(victim)
        model.update(PHONES)
        await until(lambda: shown(here, PHONES[0]) == model[PHONES[0]])
        await here.quiet()
        assert await counts(here) == {each: model[each] for each in PHONES}
        await here.kill(here.daemons[0])  # and the other says the same
        assert await counts(here) == {each: model[each] for each in PHONES}
        assert [shown(here, each) for each in PHONES] == [model[each] for each in PHONES]
