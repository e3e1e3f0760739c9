"""When a message of Kumulos's goes out: its schedule, at the time that people prefer, and over how many minutes."""

from __future__ import annotations

import re
from typing import Any

from pushd.dialects.kumulos.fields import Fields
from pushd.model.schedule import PastTimes, Schedule, Strategy, as_date, as_wall
from pushd.model.time_zones import is_time_zone

STRATEGIES = {
    "utc": Strategy.UTC,
    "local": Strategy.LOCAL,
    "timezone": Strategy.TIMEZONE,
    "intelligent": Strategy.INTELLIGENT,
}
PAST_TIMES = {"ignore": PastTimes.IGNORE, "nextDay": PastTimes.NEXT_DAY}
WINDOW_MINUTES = (60, 1_440)
_FIELDS = frozenset(("schedule", "intelligentDelivery", "releaseWindowMinutes"))
_MINUTE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d", re.ASCII)


def times_of(given: Fields) -> dict[str, Any]:
    """What a send says of its time; its faults are noted there."""
    if _FIELDS.isdisjoint(given.given):
        return {}
    schedule = _schedule(given.within("schedule"))
    intelligent = bool(given.truth("intelligentDelivery"))
    if intelligent and "schedule" in given:
        given.bad("intelligentDelivery", "cannot stand beside schedule")
    return {
        "schedule": schedule,
        "intelligent_delivery": intelligent,
        "release_window_minutes": given.number("releaseWindowMinutes", *WINDOW_MINUTES),
    }


def _schedule(given: Fields | None) -> Schedule | None:
    if given is None:
        return None
    strategy = given.choice("strategy", STRATEGIES, required=True)
    past_times = given.choice("pastTimes", PAST_TIMES, required=True)
    send_at = given.text("sendAt", required=True)
    zone = given.text("timezone", 64)
    if strategy is Strategy.INTELLIGENT:
        if send_at is not None and as_date(send_at) is None:
            given.bad("sendAt", "is not a day as Y-m-d")
    elif send_at is not None and (not _MINUTE.fullmatch(send_at) or as_wall(send_at) is None):
        given.bad("sendAt", "is not a time as Y-m-d H:i")
    if strategy is Strategy.TIMEZONE and (zone is None or not is_time_zone(zone)):
        given.bad("timezone", "is not a name of the IANA time zone database")
    return Schedule(
        strategy=strategy,
        send_at=send_at,
        past_times=past_times,
        time_zone=zone if strategy is Strategy.TIMEZONE else None,
    )
