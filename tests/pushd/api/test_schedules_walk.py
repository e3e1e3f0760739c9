"""Times of every sort, sensible and not, over HTTP: kept and shown, or refused at their fields; never anything else."""

import random

import pytest
import pytest_asyncio

from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEPS = 150
BODY = {"audience": {"type": "broadcast"}, "message": {"title": "x"}}
TIMES = (
    *(0, -1, 5, 2_000_000_000, 32_503_679_999, 32_503_679_999.9, 1e12, "", "x", "2999-12-31T23:59:59"),
    *("2027-11-25T09:00", "1970-01-01T00:00", "0001-01-01T00:00", "9999-12-31T23:59:59", "2027-11-25"),
    *("2027-11-25T09:00:00Z", "2027-11-25T09:00:00+14:00", "1970-01-01T00:00:00+14:00", "2027-02-30T00:00"),
)
FITTING = {
    "utc": (2_000_000_000, "2027-11-25T09:00:00Z", "2027-11-25T09:00"),
    "timezone": ("2027-11-25T09:00", "1999-12-31T23:59:59"),
    "local": ("2027-11-25T09:00", "1970-01-01T00:00"),
    "intelligent": ("2027-11-25", "2001-01-01"),
}
RULE_PARTS = {
    "INTERVAL": ("1", "2", "100000", "0"),
    "COUNT": ("1", "3", "1000000000", "0"),
    "UNTIL": ("20500101", "20500101T000000Z", "19700101", "99991231T235959"),
    "BYMONTH": ("2", "1,12", "13"),
    "BYMONTHDAY": ("29", "-1", "31,30", "0"),
    "BYDAY": ("MO", "5MO", "-1SU", "53TH", "XX"),
    "BYHOUR": ("0", "2,3", "24"),
    "BYMINUTE": ("0", "30"),
    "BYSETPOS": ("1", "-1", "366"),
    "BYWEEKNO": ("53", "-53"),
    "BYYEARDAY": ("366", "-366"),
}
CRONS = ("0 9 * * *", "*/5 * * * *", "@daily", "0 0 29 2 *", "0 0 30 2 *", "* * * * * *", "0 0 L * *", "0 0 * * 5#3")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


def rule(dice: random.Random) -> str:
    frequency = dice.choice(("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"))
    parts = [f"{name}={dice.choice(values)}" for name, values in RULE_PARTS.items() if dice.random() < 0.2]
    return ";".join([f"FREQ={frequency}", *parts])


def moment(dice: random.Random, strategy: str) -> object:
    return dice.choice(FITTING.get(strategy, TIMES) if dice.random() < 0.7 else TIMES)


def recurrence(dice: random.Random, strategy: str) -> dict:
    pattern = dice.choice(("every_s", "rrule", "cron"))
    found = {pattern: {"every_s": dice.choice((59, 60, 86_400, 3_155_760_000)), "rrule": rule(dice)}.get(pattern)}
    if pattern == "cron":
        found["cron"] = dice.choice(CRONS)
    for name, chance in (("starts_at", 0.5), ("ends_at", 0.3)):
        if dice.random() < chance:
            found[name] = moment(dice, "local" if strategy == "intelligent" else strategy)
    if dice.random() < 0.3:
        found["count"] = dice.choice((1, 5, 1_000_000_000))
    if dice.random() < 0.2:
        found["time_zone"] = dice.choice(("Europe/Berlin", "UTC"))
    return found


def schedule(dice: random.Random) -> dict:
    found = {"strategy": dice.choice(("immediate", "utc", "timezone", "local", "intelligent"))}
    if dice.random() < 0.95:
        found["past_times"] = dice.choice(("ignore", "next_day"))
    if dice.random() < 0.1 or found["strategy"] == "timezone":
        found["time_zone"] = dice.choice(("Europe/Berlin", "Pacific/Apia", "Mars", "America/St_Johns"))
    if dice.random() < 0.5:
        found["recurrence"] = recurrence(dice, found["strategy"])
    else:
        found["send_at"] = moment(dice, found["strategy"])
    if dice.random() < 0.2:
        found["missed"] = dice.choice(({"type": "skip"}, {"type": "run"}, {"type": "run", "within_s": 604_800}))
    return found


async def seen(call, number: int) -> None:
    """It is there in every view, and something of it is to come."""
    shown = await call("GET", f"/schedules/{number}")
    assert (shown.status, bool(shown.body["next"])) == (200, True), shown.body
    view = await call("GET", f"/notifications/{number}")
    assert (view.status, view.body["state"]) == (200, "scheduled"), view.body


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_is_said_of_a_time_is_kept_or_refused_at_its_field(call, seed):
    dice, kept, refused = random.Random(seed), [], 0
    for _ in range(STEPS):
        said = {"schedule": schedule(dice)}
        if dice.random() < 0.1:
            said["release_window_minutes"] = dice.choice((59, 60, 1440))
        if kept and dice.random() < 0.4:
            if dice.random() < 0.5:
                said["active"] = dice.random() < 0.5
            answer = await call("PATCH", f"/schedules/{dice.choice(kept)}", json=said)
        else:
            answer = await call("POST", "/notifications", json=BODY | said)
        assert answer.status in {200, 202, 400, 409}, (answer.body, said)
        if answer.status == 400:
            refused += 1
            assert all(each.startswith(("/schedule", "/release_window_minutes")) for each in answer.pointers), said
        elif answer.status == 202 and "next_at" in answer.body:
            kept.append(answer.body["id"])
            await seen(call, kept[-1])
    assert len(kept) > STEPS / 10
    assert refused > STEPS / 10
    listed = (await call("GET", "/schedules", params={"limit": 1000})).body["items"]
    assert set(kept) <= {each["id"] for each in listed}
