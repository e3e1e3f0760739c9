"""In-app messages whose daemon is killed on the way: everybody has each once, whatever was being committed."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from tests.faults.earth import earth
from tests.faults.failpoints import IN_APP

BEGIN = 1_800_000_000.0 // 86_400 * 86_400
DAY = 86_400
HOURS = (0, 8, 12, 14)
"""When something of them is due, in UTC."""
PHONES = {"berlin": "Europe/Berlin", "tokyo": "Asia/Tokyo", "lima": "America/Lima"}


@pytest.mark.asyncio
async def test_killed_wherever_everybody_has_each_message_once():
    async with earth(PHONES, BEGIN) as here:
        daemon = here.daemons[0]
        made = {}
        for day, point in zip(itertools.count(3, 3), IN_APP, strict=False):
            await here.kill(daemon)
            await here.start(daemon, point=f"{point}:2")
            here.armed = daemon
            strategies = [
                {"strategy": "local", "send_at": _wall(day)},
                {"strategy": "utc", "send_at": BEGIN + day * DAY + 12 * 3_600},
                {"strategy": "utc", "recurrence": {"every_s": DAY, "starts_at": BEGIN + day * DAY, "count": 1}},
            ]
            for schedule in strategies:
                body = {
                    "audience": {"type": "broadcast"},
                    "content": {"point": point},
                    "presented_when": "immediately",
                    "ttl": {"days": 30},
                    "schedule": schedule | {"past_times": "ignore"},
                }
                made[(await here.call("POST", "/in-app-messages", body))["id"]] = point
            for hour in HOURS:
                here.clock.set(max(here.clock.now(), BEGIN + day * DAY + hour * 3_600))
                await here.quiet()
            assert here.armed is None, f"{point} was never reached"
        for phone in PHONES:
            items = (await here.call("GET", f"/installs/{phone}/inbox", limit=100))["items"]
            points = [each["content"]["point"] for each in items]
            assert sorted(points) == sorted(point for point in IN_APP for _ in range(3))
            assert len({each["id"] for each in items}) == len(items)


def _wall(day: int) -> str:
    return datetime.fromtimestamp(BEGIN + day * DAY + 9 * 3_600, UTC).strftime("%Y-%m-%dT%H:%M")
