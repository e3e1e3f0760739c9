"""When a send goes out, as options of commands say it: at a time, by the clocks of devices, or again and again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pushd.cli.options import Options

_SECONDS = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Time(Options):
    """The options that say a time; each field is one."""

    at: Annotated[
        str | None,
        typer.Option(help="UNIX seconds, a time with its offset, or a wall time of --time-zone, else of UTC."),
    ] = None
    time_zone: Annotated[
        str | None, typer.Option(help="IANA name: whose wall time --at, --rrule and --cron speak of.")
    ] = None
    local: Annotated[
        str | None, typer.Option(help="A wall time, 2026-11-25T09:00: for each device by its own clock.")
    ] = None
    day: Annotated[str | None, typer.Option(help="A day, 2026-11-25: for each user at his preferred hour.")] = None
    preferred_hour: Annotated[
        bool, typer.Option("--preferred-hour", help="As soon as possible at each user's preferred hour.")
    ] = False
    rrule: Annotated[
        str | None, typer.Option(help="Again and again, by a rule of RFC 5545: FREQ=WEEKLY;BYDAY=MO,TH.")
    ] = None
    cron: Annotated[str | None, typer.Option(help="Again and again, by a cron expression: 0 9 * * 1.")] = None
    every: Annotated[int | None, typer.Option(help="Again and again, every so many seconds.")] = None
    each_local: Annotated[
        bool, typer.Option("--each-local", help="--rrule and --cron go by each device's own clock.")
    ] = False
    starts: Annotated[str | None, typer.Option(help="Nothing occurs before; a time as --at takes it.")] = None
    ends: Annotated[str | None, typer.Option(help="Nothing occurs after.")] = None
    count: Annotated[int | None, typer.Option(help="It ends after so many occurrences.")] = None
    next_day: Annotated[
        bool, typer.Option("--next-day", help="Who has had that time already gets it tomorrow, not never.")
    ] = False
    window: Annotated[
        int | None, typer.Option(help="In equal batches, one a minute, over so many minutes: 60 to 1440.")
    ] = None

    def said(self) -> dict[str, Any]:
        """What it adds to the body of a send; nothing where that goes out at once. BadParameter."""
        body: dict[str, Any] = {} if self.window is None else {"release_window_minutes": self.window}
        if self.preferred_hour:
            body["intelligent_delivery"] = True
        times = [each for each in (self.at, self.local, self.day) if each is not None]
        pattern = _given(rrule=self.rrule, cron=self.cron, every_s=self.every)
        bounds = _given(starts_at=_time(self.starts), ends_at=_time(self.ends), count=self.count)
        if len(times) + len(pattern) > 1:
            raise typer.BadParameter("say one of --at, --local, --day, --rrule, --cron and --every")
        if not pattern and (bounds or self.each_local):
            raise typer.BadParameter("--starts, --ends, --count and --each-local belong to --rrule, --cron or --every")
        if times or pattern:
            schedule = self._whose() | {"past_times": "next_day" if self.next_day else "ignore"}
            schedule |= {"recurrence": pattern | bounds} if pattern else {"send_at": _time(times[0])}
            body["schedule"] = schedule
        elif self.time_zone is not None or self.next_day:
            raise typer.BadParameter("--time-zone and --next-day belong to a time")
        return body

    @property
    def recurs(self) -> bool:
        """Whether it is said to come again and again."""
        return (self.rrule, self.cron, self.every) != (None, None, None)

    def _whose(self) -> dict[str, Any]:
        if self.local is not None or self.each_local:
            return {"strategy": "local"}
        if self.day is not None:
            return {"strategy": "intelligent"}
        return {"strategy": "utc"} if self.time_zone is None else {"strategy": "timezone", "time_zone": self.time_zone}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _time(text: str | None) -> float | str | None:
    """UNIX seconds where a text is digits; else it speaks for itself."""
    return float(text) if text is not None and _SECONDS.fullmatch(text) else text
