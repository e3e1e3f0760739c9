"""When an in-app message is released: the instant that its schedule names, and what a schedule of one may not say."""

from __future__ import annotations

from typing import Final

from pushd.errors import Fault, InvalidRequestError
from pushd.model.in_app import NewInApp
from pushd.model.schedule import Strategy, When, check
from pushd.scheduler.releases import plan

PASSED: Final = 0.0
"""The instant of a message whose time had passed when it was accepted, and that says to ignore that: nobody gets it."""


def release_time(wanted: NewInApp, app_zone: str, now: float) -> float | None:
    """UNIX seconds at which it is released; None: at once; `PASSED`: its time is over. InvalidRequestError."""
    schedule = wanted.schedule
    if schedule is None:
        return wanted.send_at or None
    faults = check(When(schedule=schedule))
    if wanted.send_at is not None:
        faults.append(Fault("/send_at", "excludes `schedule`: say one or the other"))
    if schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}:
        faults.append(Fault("/schedule/strategy", "goes by devices, and in-app messages have one instant for all"))
    if schedule.recurrence is not None:
        faults.append(Fault("/schedule/recurrence", "is for notifications: an in-app message is released once"))
    if faults:
        raise InvalidRequestError("The schedule is not valid", faults=faults)
    found = plan(schedule, names=(), app_zone=app_zone, now=now)
    return found.releases[0].at if found.releases else PASSED
