"""Rows of the feed become events: names for numbers, words for codes, what the sender said; long rows in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from pushd.bitset import Devices
from pushd.model.device import GatewayName
from pushd.model.event import EventType
from pushd.model.notification import Ledger
from pushd.outcome import FAILED, Outcome, Reasons
from pushd.store.events import DeviceName, EventRow, EventStore, Meta, Position
from pushd.store.webhooks import event_name

PAGE_ITEMS_MAX = 2_000
"""Devices, users and receipts that are rendered at a stretch, a few ms."""

_RECEIPTS = frozenset(type_ for type_ in EventType if type_.value.startswith("receipt."))
_MARKS = frozenset(type_ for type_ in EventType if type_.value.startswith("in_app.")) - {EventType.IN_APP_RELEASED}
_OF_DEVICES = frozenset({EventType.DEVICE_OUTCOMES, EventType.REGISTERED, EventType.RETIRED, EventType.REVIVED})
_GATEWAYS = {name.number: name for name in GatewayName}


class Told(NamedTuple):
    """An event as it is told."""

    position: Position
    id: str
    type: EventType
    at: float
    body: bytes
    """The event as JSON, without a line break."""


class Rendered(NamedTuple):
    """Events in order, and the place behind which to read on."""

    events: list[Told]
    position: Position


class _Piece(NamedTuple):
    """A row, or a part of a long one, with the items of that part."""

    row: EventRow
    part: int
    items: Sequence[Any]


class _Names(NamedTuple):
    """What numbers stand for."""

    devices: Mapping[int, DeviceName]
    installs: Mapping[int, str]
    users: Mapping[int, str]
    metas: Mapping[int, Meta]


class Renderer:
    """Reads and renders events. `reasons` are tables by gateway number."""

    def __init__(self, events: EventStore, reasons: Mapping[int, Reasons], page_events: int, part_items: int) -> None:
        self._events = events
        self._reasons = reasons
        self._page_events = page_events
        self._part_items = part_items

    async def page(self, app_id: int, position: Position, types: int, limit: int) -> Rendered:
        """The next events of these types (bits) behind a place, at most so many. UnavailableError."""
        limit = min(limit, self._page_events)
        page = await self._events.read(app_id, position, types, limit + 1)  # the place's own row may come first
        pieces: list[_Piece] = []
        items = 0
        for piece in self._pieces(page.rows, position):
            if len(pieces) == limit or items > PAGE_ITEMS_MAX:
                break
            pieces.append(piece)
            items += len(piece.items)
        if not pieces:
            return Rendered([], max(position, Position(page.xmin, 0, 0)))
        told = await self._tell(app_id, pieces)
        return Rendered(told, told[-1].position)

    async def one(self, app_id: int, event_id: int, part: int) -> Told | None:
        """One event; None when the app has no such one, or no longer."""
        row = await self._events.one(app_id, event_id)
        if row is None:
            return None
        pieces = [piece for piece in self._cut(row) if piece.part == part]
        return (await self._tell(app_id, pieces))[0] if pieces else None

    def _pieces(self, rows: Sequence[EventRow], position: Position) -> Iterator[_Piece]:
        for row in rows:
            for piece in self._cut(row):
                if Position(row.xid, row.id, piece.part) > position:
                    yield piece

    def _cut(self, row: EventRow) -> Iterator[_Piece]:
        """The parts of a row: one, unless it is about more than one event may tell of."""
        items: Sequence[Any] = row.ids or ()
        if row.devices is not None:
            items = Devices.load(row.devices).column().astype(np.int64).tolist()
        elif row.type in _RECEIPTS:
            items = orjson.loads(row.data)["receipts"]
        elif row.type in _MARKS:
            items = orjson.loads(row.data)["marks"]
        size = self._part_items
        for part in range(max(1, -(-len(items) // size))):
            yield _Piece(row, part, items[part * size : (part + 1) * size])

    async def _tell(self, app_id: int, pieces: Sequence[_Piece]) -> list[Told]:
        names = await self._look_up(app_id, pieces)
        told = []
        for piece in pieces:
            row = piece.row
            id_ = event_name(row.id, piece.part)
            data = self._data(piece, names)
            body = orjson.dumps({"id": id_, "type": row.type, "at": row.at, "data": data})
            told.append(Told(Position(row.xid, row.id, piece.part), id_, row.type, row.at, body))
        return told

    async def _look_up(self, app_id: int, pieces: Sequence[_Piece]) -> _Names:
        devices: set[int] = set()
        installs: set[int] = set()
        users: set[int] = set()
        for row, _, items in pieces:
            if row.type in _OF_DEVICES:
                devices.update(items)
            elif row.type in _RECEIPTS:
                installs.update(each[0] for each in items)
                users.update(each[1] for each in items if each[1] is not None)
            elif row.type in _MARKS:
                users.update(each for each, _ in items if each > 0)
                installs.update(-each for each, _ in items if each < 0)
            elif row.type is EventType.USER_DELETED or '"users"' in row.data:
                users.update(items)
            else:
                installs.update(items)
        notifications = {piece.row.notification_id for piece in pieces} - {None}
        return _Names(
            await self._events.devices(app_id, sorted(devices)),
            await self._events.installs(app_id, sorted(installs)),
            await self._events.users(app_id, sorted(users)),
            await self._events.metas(app_id, sorted(each for each in notifications if each is not None)),
        )

    def _data(self, piece: _Piece, names: _Names) -> dict[str, Any]:
        """What is told of an event beside its id, type and time."""
        row = piece.row
        known = orjson.loads(row.data)
        meta = names.metas.get(row.notification_id or 0)
        data: dict[str, Any] = {} if row.notification_id is None else {"notification_id": row.notification_id}
        codes = known.pop("codes", [])
        if row.type is EventType.FINISHED:
            data |= {"cancelled": known["cancelled"], "counts": self._ledger(codes)}
            data["reasons"] = [self._reason(*each) for each in codes]
        elif row.type is EventType.OUTCOMES:
            data["outcomes"] = [self._reason(*each) for each in codes]
        elif row.type is EventType.DEVICE_OUTCOMES:
            reason = self._reason(known["gateway"], known["code"], len(piece.items))
            data |= {key: value for key, value in reason.items() if key != "count"}
            data["devices"] = [_device(each, names, meta) for each in piece.items]
        elif row.type in _RECEIPTS:
            data["receipts"] = [_receipt(each, names, meta) for each in piece.items]
        elif row.type in _MARKS:
            data["message_id"] = known["message_id"]
            data["recipients"] = [_mark(each, names) for each in piece.items]
        elif row.type in _OF_DEVICES:
            data |= known | {"devices": [_device(each, names, None) for each in piece.items]}
        elif row.type is EventType.USER_DELETED:
            (number,) = piece.items
            data |= {"id": number, "user_id": names.users.get(number)}
        elif row.type is EventType.SUBSCRIPTION_CHANGED:
            of = known["of"]
            found = names.users if of == "users" else names.installs
            data |= known | {of: [found[each] for each in piece.items if each in found]}
        else:
            data |= known
        if meta is not None and meta.reporting is not None:
            data["reporting_meta"] = meta.reporting
        return data

    def _reason(self, gateway: int, code: int, count: int) -> dict[str, Any]:
        table = self._reasons.get(gateway)
        reason = table.by_code.get(code) if table is not None else None
        return {
            "gateway": _GATEWAYS[gateway].value if gateway in _GATEWAYS else str(gateway),
            "outcome": (reason.outcome.name if reason else Outcome.REJECTED.name).lower(),
            "reason": reason.name if reason else str(code),
            "count": count,
        }

    def _ledger(self, codes: Sequence[Sequence[int]]) -> dict[str, int]:
        """Counts of a notification that is done: every device has its outcome."""
        counts = dict.fromkeys(Ledger.__struct_fields__, 0) | {"targeted": sum(count for _, _, count in codes)}
        for gateway, code, count in codes:
            table = self._reasons.get(gateway)
            outcome = table.by_code[code].outcome if table is not None and code in table.by_code else Outcome.REJECTED
            counts["failed" if outcome in FAILED else outcome.name.lower()] += count
        return counts


def _device(number: int, names: _Names, meta: Meta | None) -> dict[str, Any]:
    """A device as an event names it; of one that is gone only the number is left."""
    known = names.devices.get(number)
    if known is None:
        return {"device_id": number, "install_id": None, "user_id": None}
    made = {"device_id": number, "kind": known.kind, "install_id": known.install, "user_id": known.user}
    if meta is not None and known.user is not None and known.user in meta.users:
        made["user_meta"] = meta.users[known.user]
    return made


def _mark(item: Sequence[Any], names: _Names) -> dict[str, Any]:
    """What a recipient of an in-app message did: a user, or an install that is nobody's (its number is negative)."""
    recipient, at = item
    if recipient > 0:
        return {"user_id": names.users.get(recipient), "at": at}
    return {"install_id": names.installs.get(-recipient), "at": at}


def _receipt(item: Sequence[Any], names: _Names, meta: Meta | None) -> dict[str, Any]:
    install, user, button, at = item
    user_id = names.users.get(user)
    made: dict[str, Any] = {"install_id": names.installs.get(install), "user_id": user_id, "at": at}
    if button is not None:
        made["button"] = button
    if meta is not None and user_id is not None and user_id in meta.users:
        made["user_meta"] = meta.users[user_id]
    return made
