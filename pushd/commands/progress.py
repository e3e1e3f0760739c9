"""What has come of notifications so far: counts, reasons, the devices behind each outcome, a device's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from pushd.commands.context import Context
from pushd.commands.devices import get as get_device
from pushd.commands.pages import newest_first
from pushd.commands.schedules import state
from pushd.errors import NotFoundError
from pushd.fanout.campaign import tally
from pushd.model.device import GatewayName
from pushd.model.notification import Ledger, NotificationView, ReasonCount, ReleaseState, ReleaseView, Send, State
from pushd.model.scheduled import ScheduleState
from pushd.outcome import FAILED, Outcome, Reasons
from pushd.reports.words import explain
from pushd.store.notifications import Stored

if TYPE_CHECKING:
    from pushd.store.schedules import Scheduled

OutcomeName = Literal[
    "accepted",
    "failed",
    "expired",
    "cancelled",
    "suppressed",
    "pending",
    "unprocessed",
    "unavailable",
    "throttled",
    "lost",
    "unregistered",
    "rejected",
    "misconfigured",
]
"""`failed` stands for itself and the last seven."""

WINDOW, PASSED_MAX = 1_000, 10_000
"""Notifications looked at in one query, and for one page."""
_GATEWAYS = tuple(GatewayName)
_ASKED = tuple(name for name in Send.__struct_fields__ if name in NotificationView.__struct_fields__)


class OutcomeDevice(Struct, frozen=True, kw_only=True):
    """A device and what became of a notification there; while it is pending there is no gateway and no reason."""

    device_id: int
    outcome: str
    gateway: GatewayName | None = None
    reason: str | None = None


class Sending(Struct, frozen=True, kw_only=True):
    """What became of one notification on one device."""

    notification_id: int
    outcome: str
    gateway: GatewayName
    reason: str
    explanation: str
    """The reason as a sentence."""
    at: float
    """UNIX seconds."""


async def get(context: Context, app_id: int, notification_id: int) -> NotificationView:
    """The notification as it stands, live while it runs here; the schedule that it still is. NotFoundError."""
    found = await _found(context, app_id, notification_id)
    return _view(context, found) if isinstance(found, Stored) else _waiting(found)


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> tuple[list[NotificationView], bool]:
    """Notifications with ids below `before`, newest first, and whether the page was cut short by its size."""

    async def read(below: int, wanted: int) -> list[NotificationView]:
        return [_view(context, each) for each in await context.store.notifications.list(app_id, below, wanted)]

    return await newest_first(read, before, limit)


async def list_of_sort(
    context: Context, app_id: int, *, transactional: bool, before: int, limit: int
) -> tuple[list[NotificationView], int | None]:
    """Notifications of one sort with ids below `before`, newest first, and below which id to go on; None: at the end.

    What is of the other sort is passed over, only so much of it at a time: a page may be short, or empty.
    """
    store = context.store.notifications
    ids: list[int] = []
    below, seen, left = before, 0, True
    while left and len(ids) < limit and seen < PASSED_MAX:
        window = await store.sorts(app_id, below, WINDOW)
        ids += [each for each, found in window if found is transactional]
        seen, left = seen + len(window), len(window) == WINDOW
        below = window[-1][0] if window else below
    if len(ids) > limit or (len(ids) == limit and left):
        left, below = True, ids[limit - 1]

    async def read(under: int, wanted: int) -> list[NotificationView]:
        those = [each for each in ids[:limit] if each < under][:wanted]
        return [_view(context, each) for each in await store.these(app_id, those)] if those else []

    views, cut = await newest_first(read, before, limit)
    return views, views[-1].id if cut else below if left else None


async def outcome_devices(
    context: Context,
    app_id: int,
    notification_id: int,
    *,
    outcome: OutcomeName | None,
    reason: str | None,
    after: int,
    limit: int,
) -> list[OutcomeDevice]:
    """Devices with ids above `after`, ascending, where it came to this. NotFoundError."""
    if not isinstance(await _found(context, app_id, notification_id), Stored):
        return []
    if outcome == "pending":
        ids = await context.store.notifications.pending_devices(app_id, notification_id, after, limit)
        return [OutcomeDevice(device_id=device_id, outcome="pending") for device_id in ids] if reason is None else []
    tables = context.fanout.reasons
    wanted = [
        (gateway, code)
        for gateway, table in tables.items()
        for code, known in table.by_code.items()
        if known.outcome in _OUTCOMES[outcome] and reason in (None, known.name)
    ]
    found = await context.store.notifications.outcome_devices(app_id, notification_id, wanted, after, limit)
    return [
        OutcomeDevice(
            device_id=each.device_id,
            outcome=_name(tables[each.gateway].outcome(each.code)),
            gateway=_GATEWAYS[each.gateway],
            reason=tables[each.gateway].name(each.code),
        )
        for each in found
    ]


async def history(context: Context, app_id: int, device_id: int, *, limit: int) -> list[Sending]:
    """What was sent to a device, newest first. NotFoundError."""
    await get_device(context, app_id, device_id)
    tables = context.fanout.reasons
    return [
        Sending(
            notification_id=each.notification_id,
            outcome=_name(tables[each.gateway].outcome(each.code)),
            gateway=_GATEWAYS[each.gateway],
            reason=tables[each.gateway].name(each.code),
            explanation=explain(_GATEWAYS[each.gateway], tables[each.gateway], each.code),
            at=each.at,
        )
        for each in await context.store.notifications.device_history(app_id, device_id, limit)
    ]


async def releases(
    context: Context, app_id: int, notification_id: int, *, after: int, limit: int
) -> Sequence[ReleaseView]:
    """Releases of a notification that goes out by and by, numbers above `after`, ascending. NotFoundError."""
    if not isinstance(await _found(context, app_id, notification_id), Stored):
        return []
    found = await context.store.notifications.releases(app_id, notification_id, after, limit)
    return [
        ReleaseView(number=each.number, at=each.at, targeted=each.targeted, state=ReleaseState(each.state))
        for each in found
    ]


async def _found(context: Context, app_id: int, notification_id: int) -> Stored | Scheduled:
    """The notification, or the recurrence of this id. NotFoundError.

    What is sent once is a notification to the store from its acceptance on.
    """
    stored = await context.store.notifications.get(app_id, notification_id)
    found = stored or await context.store.schedules.get(app_id, notification_id, in_app=False)
    if found is None:
        raise NotFoundError("There is no such notification")
    return found


def _view(context: Context, stored: Stored) -> NotificationView:
    notification = stored.notification
    counts, ledger = _counts(context, stored)
    return NotificationView(
        **_asked(notification.send),
        id=notification.id,
        state=notification.state,
        schedule_id=stored.schedule_id,
        created_at=notification.created_at,
        next_at=stored.next_release_at if stored.finished_at is None else None,
        finished_at=stored.finished_at,
        counts=ledger,
        reasons=_reasons(counts, context.fanout.reasons),
    )


_STATES = {
    ScheduleState.ACTIVE: State.SCHEDULED,
    ScheduleState.INACTIVE: State.PAUSED,
    ScheduleState.ENDED: State.DONE,
    ScheduleState.CANCELLED: State.CANCELLED,
}


def _waiting(scheduled: Scheduled) -> NotificationView:
    """A schedule as the notification that it will be."""
    now = state(scheduled)
    return NotificationView(
        **_asked(scheduled.send),
        id=scheduled.id,
        state=_STATES[now],
        schedule_id=None,
        created_at=scheduled.created_at,
        next_at=scheduled.next_at if now is ScheduleState.ACTIVE else None,
        finished_at=scheduled.ended_at if scheduled.cancelled_at is None else scheduled.cancelled_at,
        counts=Ledger(),
        reasons=[],
    )


def _asked(send: Send) -> dict[str, Any]:
    """What was asked for, as views show it field by field."""
    return {name: getattr(send, name) for name in _ASKED}


def _counts(context: Context, stored: Stored) -> tuple[Mapping[tuple[int, int], int], Ledger]:
    """Committed counts by (gateway number, code), and the ledger: live while it runs here, else as stored."""
    if stored.finished_at is None:
        live, ledger = context.fanout.counts(stored.notification.id), context.fanout.ledger(stored.notification.id)
        # Of what goes out by and by only some may run now, and not all of it here.
        if live is not None and ledger is not None and ledger.targeted == stored.targeted:
            return live, ledger
    # Nobody's queue here holds it: what is not settled waits for another node, or for a resume.
    settled = sum(stored.counts.values())
    targeted = max(stored.targeted, settled)  # counts are read a moment later: more may have been released meanwhile
    pending = targeted - settled if stored.finished_at is None else 0
    tables = {**context.fanout.reasons}
    return stored.counts, tally(stored.counts, tables, targeted=targeted, pending=pending)


def _reasons(counts: Mapping[tuple[int, int], int], tables: Mapping[int, Reasons]) -> list[ReasonCount]:
    """Every reason with its count, the most frequent first."""
    rows = [
        ReasonCount(
            gateway=_GATEWAYS[gateway],
            reason=tables[gateway].name(code),
            outcome=_name(tables[gateway].outcome(code)),
            count=count,
        )
        for (gateway, code), count in counts.items()
        if count
    ]
    return sorted(rows, key=lambda row: (-row.count, row.gateway, row.reason))


def _name(outcome: Outcome) -> str:
    return outcome.name.lower()


_OUTCOMES: dict[str | None, frozenset[Outcome]] = {
    None: frozenset(Outcome),
    **{_name(outcome): frozenset({outcome}) for outcome in Outcome},
    "failed": FAILED,
}
