"""When a send is due: the instant at which it is planned for the first time, and from which one on it goes on."""

from __future__ import annotations

from datetime import datetime, time

from msgspec.structs import replace

from pushd.errors import Fault, InvalidRequestError
from pushd.model.notification import Send
from pushd.model.schedule import Schedule, Strategy, as_date, as_wall
from pushd.scheduler import zones
from pushd.scheduler.recurrence import EAST_S, GRACE_S, WEST_S, Occurrences, prepare
from pushd.scheduler.releases import plan
from pushd.store.accepts import Due

DAY_S = 86_400


def is_timed(send: Send) -> bool:
    """Whether a send says anything of its time that keeps it from going out at once, and whole."""
    schedule = send.schedule
    return (
        (schedule is not None and schedule.strategy is not Strategy.IMMEDIATE)
        or send.release_window_minutes is not None
        or send.intelligent_delivery
    )


def recurs(send: Send) -> bool:
    """Whether a send has occurrences rather than one time."""
    return send.schedule is not None and send.schedule.recurrence is not None


def first(send: Send, *, accepted_at: float, app_zone: str, occurred: int = 0, pointer: str = "") -> Due:
    """When a send that was checked, and accepted at an instant, is to be planned for the first time.

    What recurs goes on from there, `occurred` occurrences having been. InvalidRequestError where its rule is none, or
    nothing occurs from now on.
    """
    schedule = send.schedule
    if schedule is None or schedule.strategy in {None, Strategy.IMMEDIATE}:
        return Due(accepted_at, accepted_at)
    if schedule.recurrence is not None:
        at = f"{pointer}/schedule"
        ready = prepare(schedule, accepted_at=accepted_at, app_zone=app_zone, pointer=at)
        due = following(ready, None, now=accepted_at, occurred=occurred)
        if due is None:
            detail = f"has come to its end: there have been {occurred} occurrences"
            raise InvalidRequestError("The recurrence is over", faults=[Fault(f"{at}/recurrence", detail)])
        return due
    if (nominal := _by_device(schedule)) is not None:
        return Due(max(accepted_at, nominal - EAST_S), nominal)
    found = plan(schedule, names=(), app_zone=app_zone, now=accepted_at)
    instant = found.releases[0].at if found.releases else accepted_at
    return Due(instant, instant)


def begun(send: Send, *, accepted_at: float, app_zone: str) -> Send:
    """The send with the start that its recurrence leaves open said in it: so it stays what it is.

    What a rule takes from its start would else change with the app's time zone.
    """
    schedule = send.schedule
    if schedule is None or schedule.recurrence is None or schedule.recurrence.starts_at is not None:
        return send
    now = -(-accepted_at // 1)
    by_device = schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}
    starts_at = zones.shown(now, zones.zone(app_zone)).isoformat() if by_device else now
    recurrence = replace(schedule.recurrence, starts_at=starts_at)
    return replace(send, schedule=replace(schedule, recurrence=recurrence))


def following(ready: Occurrences, last: float | None, *, now: float, occurred: int) -> Due | None:
    """The first occurrence after `last`, whose fate is settled, that is still to come; None: there is none left.

    The running minute's counts as to come; where devices go by their own clocks, one that is still to come somewhere.
    """
    behind = {Strategy.LOCAL: WEST_S, Strategy.INTELLIGENT: WEST_S + DAY_S}.get(ready.strategy, 0)
    passed = now - behind - GRACE_S - 1
    found = ready.after(passed if last is None else max(last, passed), occurred)
    return None if found is None else Due(max(now, ready.due(found)), found)


def _by_device(schedule: Schedule) -> float | None:
    """The wall time, or the midnight of the day, of a schedule by the clocks of devices, as if they were UTC's."""
    if schedule.send_at is None:
        return None
    wall: datetime | None = None
    if schedule.strategy is Strategy.LOCAL:
        wall = as_wall(schedule.send_at)
    elif schedule.strategy is Strategy.INTELLIGENT:
        day = as_date(schedule.send_at)
        wall = None if day is None else datetime.combine(day, time())
    return None if wall is None else zones.instant(wall, zones.zone("UTC"))


def as_said(strategy: Strategy, occurrence: float) -> float | str:
    """An occurrence as people are told of it: UNIX seconds; where devices go by their own clocks, wall time or day."""
    if strategy is Strategy.LOCAL:
        return zones.utc_wall(occurrence).isoformat()
    if strategy is Strategy.INTELLIGENT:
        return zones.utc_wall(occurrence).date().isoformat()
    return occurrence
