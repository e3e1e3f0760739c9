"""Exports of what came of a notification, row by row: outcomes by device, who opened it when, every receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.commands.context import Context
from pushd.commands.reports import deadline, sent_of
from pushd.model.device import GatewayName
from pushd.model.receipt import Event
from pushd.outcome import Outcome, Reasons
from pushd.store.past import Sent

What = Literal["devices", "install-opens", "user-opens", "receipts"]

PAGE_ROWS = 500
"""Rows that are read and written at a stretch, some 5 ms of work."""
FIRST = (-1, -(2**63))
"""Before every receipt."""

_GATEWAYS = tuple(GatewayName)


class DeviceRow(Struct, frozen=True, kw_only=True, tag="device", tag_field="type"):
    """A device that a notification went to, and what became of it there."""

    device_id: int
    install_id: str | None
    """Null: the device is gone."""
    user_id: str | None
    outcome: str
    gateway: GatewayName | None
    reason: str | None


class InstallOpenRow(Struct, frozen=True, kw_only=True, tag="install_open", tag_field="type"):
    """An install that opened it."""

    install_id: str
    opened_at: float
    """UNIX seconds of the first time."""


class UserOpenRow(Struct, frozen=True, kw_only=True, tag="user_open", tag_field="type"):
    """A user that opened it."""

    user_id: str
    opened_at: float
    """UNIX seconds of the first time."""


class ReceiptRow(Struct, frozen=True, kw_only=True, tag="receipt", tag_field="type"):
    """A receipt."""

    install_id: str | None
    """Null: the install is gone."""
    user_id: str | None
    event: Event
    button: str | None
    at: float


Row = DeviceRow | InstallOpenRow | UserOpenRow | ReceiptRow
ROWS: dict[What, type[Struct]] = {
    "devices": DeviceRow,
    "install-opens": InstallOpenRow,
    "user-opens": UserOpenRow,
    "receipts": ReceiptRow,
}


async def export(context: Context, app_id: int, notification_id: int, what: What) -> AsyncIterator[list[Row]]:
    """Rows, page by page: one for each device, opening or receipt, in an order that stays. NotFoundError.

    Outcomes are those of the moment in which it began, with who has none yet as `pending`; the rest is read page by
    page, as it is then.
    """
    sent = await sent_of(context, app_id, notification_id)
    match what:
        case "devices":
            async with deadline(context):
                outcomes = await _outcomes(context, app_id, sent)
            return _devices(context, app_id, outcomes)
        case "install-opens":
            return _install_opens(context, sent)
        case "user-opens":
            return _user_opens(context, sent)
    return _receipts(context, sent)


class _Outcomes(Struct, frozen=True):
    """Devices by how they ended; `targets` are all of them."""

    targets: Devices
    ended: Sequence[tuple[int, int, Devices]]
    """(Gateway number, code, devices)."""


async def _outcomes(context: Context, app_id: int, sent: Sent) -> _Outcomes:
    counts = await context.store.notifications.counts(app_id, sent.id)
    ended = [(gateway, code, await context.store.past.ended(sent, [(gateway, code)])) for gateway, code in counts]
    return _Outcomes(await context.store.past.targets(sent), ended)


async def _devices(context: Context, app_id: int, outcomes: _Outcomes) -> AsyncIterator[list[Row]]:
    tables = context.fanout.reasons
    for start in range(0, len(outcomes.targets), PAGE_ROWS):
        page = outcomes.targets[start : start + PAGE_ROWS]
        names = await context.store.reports.names(app_id, list(page))
        ids = page.column()
        places = _places(ids, page, outcomes.ended)
        yield [
            DeviceRow(device_id=device_id, install_id=install_id, user_id=user_id, **_ended(outcomes, tables, place))
            for device_id, place in zip(ids.tolist(), places.tolist(), strict=True)
            for install_id, user_id in (names.get(device_id, (None, None)),)
        ]


def _places(ids: NDArray[np.uint32], page: Devices, ended: Sequence[tuple[int, int, Devices]]) -> NDArray[np.intp]:
    """For each of these devices the position of its outcome in `ended`; -1: it has none."""
    places = np.full(len(ids), -1, np.intp)
    for position, (_, _, devices) in enumerate(ended):
        theirs = page & devices
        if theirs:
            places[np.isin(ids, theirs.column(), assume_unique=True)] = position
    return places


def _ended(outcomes: _Outcomes, tables: Mapping[int, Reasons], place: int) -> dict[str, Any]:
    """Outcome, gateway and reason of a device."""
    if place < 0:
        return {"outcome": Outcome.PENDING.name.lower(), "gateway": None, "reason": None}
    gateway, code, _ = outcomes.ended[place]
    table = tables[gateway]
    return {"outcome": table.outcome(code).name.lower(), "gateway": _GATEWAYS[gateway], "reason": table.name(code)}


async def _install_opens(context: Context, sent: Sent) -> AsyncIterator[list[Row]]:
    after = 0
    while page := await context.store.past.install_opens(sent, after, PAGE_ROWS):
        yield [InstallOpenRow(install_id=each.name, opened_at=each.at) for each in page if each.name is not None]
        after = page[-1].position


async def _user_opens(context: Context, sent: Sent) -> AsyncIterator[list[Row]]:
    after = 0
    while page := await context.store.past.user_opens(sent, after, PAGE_ROWS):
        yield [UserOpenRow(user_id=each.name, opened_at=each.at) for each in page if each.name is not None]
        after = page[-1].position


async def _receipts(context: Context, sent: Sent) -> AsyncIterator[list[Row]]:
    after = FIRST
    while page := await context.store.reports.receipts(sent, after, PAGE_ROWS):
        yield [
            ReceiptRow(
                install_id=each.install_id, user_id=each.user_id, event=each.event, button=each.button, at=each.at
            )
            for each in page
        ]
        after = page[-1].install, page[-1].event_id
