"""Reports: what came of notifications, of one in full or of many by their push tags, and who opened them when first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pushd.bitset import Devices
from pushd.commands import progress
from pushd.commands.context import Context
from pushd.errors import Fault, InvalidRequestError, NotFoundError, UnavailableError
from pushd.model.notification import Ledger, NotificationView
from pushd.model.receipt import OPENING, Event
from pushd.model.report import (
    ButtonFigures,
    EventFigures,
    FirstOpens,
    InstallOpen,
    PushTag,
    Report,
    Series,
    SeriesPoint,
    TagFigures,
    UserOpen,
)
from pushd.reports.figures import by_gateway, by_platform, in_words, rate, status
from pushd.store.past import EventCount, Sent
from pushd.store.reports import ButtonCount, Window

BUTTONS_MAX = 100
"""Of a report: names come from devices, and anybody may have a device."""
POINTS_MAX = 10_000
"""Steps of a series."""
TAGS_MAX = 20
"""Push tags of one comparison."""
NOTHING = EventCount(0, 0, 0)
RECEIVED = frozenset(Event)
"""Whatever is reported of it, it had to reach the device first."""
COMPARED = {
    "received": RECEIVED,
    "opened": OPENING,
    "clicked": frozenset({Event.CLICKED}),
    "closed": frozenset({Event.DISMISSED}),
}
"""Columns of a comparison, and the events that count in each."""


async def report(context: Context, app_id: int, notification_id: int) -> Report:
    """What came of a notification so far. NotFoundError; UnavailableError when it takes too long to read now."""
    view = await progress.get(context, app_id, notification_id)
    sent = await context.store.past.sent(app_id, notification_id)
    async with deadline(context):
        if sent is None:  # its time has not come
            return _report(context, app_id, view, _Read())
        return _report(context, app_id, view, await _read(context, sent))


async def series(
    context: Context, app_id: int, notification_id: int, *, step_s: int, since: float | None, until: float | None
) -> Series:
    """What was reported of a notification, by time. NotFoundError, InvalidRequestError, UnavailableError."""
    sent = await sent_of(context, app_id, notification_id)
    begin = sent.created_at.timestamp() if since is None else since
    end = context.clock.now() if until is None else until
    if end <= begin:
        raise InvalidRequestError(faults=[Fault("until", "is not after `since`")])
    if (end - begin) / step_s > POINTS_MAX:
        raise InvalidRequestError(faults=[Fault("step", f"cuts the time into more than {POINTS_MAX:,} steps")])
    window = Window(begin, end, step_s)
    reader = context.store.reports
    async with deadline(context):
        points, firsts = await asyncio.gather(reader.series(sent, window), reader.first_opens(sent, window))
    return Series(
        notification_id=notification_id,
        step_s=step_s,
        since=begin,
        until=end,
        points=[SeriesPoint(start=start, event=event, total=total) for start, event, total in points],
        first_opens=[FirstOpens(start=start, installs=installs) for start, installs in firsts],
    )


async def install_opens(
    context: Context, app_id: int, notification_id: int, *, after: int, limit: int
) -> tuple[list[InstallOpen], list[int]]:
    """Installs that opened a notification, from a position on, and all positions looked at. NotFoundError."""
    sent = await sent_of(context, app_id, notification_id)
    found = await context.store.past.install_opens(sent, after, limit)
    opens = [InstallOpen(install_id=each.name, opened_at=each.at) for each in found if each.name is not None]
    return opens, [each.position for each in found]


async def user_opens(
    context: Context, app_id: int, notification_id: int, *, after: int, limit: int
) -> tuple[list[UserOpen], list[int]]:
    """Users that opened a notification, from a position on, and all positions looked at. NotFoundError."""
    sent = await sent_of(context, app_id, notification_id)
    found = await context.store.past.user_opens(sent, after, limit)
    opens = [UserOpen(user_id=each.name, opened_at=each.at) for each in found if each.name is not None]
    return opens, [each.position for each in found]


async def push_tags(
    context: Context, app_id: int, *, since: float, until: float, after: str, limit: int
) -> list[PushTag]:
    """Push tags above `after`, ascending, of what was sent in a span of time."""
    return [
        PushTag(push_tag=each.tag, notifications=each.notifications, first_at=each.first_at, last_at=each.last_at)
        for each in await context.store.reports.tags(app_id, since, until, after, limit)
    ]


async def compare(
    context: Context, app_id: int, tags: Sequence[str], *, since: float, until: float, newest: int
) -> list[TagFigures]:
    """What came of the newest notifications under each of these tags, in their order. UnavailableError."""
    async with deadline(context):
        return [await _compared(context, app_id, tag, since, until, newest) for tag in dict.fromkeys(tags)]


async def sent_of(context: Context, app_id: int, notification_id: int) -> Sent:
    """The notification as the past knows it; NotFoundError."""
    sent = await context.store.past.sent(app_id, notification_id)
    if sent is None:
        raise NotFoundError("There is no such notification")
    return sent


@asynccontextmanager
async def deadline(context: Context) -> AsyncIterator[None]:
    """A block that ends in time; UnavailableError where it does not."""
    config = context.config.store
    try:
        async with asyncio.timeout(config.report_timeout_s):
            yield
    except TimeoutError:
        detail = "The report takes too long to read now"
        raise UnavailableError(detail, retry_after_s=config.retry_after_s) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What was read of a notification that went out, or nothing of one that has not."""

    targets: Devices = field(default_factory=Devices)
    opened: Devices = field(default_factory=Devices)
    clicked: Devices = field(default_factory=Devices)
    events: Mapping[Event, EventCount] = field(default_factory=dict)
    opens: EventCount = NOTHING
    reached: EventCount = NOTHING
    buttons: Sequence[ButtonCount] = ()


async def _read(context: Context, sent: Sent) -> _Read:
    past, reader = context.store.past, context.store.reports
    targets, opened, clicked = await asyncio.gather(
        past.targets(sent), past.reported(sent, OPENING), past.reported(sent, [Event.CLICKED])
    )
    events, opens, reached, buttons = await asyncio.gather(
        past.counts(sent),
        reader.count(sent, OPENING),
        reader.count(sent, RECEIVED),
        reader.buttons(sent, BUTTONS_MAX),
    )
    return _Read(
        targets=targets,
        opened=opened & targets,
        clicked=clicked & targets,
        events=events,
        opens=opens,
        reached=reached,
        buttons=buttons,
    )


def _report(context: Context, app_id: int, view: NotificationView, read: _Read) -> Report:
    platforms = [context.index.holders.platforms(app_id, each) for each in (read.targets, read.opened, read.clicked)]
    totals = len(read.targets), len(read.opened), len(read.clicked)
    clicks, closed = read.events.get(Event.CLICKED, NOTHING), read.events.get(Event.DISMISSED, NOTHING)
    return Report(
        notification_id=view.id,
        name=view.name,
        push_tag=view.push_tag,
        state=view.state,
        status=status(view.state, view.counts),
        created_at=view.created_at,
        finished_at=view.finished_at,
        counts=view.counts,
        gateways=by_gateway(view.reasons),
        platforms=by_platform(platforms[0], platforms[1], platforms[2], totals),
        reasons=in_words(view.reasons, context.fanout.reasons),
        events={event: _figures(read.events.get(event, NOTHING)) for event in Event},
        opens=_figures(read.opens),
        buttons=[ButtonFigures(button=each.button, total=each.total, installs=each.installs) for each in read.buttons],
        open_rate=rate(read.opens.installs, view.counts.accepted),
        click_rate=rate(clicks.installs, view.counts.accepted),
        sent=view.counts.accepted,
        received=read.reached.installs,
        clicked=clicks.installs,
        closed=closed.installs,
    )


def _figures(count: EventCount) -> EventFigures:
    return EventFigures(total=count.total, installs=count.installs, users=count.users)


async def _compared(context: Context, app_id: int, tag: str, since: float, until: float, newest: int) -> TagFigures:
    numbers = await context.store.reports.tagged(app_id, since, until, tag, newest)
    ledgers: list[Ledger] = []
    reported = dict.fromkeys(COMPARED, 0)
    for number in numbers:
        view = await progress.get(context, app_id, number)
        sent = await sent_of(context, app_id, number)
        ledgers.append(view.counts)
        targets = await context.store.past.targets(sent)
        for name, events in COMPARED.items():
            reported[name] += len(await context.store.past.reported(sent, events) & targets)
    columns = {column: sum(getattr(each, column) for each in ledgers) for column in Ledger.__struct_fields__}
    return TagFigures(
        push_tag=tag,
        notifications=len(numbers),
        open_rate=rate(reported["opened"], columns["accepted"]),
        click_rate=rate(reported["clicked"], columns["accepted"]),
        **columns,
        **reported,
    )
