"""A year of mixed schedules under a clock that the test sets, with daemons that die: `python -m tests.faults.year`.

The almanac says what has to go out and when; Apple's record says what did. pushd itself is not asked.
"""

import asyncio
import random
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from time import perf_counter

from dateutil.rrule import rrulestr

from tests.faults.almanac import Entry, by_phones, instant, instants, periods
from tests.faults.earth import earth
from tests.faults.failpoints import SCHEDULING
from tests.faults.report import arguments, tell

BEGIN = "2027-11-01"
"""From here the year has a 29th of February, and every change of clocks in both hemispheres."""
DAY = 86_400
APP_ZONE = "Europe/Berlin"
PHONES = {
    "tokyo": "Asia/Tokyo",
    "kathmandu": "Asia/Kathmandu",
    "berlin": "Europe/Berlin",
    "lord howe": "Australia/Lord_Howe",
    "santiago": "America/Santiago",
    "st john's": "America/St_Johns",
    "honolulu": "Pacific/Honolulu",
    "nowhere": "",
}
NOON = 12
"""The preferred hour of whoever has opened nothing yet."""
RULES = (
    ("weekly, in the gap and the overlap of Berlin", "Europe/Berlin", "FREQ=WEEKLY;BYDAY=SU", "T02:30", {}),
    ("daily around half-hour changes", "Australia/Lord_Howe", "FREQ=DAILY;BYMONTH=4,10", "T02:15", {}),
    ("last of the month", "America/New_York", "FREQ=MONTHLY;BYMONTHDAY=-1", "T18:00", {}),
    ("leap day", "Asia/Tokyo", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "T08:00", {}),
    ("second Tuesday", "America/Santiago", "FREQ=MONTHLY;BYDAY=2TU", "T00:00", {}),
    ("weekdays for a while", "Europe/London", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR", "T07:45", {"count": 30}),
    ("every ninety minutes of a day", "UTC", "FREQ=MINUTELY;INTERVAL=90", "T00:00", {"count": 16}),
)
CRONS = (
    ("sundays by cron", "America/Santiago", "30 0 * * 0", "FREQ=WEEKLY;BYDAY=SU;BYHOUR=0"),
    ("quarters by cron", "Pacific/Chatham", "0 9 1 */3 *", "FREQ=MONTHLY;BYMONTH=1,4,7,10;BYMONTHDAY=1;BYHOUR=9"),
)
BY_PHONES = (
    ("local", "monthly by each clock", "FREQ=MONTHLY;BYMONTHDAY=1", "T09:00", None),
    ("local", "through a change of clocks", "FREQ=DAILY;BYMONTH=3;BYMONTHDAY=26,27,28", "T02:30", None),
    ("intelligent", "monthly at each one's hour", "FREQ=MONTHLY;BYMONTHDAY=15", "T00:00", NOON),
)


class Plan:
    """What is asked for in so many days from a midnight on, and when the almanac has it go out."""

    def __init__(self, dice, begin, days):
        self.dice = dice
        self.begin = datetime.fromisoformat(begin).replace(tzinfo=UTC, second=30).timestamp()
        self.end = self.begin + days * DAY
        self.tomorrow = (datetime.fromisoformat(begin) + timedelta(days=1)).date().isoformat()
        self.last = int(self.end - self.begin) - 3 * DAY
        """Seconds from the begin, after which nothing new begins that would last beyond the end."""

    def entries(self):
        found = [*self._periods(), *self._rules(), *self._by_phones(), *self._once(), *self._past()]
        assert len({entry.title for entry in found}) == len(found)
        return found

    def _periods(self):
        for every_s, name in ((7 * DAY, "week"), (30 * DAY, "thirty days"), (31_557_600, "year")):
            start = self.begin + 3_570
            body = _recurring("utc", every_s=every_s, starts_at=start)
            yield Entry(f"every {name}", body, periods(self.begin, self.end, every_s=every_s, start=start))

    def _rules(self):
        for title, zone, rule, time, more in RULES:
            start = self.tomorrow + time
            walls = self._instants(rule, zone, start, more.get("count"))
            yield Entry(title, _recurring("timezone", zone, rrule=rule, starts_at=start, **more), walls)
        for title, zone, cron, rule in CRONS:
            start = f"{self.tomorrow}T00:00"
            walls = self._instants(f"{rule};BYMINUTE={cron.split()[0]}", zone, start)
            yield Entry(title, _recurring("timezone", zone, cron=cron, starts_at=start), walls)

    def _instants(self, rule, zone, start, count=None):
        start = datetime.fromisoformat(start)
        return instants(self.begin, self.end, rule=rule, zone=zone, start=start, count=count)

    def _by_phones(self):
        for strategy, title, rule, time, hour in BY_PHONES:
            start = datetime.fromisoformat(self.tomorrow + time)
            until = datetime.fromtimestamp(self.begin + self.last, UTC).replace(tzinfo=None)
            walls = rrulestr(rule, dtstart=start).between(start - timedelta(seconds=1), until)
            times = by_phones(self.begin, self.end, walls, PHONES, APP_ZONE, hour)
            recurrence = {"rrule": rule, "starts_at": start.isoformat(), "ends_at": until.isoformat()}
            yield Entry(title, _recurring(strategy, **recurrence), times, by_phone=True)

    def _once(self):
        week = 7 * DAY
        for number in range(8):
            at = self._moment()
            yield Entry(f"once {number}", _once("utc", at), [at], within_s=week)
        for number, zone in enumerate(("Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe")):
            wall = self._wall()
            body = _once("timezone", wall.isoformat(), time_zone=zone)
            yield Entry(f"once by a zone {number}", body, [instant(wall, zone)], within_s=week)
        for number in range(4):
            wall = self._wall()
            times = by_phones(self.begin, self.end, [wall], PHONES, APP_ZONE)
            body = _once("local", wall.isoformat())
            yield Entry(f"once by each clock {number}", body, times, by_phone=True, within_s=week)
        for number in range(2):
            day = self._wall().replace(hour=0, minute=0)
            times = by_phones(self.begin, self.end, [day], PHONES, APP_ZONE, NOON)
            body = _once("intelligent", day.date().isoformat())
            yield Entry(f"once at each one's hour {number}", body, times, by_phone=True, within_s=week)
        at = self._moment()
        body = _once("utc", at) | {"release_window_minutes": 60}
        yield Entry("once in a window", body, [at], within_s=week, window=60)

    def _past(self):
        """Two hours ago, by the minute."""
        at = (self.begin - 7_200) // 60 * 60
        wall = datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat()
        yield Entry("past, and tomorrow's", _once("utc", wall, past_times="next_day"), [at + DAY])
        yield Entry("past, and nobody's", _once("utc", at), [])

    def _moment(self):
        return self.begin + self.dice.randrange(2 * DAY, self.last)

    def _wall(self):
        return datetime.fromtimestamp(self._moment() // 60 * 60, UTC).replace(tzinfo=None)


def _recurring(strategy, zone=None, **recurrence):
    named = {"time_zone": zone} if zone else {}
    return {"schedule": {"strategy": strategy, "past_times": "ignore", "recurrence": recurrence, **named}}


def _once(strategy, send_at, **more):
    return {"schedule": {"strategy": strategy, "send_at": send_at, "past_times": "ignore", **more}}


# What happens meanwhile -----------------------------------------------------------------------------------------------


class Year:
    """The clock goes from one instant of the almanac to the next, and at some of them something happens."""

    def __init__(self, here, known, dice, crashes):
        self.here, self.known, self.dice = here, known, dice
        (self.daemon,) = here.daemons
        self.agenda = sorted({at for entry in known for at in instants_of(entry)})
        self.happens = dict.fromkeys(dice.sample(self.agenda[1:], crashes))
        point = self.killed_at_a_point
        kinds = [self.killed_soon, point, self.away, point, self.set_back, self.stopped]
        for number, at in enumerate(sorted(self.happens)):
            self.happens[at] = kinds[number % len(kinds)]
        self.left = [*self.agenda]
        self.downtimes = []
        """(the last moment in which it was there, the first in which it was again)"""
        self.points = list(SCHEDULING)
        dice.shuffle(self.points)

    async def go_by(self):
        while self.left:
            at = heappop(self.left)
            if at < self.here.clock.now():
                continue  # it was away then
            await (self.happens.pop(at, None) or self.goes_on)(at)
            await self.here.quiet()

    async def goes_on(self, at):
        self.here.clock.set(at)

    async def killed_soon(self, at):
        self.here.clock.set(at)
        await asyncio.sleep(self.dice.uniform(0, 0.06))
        await self.here.kill(self.daemon)
        self.here.armed = None
        await self.here.start(self.daemon)

    async def killed_at_a_point(self, at):
        """It kills itself at a point on the way: now, or at the next time that comes to it."""
        point = self.points.pop() if self.points else self.dice.choice(list(SCHEDULING))
        await self.here.kill(self.daemon)
        await self.here.start(self.daemon, point=f"{point}:1")
        self.here.armed = self.daemon
        self.here.clock.set(at)

    async def stopped(self, at):
        self.here.armed = None
        assert await self.daemon.terminate() == 0
        self.here.clock.set(at)
        await self.here.start(self.daemon)

    async def away(self, at):
        """Nobody is there for some hours."""
        before = self.here.clock.now()
        self.here.armed = None
        await self.here.kill(self.daemon)
        until = at + self.dice.choice([30, 1_800, 5 * 3_600, 30 * 3_600])
        self.here.clock.set(until)
        self.downtimes.append((before, until))
        for entry in self.known:  # a window that was missed begins then
            for minute in batches(entry):
                heappush(self.left, until + 60 * minute)
        await self.here.start(self.daemon)

    async def set_back(self, at):
        """Somebody sets the clock back and forward again."""
        self.here.clock.set(at)
        await self.here.quiet()
        self.here.clock.set(at - 26 * 3_600)
        await asyncio.sleep(0.1)
        await self.here.quiet()
        self.here.clock.set(at)


def instants_of(entry):
    """Every instant at which something of an entry is due."""
    if entry.by_phone:
        return [at for _, _, at in entry.times]
    return [at + 60 * minute for at in entry.times for minute in (0, *batches(entry))]


def batches(entry):
    """In which minutes of its window the phones get an entry, in their order; none without a window."""
    count, phones = entry.window, len(PHONES)
    return [each for each in range(count) if each * phones // count < (each + 1) * phones // count]


def expected(entry, downtimes):
    """(phone, instant) of every push that the almanac expects, given when nobody was there."""
    if entry.by_phone:
        late = [(phone, at, _when(at, downtimes)) for _, phone, at in entry.times]
        return [(phone, when) for phone, at, when in late if when - at <= max(60, entry.within_s)]
    found = []
    for at in _sent(entry, downtimes):
        minutes = batches(entry) or [0] * len(PHONES)
        found += [(phone, _when(at + 60 * minute, downtimes)) for phone, minute in zip(PHONES, minutes, strict=True)]
    return found


def _when(at, downtimes):
    """When what is due at an instant goes out."""
    return next((up for down, up in downtimes if down < at <= up), at)


def _sent(entry, downtimes):
    """When the occurrences of an entry go out: of those that were missed the last one, where it is not too late."""
    missed, found = defaultdict(list), []
    for at in entry.times:
        up = _when(at, downtimes)
        if up - at <= 60:
            found.append(at if entry.window else up)
        else:
            missed[up].append(at)
    for up, times in missed.items():
        on_time = any(up - 60 <= each <= up for each in entry.times)
        if not on_time and up - times[-1] <= entry.within_s:
            found.append(up)
    return sorted(found)


def check(here, known, downtimes):
    """Fails unless what arrived is what the almanac says, each once; what a kill left unsettled may come twice."""
    arrived = here.by_title()
    twice = 0
    for entry in known:
        first = {}
        for each in arrived.pop(entry.title, []):
            first.setdefault((each.phone, each.notification), each.at)
        got = sorted((phone, round(at, 3)) for (phone, _), at in first.items())
        wanted = sorted((phone, round(at, 3)) for phone, at in expected(entry, downtimes))
        assert got == wanted, f"{entry.title}: {_difference(got, wanted)}"
        twice += len(first)
        notifications = {notification for _, notification in first}
        occurrences = {wall for wall, _, _ in entry.times} if entry.by_phone else set(_sent(entry, downtimes))
        assert len(notifications) <= len(occurrences), f"{entry.title}: {len(notifications)} notifications"
    assert not arrived, f"nobody asked for {sorted(arrived)}"
    repeated = len(here.arrivals) - twice
    assert repeated <= here.kills * len(PHONES) * 4
    return repeated


def _difference(got, wanted):
    text = [f"{phone} at {datetime.fromtimestamp(at, UTC)}" for phone, at in sorted(set(got) - set(wanted))[:5]]
    missing = [f"{phone} at {datetime.fromtimestamp(at, UTC)}" for phone, at in sorted(set(wanted) - set(got))[:5]]
    return f"not expected: {text}; missing: {missing}; {len(got)} of {len(wanted)}"


async def live_through(days, crashes, seed, begin=BEGIN):
    """Lets so many days of mixed schedules go by, with so many mishaps; what came of it."""
    dice, begun = random.Random(seed), perf_counter()
    plan = Plan(dice, begin, days)
    known = plan.entries()
    async with earth(PHONES, plan.begin) as here:
        for entry in known:
            await here.send(entry.title, **entry.body)
        year = Year(here, known, dice, crashes)
        await year.go_by()
        here.clock.set(max(here.clock.now(), plan.end))
        await here.quiet()
        repeated = check(here, known, year.downtimes)
        return {
            "seed": seed,
            "days": days,
            "schedules": len(known),
            "instants": len(year.agenda),
            "kills": here.kills,
            "points_left": year.points,
            "hours_away": round(sum(up - down for down, up in year.downtimes) / 3_600, 1),
            "pushes": len(here.arrivals),
            "repeated": repeated,
            "seconds": round(perf_counter() - begun, 1),
        }


def main():
    """Runs it from the command line."""
    parser = arguments("year", __doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--crashes", type=int, default=40)
    given = parser.parse_args()
    return tell(
        "year",
        given,
        "what went out is what the almanac says, each once, through everything that happens to the daemon",
        lambda seed: live_through(given.days, given.crashes, seed),
    )


if __name__ == "__main__":
    sys.exit(main())
