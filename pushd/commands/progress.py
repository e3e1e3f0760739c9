"""What has come of notifications so far: counts, reasons, the devices behind each outcome, a device's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from pushd.commands.context import Context
from pushd.commands.devices import get as get_device
from pushd.errors import NotFoundError
from pushd.fanout.campaign import tally
from pushd.model.device import GatewayName
from pushd.model.notification import Ledger, NotificationView, ReasonCount
from pushd.outcome import FAILED, Outcome, Reasons
from pushd.store.notifications import Stored

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

PAGE_BYTES_MAX = 4 * 1024 * 1024
"""JSON of a page of notifications beyond which it ends early."""
SLICE_ROWS = 10
"""Notifications that are read at first for a page; five times as many once these were small."""

_encode = msgspec.json.Encoder().encode
_GATEWAYS = tuple(GatewayName)


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
    at: float
    """UNIX seconds."""


async def get(context: Context, app_id: int, notification_id: int) -> NotificationView:
    """The notification as it stands, live while it runs here. NotFoundError."""
    return _view(context, await _stored(context, app_id, notification_id))


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> tuple[list[NotificationView], bool]:
    """Notifications with ids below `before`, newest first, and whether the page was cut short by its size.

    A send can name 100,000 targets: a page of such would be as large as the daemon's memory.
    """
    views: list[NotificationView] = []
    size, rows = 0, SLICE_ROWS
    while (wanted := min(limit - len(views), rows)) > 0:
        found = [_view(context, each) for each in await context.store.notifications.list(app_id, before, wanted)]
        views += found
        if len(found) < wanted:
            break
        size += sum(len(_encode(view)) for view in found)
        if size > PAGE_BYTES_MAX:
            return views, True
        before, rows = found[-1].id, 5 * SLICE_ROWS
    return views, False


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
    await _stored(context, app_id, notification_id)
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
            at=each.at,
        )
        for each in await context.store.notifications.device_history(app_id, device_id, limit)
    ]


async def _stored(context: Context, app_id: int, notification_id: int) -> Stored:
    stored = await context.store.notifications.get(app_id, notification_id)
    if stored is None:
        raise NotFoundError("There is no such notification")
    return stored


def _view(context: Context, stored: Stored) -> NotificationView:
    notification = stored.notification
    sent = notification.send
    counts, ledger = _counts(context, stored)
    return NotificationView(
        id=notification.id,
        name=sent.name,
        state=notification.state,
        audience=sent.audience,
        message=sent.message,
        transactional=sent.transactional,
        delivery=sent.delivery,
        ttl_s=sent.ttl_s,
        collapse_id=sent.collapse_id,
        push_tag=sent.push_tag,
        created_at=notification.created_at,
        finished_at=stored.finished_at,
        counts=ledger,
        reasons=_reasons(counts, context.fanout.reasons),
    )


def _counts(context: Context, stored: Stored) -> tuple[Mapping[tuple[int, int], int], Ledger]:
    """Committed counts by (gateway number, code), and the ledger: live while it runs here, else as stored."""
    if stored.finished_at is None:
        live, ledger = context.fanout.counts(stored.notification.id), context.fanout.ledger(stored.notification.id)
        if live is not None and ledger is not None:
            return live, ledger
    # Nobody's queue here holds it: what is not settled waits for another node, or for a resume.
    settled = sum(stored.counts.values())
    pending = stored.targeted - settled if stored.finished_at is None else 0
    tables = {**context.fanout.reasons}
    return stored.counts, tally(stored.counts, tables, targeted=stored.targeted, pending=pending)


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
