"""A campaign by the clocks of phones in 38 zones: each at its own nine o'clock, also where daemons die on the way."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.faults.earth import earth

NAMES = """
Etc/GMT+12 Pacific/Pago_Pago Pacific/Honolulu Pacific/Marquesas Pacific/Gambier Pacific/Pitcairn America/Phoenix
America/Regina America/Bogota America/La_Paz America/Sao_Paulo America/St_Johns America/Noronha Atlantic/Cape_Verde
Africa/Abidjan Africa/Lagos Europe/Berlin Africa/Nairobi Asia/Tehran Asia/Dubai Asia/Kabul Asia/Karachi Asia/Kolkata
Asia/Kathmandu Asia/Dhaka Asia/Yangon Asia/Bangkok Asia/Singapore Australia/Eucla Asia/Tokyo Australia/Darwin
Australia/Brisbane Australia/Lord_Howe Pacific/Noumea Pacific/Fiji Pacific/Chatham Pacific/Tongatapu Pacific/Kiritimati
"""
"""One for each offset that clocks have in July."""
ZONES = NAMES.split()
NINE = datetime.fromisoformat("2026-07-15T09:00")
BEGIN = datetime(2026, 7, 14, 12, tzinfo=UTC).timestamp()
PHONES = 2


def nine(zone):
    return NINE.replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.asyncio
async def test_a_campaign_goes_round_38_zones_and_survives_what_happens_to_daemons():
    assert len({nine(zone) for zone in ZONES}) == 38
    phones = {f"{zone} {number}": zone for zone in ZONES for number in range(PHONES)}
    async with earth(phones, BEGIN) as here:
        (daemon,) = here.daemons
        sent = await here.send(
            "Good morning", schedule={"strategy": "local", "send_at": NINE.isoformat(), "past_times": "ignore"}
        )
        traveller, eastward = f"{ZONES[30]} 0", f"{ZONES[3]} 0"
        for number, at in enumerate(sorted(map(nine, ZONES))):
            here.clock.set(at - 1)
            await here.quiet()
            before = len(here.arrivals)
            if number == 12:  # it dies while it opens this very release, and is back at once
                await here.kill(daemon)
                await here.start(daemon, point="during-open-commit:1", wait=False)
                here.clock.set(at)
                assert await daemon.dies(30)
                here.kills += 1
                await here.start(daemon)
            elif number == 20:  # it is away when the time comes
                assert await daemon.terminate() == 0
                here.clock.set(at + 300)
                await here.start(daemon)
            elif number == 27:
                here.clock.set(at)
                await here.kill(daemon)
                await here.start(daemon)
            here.clock.set(max(at, here.clock.now()))
            await here.quiet()
            assert len(here.arrivals) > before, "nothing went out when a zone's time came"
            if number == 10:  # who had it moves west, who had not, east: each gets it once
                await here.register(traveller, "America/Bogota")
                await here.register(eastward, "Asia/Tokyo")
        here.clock.set(here.clock.now() + timedelta(days=1).total_seconds())
        await here.quiet()
        check(here, sent, phones, {eastward: "with the next zone"})
        view = await here.call("GET", f"/notifications/{sent}")
        assert view["state"] == "done"
        assert view["counts"]["accepted"] == view["counts"]["targeted"] == len(phones)


def check(here, sent, phones, moved):
    """Fails unless every phone got it once, at its nine o'clock; what a kill left unsettled may come twice."""
    got = defaultdict(list)
    for each in here.arrivals:
        assert each.notification == sent
        got[each.phone].append(each.at)
    assert set(got) == set(phones)
    twice = [name for name, times in got.items() if len(times) > 1]
    assert len(twice) <= here.kills * PHONES
    for name, zone in phones.items():
        if name not in moved:
            assert 0 <= got[name][0] - nine(zone) <= 301, (name, got[name][0] - nine(zone))
    late = {zone for name, zone in phones.items() if got[name][0] - nine(zone) > 0 and name not in moved}
    assert len(late) == 1, "only where no daemon was there"
