"""Two daemons on one database, one of them killed again and again: `python -m tests.faults.leaders`."""

import asyncio
import random
import sys
from collections import defaultdict
from time import perf_counter

from tests.faults.earth import earth
from tests.faults.report import arguments, tell

SPEED = 20.0
"""How much faster the clock goes than the machine's: an hour in three minutes."""
EVERY_S = 600
"""Period of every schedule: half a minute of the machine's time, in which somebody takes over for sure."""
WITHIN_S = 500
BEGIN = 1_800_000_000.0
ZONES = ("Asia/Tokyo", "Europe/Berlin", "America/New_York")
PHONES = 9


async def take_turns(kills, schedules, seed):
    """Kills one of two daemons at random, so often, while schedules fire; what came of it."""
    dice, begun = random.Random(seed), perf_counter()
    phones = {f"phone {number}": ZONES[number % len(ZONES)] for number in range(PHONES)}
    async with earth(phones, BEGIN, speed=SPEED, daemons=2) as here:
        expected = await _schedule(here, dice, schedules)
        for _ in range(kills):
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            victim = dice.choice(here.daemons)
            await here.kill(victim)
            await asyncio.sleep(dice.uniform(0.0, 1.0))
            await here.start(victim)
        end = here.clock.now()
        here.clock.set(end)
        await here.quiet()
        late = _check(here, expected, end)
        return {
            "seed": seed,
            "kills": here.kills,
            "schedules": schedules,
            "occurrences": len(late),
            "pushes": len(here.arrivals),
            "repeated": len(here.arrivals) - len({(each.phone, each.notification) for each in here.arrivals}),
            "late_s_max": round(max(late) / SPEED, 2),
            "late_s_median": round(sorted(late)[len(late) // 2] / SPEED, 3),
            "seconds": round(perf_counter() - begun, 1),
        }


async def _schedule(here, dice, count):
    """Schedules by title: when each begins, and whom it reaches."""
    expected = {}
    for number in range(count):
        start = here.clock.now() + dice.uniform(5, EVERY_S)
        phone = f"phone {dice.randrange(PHONES)}"
        named = {"type": "users", "ids": [f"user of {phone}"]}
        audience, who = ({"type": "broadcast"}, PHONES) if number % 4 == 0 else (named, 1)
        title = f"schedule {number}"
        recurrence = {"every_s": EVERY_S, "starts_at": start}
        missed = {"type": "run", "within_s": WITHIN_S}
        schedule = {"strategy": "utc", "past_times": "ignore", "recurrence": recurrence, "missed": missed}
        await here.send(title, audience, schedule=schedule)
        expected[title] = start, who
    return expected


def _check(here, expected, end):
    """How late each occurrence went out, by the clock; fails unless each did once, to all."""
    late = []
    known = here.by_title()
    for title, (start, who) in expected.items():
        rounds = defaultdict(lambda: defaultdict(list))
        for each in known[title]:
            rounds[int((each.at - start) // EVERY_S)][each.notification].append(each)
        for number in range(int((end - start) // EVERY_S) + 1):
            sent = rounds.pop(number, {})
            assert len(sent) == 1, f"{title}: occurrence {number} became {len(sent)} notifications"
            ((_, arrivals),) = sent.items()
            assert len({each.phone for each in arrivals}) == who, f"{title}: occurrence {number} missed a phone"
            late.append(min(each.at for each in arrivals) - (start + number * EVERY_S))
        assert not rounds, f"{title}: {sorted(rounds)} were sent and never due"
    return late


def main():
    """Runs it from the command line."""
    parser = arguments("leaders", __doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--schedules", type=int, default=100)
    given = parser.parse_args()
    return tell(
        "leaders",
        given,
        "each occurrence became one notification, whichever daemon died",
        lambda seed: take_turns(given.kills, given.schedules, seed),
    )


if __name__ == "__main__":
    sys.exit(main())
