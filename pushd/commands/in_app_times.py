"""When an in-app message is released: its time as that of a send, and whether it has one at all."""

from __future__ import annotations

import msgspec

from pushd.errors import Fault, InvalidRequestError
from pushd.model.in_app import NewInApp
from pushd.model.notification import Send
from pushd.model.schedule import PastTimes, Schedule, Strategy, check
from pushd.scheduler.due import is_timed


def timed(wanted: NewInApp, now: float) -> Send | None:
    """The send that says when it is released and to whom; None: at once. InvalidRequestError.

    Its message is empty: what it says is kept beside it.
    """
    faults = check(wanted.when)
    if wanted.send_at is not None and (wanted.schedule is not None or wanted.intelligent_delivery):
        faults.append(Fault("/send_at", "excludes `schedule` and `intelligent_delivery`: say one of them"))
    if faults:
        raise InvalidRequestError("The schedule is not valid", faults=faults)
    schedule = wanted.schedule
    if wanted.send_at is not None and wanted.send_at > now:
        schedule = Schedule(strategy=Strategy.UTC, send_at=wanted.send_at, past_times=PastTimes.IGNORE)
    send = Send(
        audience=wanted.audience,
        name=wanted.name,
        **{field: value for field, value in msgspec.structs.asdict(wanted.when).items() if field != "schedule"},
        schedule=schedule,
    )
    return send if is_timed(send) else None
